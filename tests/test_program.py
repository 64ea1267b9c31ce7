"""The program `segaware`: its start, Ctrl-C, the streams it is given, its help, its errors."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from command_line import fails

from segaware_np.commands import info
from segaware_np.commands.main import describe, main, spell
from segaware_np.commands.parser import build_parser
from segaware_np.images import write_image, write_labels
from segaware_np.log import read_log
from segaware_np.models import segmentation_network


def segaware(*arguments, numpy=None, folder=None, **options):
    """Run the program in a process of its own, perhaps with another `numpy`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if numpy is not None:
        (folder / "numpy.py").write_text(numpy)
        environment["PYTHONPATH"] = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
    options = {"capture_output": True, "text": True, "env": environment, **options}
    return subprocess.run([sys.executable, "-m", "segaware_np", *arguments], **options)


def listen():
    """Programs started in the background of a script ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_program_introduces_itself_without_numpy(tmp_path, arguments):
    done = segaware(*arguments, numpy="1 / 0", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("usage: segaware", "segaware_np "))


@pytest.mark.parametrize("numpy", [
    "import signal; signal.raise_signal(signal.SIGINT)",
    """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("of a module in C")
"""])
def test_ctrl_c_while_numpy_is_imported(tmp_path, numpy):
    done = segaware("train", "scenes", numpy=numpy, folder=tmp_path, preexec_fn=listen)
    assert (done.returncode, done.stderr) == (130, "segaware: stopped\n")


def test_output_that_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    done = segaware("info", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


LOST = "segaware: error: No space left on device\n"
FULL = [  # the arguments, the exit code, and what is said of a full standard output
    (["info"], 2, LOST),
    (["--version"], 2, LOST),
    (["--help"], 2, LOST),
    (["masks", "--help"], 2, LOST),
    (["masks", "none.png"], 2, "segaware: error: No such file or directory: none.png\n"),
    (["paint"], 2, None),
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("arguments", "code", "message"), FULL)
def test_output_that_cannot_be_written(monkeypatch, arguments, code, message, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = segaware(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
        assert done.returncode == code
        assert message is None or done.stderr == message
        both = segaware(*arguments, stdout=full, stderr=full, capture_output=False)
        assert both.returncode == code


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(("arguments", "code"), [
    (["--version"], 0), (["masks", "none.png"], 2), (["paint"], 2),
    (["train", "scenes", "--network", "plain", "--widths", "2", "--depths", "1", "--refine", "1",
      "--batch", "1", "--iterations", "3"], 0),
])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_messages_that_cannot_be_written(tmp_path, monkeypatch, arguments, code, unbuffered):
    """Neither an error's exit code nor a training run depends on whether it can be told."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = segaware(*arguments, stderr=full, stdout=subprocess.PIPE, capture_output=False,
                        cwd=tmp_path)
    assert done.returncode == code
    assert (tmp_path / "segaware_run" / "model.npz").exists() == (arguments[0] == "train")


def test_scores_are_kept_where_the_table_is_not_read(tmp_path):
    segmentation_network(6, (4,), (1,)).save(tmp_path / "m.npz")
    reader, writer = os.pipe()
    os.close(reader)
    evaluate = ["evaluate", "m.npz", "scenes", "--json", "scores.json"]
    done = segaware(*evaluate, stdout=writer, stderr=subprocess.PIPE, capture_output=False,
                    cwd=tmp_path)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    assert b"mean_iou" in (tmp_path / "scores.json").read_bytes()


def test_a_name_that_the_output_cannot_spell(tmp_path):
    write_image(tmp_path / "ü.png", np.zeros((4, 4, 3), np.uint8))
    masks = ["masks", str(tmp_path / "ü.png"), "-o", str(tmp_path / "ö.png")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PYTHONIOENCODING"] = "ascii"
    done = segaware(*masks, env=environment)
    assert done.returncode == 0 and done.stdout.endswith("\\xf6.png\n")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_names_that_are_not_utf_8(tmp_path):
    """In every command, as input, as output and as a folder."""

    def name(text):
        return os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff" + os.fsencode(text)))

    os.mkdir(name("photos"))
    photo = name("photos/\udcfe.png")
    write_image(photo, np.zeros((8, 8, 3), np.uint8))
    write_labels(name("l.png"), np.zeros((8, 8), int))
    with open(name("train.txt"), "wb") as file:
        file.write(b"a.png l.png\n")
    for new in ("a.png", "l.png"):
        os.symlink(photo if new == "a.png" else name("l.png"), tmp_path / new)
    np.save(name("e.npy"), np.zeros((2, 8, 8), "f4"))
    model, run = name("run/model.npz"), name("run")
    plain = ["--network", "plain", "--widths", "2", "--depths", "1", "--refine", "1"]
    embedding = ["--network", "embedding", "--widths", "2", "--depths", "1"]
    once = ["--batch", "1", "--iterations", "1"]
    data = ["--classes", "2"]
    for arguments in (
        ["train", name("train.txt"), "-o", run, *plain, *once, *data],
        ["train", name("train.txt"), "-o", run, *plain, *once, *data, "--resume"],
        ["train", name("train.txt"), "-o", name("e"), *embedding, *once],
        ["predict", model, name("photos"), "-o", name("out")],
        ["evaluate", model, name("train.txt"), "--json", name("s.json")],
        ["masks", photo, "-o", name("m.png"), "--embedding", name("e/model.npz")],
        ["explore", photo, "-o", name("e.html"), "--embedding", name("e/model.npz")],
        ["explore", photo, "-o", name("f.html"), "--array", name("e.npy")],
        ["explain", model, photo],
    ):
        done = segaware(*arguments, text=False)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    wanted = ("m.png", "e.html", "f.html", "s.json", "out/\udcfe.png", "out/\udcfe_overlay.png")
    assert all(os.path.exists(name(made)) for made in wanted)
    with open(name("e.html"), encoding="utf-8") as page:
        assert "\N{REPLACEMENT CHARACTER}.png" in page.read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("arguments", [
    ["train", "p.txt"], ["train", "scenes", "--start", "p.npz"],
    ["train", "scenes", "--embedding", "p.npz"], ["evaluate", "m.npz", "p.txt"],
    ["predict", "p.npz", "a.png"], ["predict", "m.npz", "p.png"], ["masks", "p.png"],
    ["predict", "m.npz", "a.png", "--crf", "p.npz"], ["masks", "a.png", "--embedding", "p.npz"],
    ["explore", "p.png"], ["explore", "a.png", "--array", "p.npy"], ["explain", "m.npz", "p.png"],
    ["explore", "a.png", "--array", "p.safetensors"], ["caffe", "show", "p.txt"],
    ["caffe", "convert", "p.caffemodel", "w.npz"], ["caffe", "train", "p.txt"],
    ["caffe", "run", "p.txt", "p.caffemodel", "a.png"], ["learn", "check", "p.py"],
])
def test_a_pipe_never_keeps_a_command_waiting(tmp_path, arguments):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    segmentation_network(6, (4,), (1,)).save(tmp_path / "m.npz")
    for suffix in ("txt", "npz", "png", "npy", "safetensors", "caffemodel", "py"):
        os.mkfifo(tmp_path / f"p.{suffix}")
    done = segaware(*arguments, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert ": expected a file, got a pipe" in done.stderr


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams(tmp_path, closed):
    """No file of the program may take the place of a stream that the caller closed."""

    def close():
        for descriptor in closed:
            os.close(descriptor)

    masks = ["masks", str(tmp_path / "none.png")]
    assert segaware(*masks, preexec_fn=close).returncode == 2
    train = ["train", "scenes", "-o", str(tmp_path / "run"), "--network", "plain", "--widths", "2"]
    train += ["--depths", "1", "--refine", "1", "--batch", "1", "--iterations", "1"]
    assert segaware(*train, preexec_fn=close).returncode == 0
    assert (tmp_path / "run" / "model.npz").is_file()


TRAIN = ["train", "scenes", "--network", "plain", "--widths", "2", "--depths", "1", "--refine", "1"]
TRAIN += ["--batch", "1", "--iterations", "100000", "--checkpoint-every", "100000"]


def own_terminal():
    """Take the terminal on standard input for one's own, to be told when it is closed.

    Whoever runs these tests may ignore signals, as `nohup` does, and so would its children.
    """
    import fcntl
    import termios

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def wait_for(path, lines):
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="terminals and signals of Unix")
@pytest.mark.parametrize(("way", "code"), [("terminal closed", 129), ("SIGTERM", 143), ("^C", 130)])
def test_training_that_is_ended_writes_a_checkpoint(tmp_path, way, code):
    master, slave = os.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    train = subprocess.Popen(
        [sys.executable, "-m", "segaware_np", *TRAIN, "-o", str(tmp_path)],
        env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(slave)
    try:
        wait_for(tmp_path / "log.jsonl", 3)
        if way == "terminal closed":
            os.close(master)
        elif way == "^C":
            os.write(master, b"\x03")
        else:
            train.send_signal(signal.SIGTERM)
        if way != "terminal closed":  # read on, or a full terminal would hold it up
            text = b"".join(iter(lambda: _read(master), b"")).decode()
            os.close(master)
            assert "stopping after this iteration" in text
            assert "the same command with --resume goes on from here" in text
        assert train.wait(timeout=60) == code
    finally:
        train.kill()
    iterations = len(read_log(tmp_path / "log.jsonl"))
    (checkpoint,) = tmp_path.glob("*.npz")
    assert checkpoint.name == f"checkpoint-{iterations:08d}.npz"


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # its other end was closed
        return b""


# --- help ---------------------------------------------------------------------------------------


def commands(parser, name="segaware"):
    """All parsers of the program, those of subcommands included."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for key, child in action.choices.items():
                yield from commands(child, f"{name} {key}")


@pytest.mark.parametrize(("name", "parser"), list(commands(build_parser())))
def test_every_option_is_explained(name, parser):
    for action in parser._actions:
        words = action.help or isinstance(action, argparse._SubParsersAction)
        assert words, f"{name}: {action.dest} has no help"
        if action.option_strings and action.nargs != 0:
            text = parser._get_formatter()._expand_help(action)
            stated = "(default" in text or action.required or action.default is None
            assert stated, f"{name}: {action.dest} does not state its default"
    assert parser.format_help()


# --- errors -----------------------------------------------------------------------------------

ERRORS = [
    ([], "the following arguments are required: COMMAND"),
    (["paint"], "invalid choice: 'paint'"),
    (["info", "extra"], "segaware info: error: unrecognized arguments: extra"),
    (["train", "scenes", "--iterations", "0"], "--iterations: expected a whole number"),
    (["train", "scenes", "--lr", "nan"], "--lr: expected a finite number, got nan"),
    (["train", "scenes", "--lr", "-1"], "--lr: expected a number above 0, got -1"),
    (["train", "scenes", "--widths", "8,x"], "--widths: expected whole numbers of at least 1 betw"),
    (["train", "scenes", "--context", "0"], "--context: expected whole numbers of at least 1 betw"),
    (["train", "scenes", "--crop", "1,2,3"], "--crop: expected a size, or height,width, got 1,2,3"),
    (["train", "scenes", "--start", "."], ". is a folder: expected a file, such as model.npz in"),
    (["train", "scenes", "--zoom", "1"], "--zoom: expected two numbers as in 0.5,1.5, got 1"),
    (["train", "scenes", "--zoom", "2,1"], "scale: expected 0 < low <= high, got (2.0, 1.0)"),
    (["train", "scenes", "--split", "dev"], "--split: expected one of train, val, test, got dev"),
    (["train", "nowhere"], "no such file or folder: nowhere"),
    (["train", "."], "expected train.txt (--split names it), a text file of lines such as "
     "'images/0001.jpg labels/0001.png', or ImageSets in this folder"),
    (["train"], "DATA: expected `scenes`"),
    (["train", "--images", "."], "--labels: expected the folder of the label maps of --images"),
    (["train", "scenes", "--images", ".", "--labels", "."], "--images: expected no DATA beside it"),
    (["train", "scenes", "--widths", "4,4", "--depths", "1"], "depths: expected 2"),
    (["train", "scenes", "--aware", "stage9"], "aware: expected names out of"),
    (["train", "scenes", "--embedding", "none.npz"], "no such file: none.npz"),
    (["train", "scenes", "--start", "weights.txt"], "expected a name ending in .npz"),
    (["predict", "none.npz", "image.png"], "no such file: none.npz"),
    (["evaluate", "none.npz", "scenes"], "no such file: none.npz"),
    (["evaluate", "m.npz", "scenes", "--band", "0"], "--band: expected a whole number of at least"),
    (["masks", "none.png"], "No such file or directory: none.png"),
    (["masks", "none.png", "--at", "1;2"], "--at: expected whole numbers of at least 0 between"),
    (["masks", "none.png", "-o", "no/m.png"], "no such folder: no"),
    (["explore", "none.png", "-o", "."], "expected a file to write, got the folder ."),
    (["evaluate", "none.npz", "scenes", "--json", "no/s.json"], "no such folder: no"),
    (["masks", "none.png", "--scale", "inf"], "--scale: expected a finite number, got inf"),
    (["predict", "m.npz", "i.png", "--strength", "2"], "expected a number from 0 to 1, got 2"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    for arguments in (["--debug", "masks", "none.png"], ["masks", "none.png", "--debug"]):
        with pytest.raises(FileNotFoundError):
            main(arguments)


def test_ctrl_c(capsys, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "segaware: stopped\n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n lines"), "two lines"),
        (PermissionError(13, "Permission denied", "a.png"), "Permission denied: a.png"),
        (FileNotFoundError(2, "No such file", "\x1b[31m.png"), r"No such file: \x1b[31m.png"),
        (ValueError("layer '\x9b1m\x00'"), r"layer '\x9b1m\x00'"),
        (KeyError("x"), "KeyError: 'x' (--debug shows where)"),
        (MemoryError("3 GiB"), "not enough memory: 3 GiB (--crop or --batch may help)"),
    ],
)
def test_describe(error, text):
    assert describe(error) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(clip_norm=...) may help", "(--clip-norm) may help"),
        ("go on with resume=True", "go on with --resume"),
        ("one a batch (batch=1), or", "one a batch (--batch 1), or"),
        ("runs/lr=0.1/model.npz: no (lr=0.1)", "runs/lr=0.1/model.npz: no (--lr 0.1)"),
        ("labels from 0 to 5 (classes=...)", "labels from 0 to 5 (classes=...)"),
    ],
)
def test_arguments_are_spelt_as_options(text, told):
    assert spell(text, {"lr", "batch", "clip_norm", "resume"}) == told


def test_what_the_library_warns_of_is_a_note(capsys, monkeypatch):
    monkeypatch.setattr(info, "run", lambda options: warnings.warn("two of three", stacklevel=1))
    before = warnings.showwarning
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "note: two of three\n"
    assert warnings.showwarning is before
