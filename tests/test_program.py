"""The program `segaware` as a process: its start, Ctrl-C, and the streams it is given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = segaware("info", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (2, "segaware: error: No space left on device\n")


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
