"""Training: what an iteration does, and that stopping it anywhere loses nothing."""

import io
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import training_run
from training_run import make_net, make_trainer

from segaware_np.data import Loader, PairList
from segaware_np.files import FormatError, load_arrays, remove_leftovers, save_arrays
from segaware_np.images import write_image, write_labels
from segaware_np.log import Log, read_log
from segaware_np.optim import SGD, Adam, NonFiniteError


def outcome(folder):
    """All that a run leaves behind, but for the times it took."""
    newest = max(Path(folder).glob("checkpoint-*.npz"))
    arrays, metadata = load_arrays(newest)
    log = [{k: v for k, v in line.items() if k != "seconds"} for line in read_log_of(folder)]
    return newest.name, {name: a.tobytes() for name, a in arrays.items()}, metadata, log


def read_log_of(folder):
    (path,) = Path(folder).glob("log.*")
    return read_log(path)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """What 12 uninterrupted iterations leave."""
    folder = tmp_path_factory.mktemp("straight")
    make_trainer(folder).run()
    return outcome(folder)


# ---------------------------------------------------------------------------- what is computed


def test_an_iteration_is_what_it_says(tmp_path):
    make_trainer(tmp_path, iterations=3, optimizer=SGD).run()
    net = make_net()
    other = make_trainer(tmp_path / "other", net=net, optimizer=SGD)
    learner, batches = other.optimizer, iter(other.loader)
    net.train()
    for line in read_log_of(tmp_path):
        net.zero_grad()
        losses = []
        for _ in range(2):
            batch = next(batches)
            net.begin(other.loader.state - 1)  # random numbers are a batch's own
            net.forward(batch)
            net.backward()
            losses.append(net.loss)
        rate = learner.policy(learner.iteration)
        norm = learner.step(batches=2)
        assert line["iteration"] == learner.iteration
        assert (line["lr"], line["gradient_norm"]) == (rate, norm)
        assert line["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert line["seconds"] > 0
    arrays, _ = load_arrays(tmp_path / "checkpoint-00000003.npz")
    for name, weight in net.weights().items():
        np.testing.assert_array_equal(arrays[f"weights/{name}"], weight)


def test_training_lowers_the_loss(tmp_path):
    make_trainer(tmp_path, iterations=40).run()
    losses = [line["loss"] for line in read_log_of(tmp_path)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_two_runs_are_alike(straight, tmp_path):
    make_trainer(tmp_path).run()
    assert outcome(tmp_path) == straight


def test_a_double_network_takes_the_same_batches(tmp_path):
    make_trainer(tmp_path, net=make_net(dtype="float64")).run()
    arrays, _ = load_arrays(tmp_path / "checkpoint-00000012.npz")
    assert {a.dtype for a in arrays.values()} == {np.dtype("float64")}


def test_only_the_newest_checkpoints_stay(tmp_path):
    make_trainer(tmp_path, iterations=7, checkpoint_every=2, keep=3).run()
    names = sorted(path.name for path in tmp_path.iterdir())
    kept = [f"checkpoint-{i:08d}.npz" for i in (4, 6, 7)]
    assert names == [*kept, "log.jsonl"]


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("stop", [1, 4, 6, 11])
@pytest.mark.parametrize("log", ["jsonl", "csv"])
def test_resume_is_exact(straight, tmp_path, stop, log):
    make_trainer(tmp_path, iterations=stop, log=log).run()
    make_trainer(tmp_path, log=log).run(resume=True)
    assert outcome(tmp_path) == straight


def test_resume_drops_what_came_after_the_checkpoint(straight, tmp_path):
    make_trainer(tmp_path, iterations=7).run()
    (tmp_path / "checkpoint-00000007.npz").unlink()
    (tmp_path / ".checkpoint-00000008.npz.0123456789ab.tmp").write_bytes(b"of a killed run")
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"iteration": 8, "lo')
    assert [line["iteration"] for line in read_log_of(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight
    assert os.name != "posix" or not list(tmp_path.glob(".*"))  # where files can be locked


def test_resume_without_a_checkpoint_begins(straight, tmp_path):
    with Log(tmp_path / "log.jsonl") as log:
        log.write(dict(iteration=1, loss=9.0, lr=1.0, gradient_norm=1.0, seconds=1.0))
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


def test_resume_of_a_finished_run_changes_nothing(straight, tmp_path):
    make_trainer(tmp_path).run()
    for path in tmp_path.iterdir():
        os.utime(path, ns=(0, 0))
    make_trainer(tmp_path).run(resume=True)
    make_trainer(tmp_path, iterations=8).run(resume=True)
    assert outcome(tmp_path) == straight
    assert {path.stat().st_mtime_ns for path in tmp_path.iterdir()} == {0}


def test_resume_with_other_settings(straight, tmp_path):
    settings = {"lr": 0.01, "widths": (4, 8), "batch": 2}
    make_trainer(tmp_path, iterations=6, settings=settings).run()
    before, changed = outcome(tmp_path), settings | {"lr": 0.02, "batch": 3}
    message = r"run began with lr 0.01 \(now 0.02\), batch 2 \(now 3\): resume it as it began"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, settings=changed).run(resume=True)
    assert outcome(tmp_path) == before
    make_trainer(tmp_path, iterations=8, settings=settings | {"new": 1}).run(resume=True)
    make_trainer(tmp_path).run(resume=True)  # says nothing, changes nothing
    assert outcome(tmp_path) == straight


def run_apart(*arguments):
    """Run the training in a process of its own, which sends itself a signal."""
    program = [sys.executable, training_run.__file__, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(program, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_random_moments(tmp_path, kills):
    iterations, dice = 40 * kills, random.Random(kills)
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    for _ in range(kills):
        done = run_apart(killed, iterations, dice.randrange(8), dice.uniform(0, 0.02))
        assert done.returncode == -signal.SIGKILL
    assert len(read_log_of(killed)) < iterations
    make_trainer(killed, iterations, checkpoint_every=2).run(resume=True)
    make_trainer(straight, iterations, checkpoint_every=2).run()
    assert outcome(killed) == outcome(straight)


class Disturbed:
    """A loader during whose batch ``at`` something happens."""

    def __init__(self, loader, at, disturb):
        self.loader, self.at, self.disturb = loader, at, disturb

    @property
    def state(self):
        return self.loader.state

    @state.setter
    def state(self, value):
        self.loader.state = value

    def __iter__(self):
        for batch in self.loader:
            if self.state == self.at:
                self.disturb(batch)
            yield batch


def disturbed(trainer, at, disturb):
    trainer.loader = Disturbed(trainer.loader, at, disturb)
    return trainer


def press_ctrl_c(batch):
    signal.raise_signal(signal.SIGINT)


def press_ctrl_c_twice(batch):
    press_ctrl_c(batch)
    press_ctrl_c(batch)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_completes_the_iteration(straight, tmp_path, capfd):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        disturbed(make_trainer(tmp_path), 9, press_ctrl_c).run()
    assert signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    assert max(tmp_path.glob("checkpoint*")).name == "checkpoint-00000005.npz"
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.usefixtures("listening")
def test_a_signal_to_end_completes_the_iteration(tmp_path, name):
    stopped, straight, number = tmp_path / "stopped", tmp_path / "straight", getattr(signal, name)
    done = run_apart(stopped, 10**6, 7, 0, number)
    assert done.returncode == 128 + number
    assert "stopping after this iteration\n" in done.stderr
    log = read_log_of(stopped)
    assert max(stopped.glob("checkpoint*")).name == f"checkpoint-{len(log):08d}.npz"
    make_trainer(stopped, len(log) + 3, checkpoint_every=2).run(resume=True)
    make_trainer(straight, len(log) + 3, checkpoint_every=2).run()
    assert outcome(stopped) == outcome(straight)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
@pytest.mark.usefixtures("listening")
def test_two_signals_to_end_are_as_one(straight, tmp_path):
    def hang_up(batch):  # as a terminal that is closed does: its shell sends one, too
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)

    with pytest.raises(SystemExit) as caught:
        disturbed(make_trainer(tmp_path), 9, hang_up).run()
    assert caught.value.code == 128 + signal.SIGHUP
    assert max(tmp_path.glob("checkpoint*")).name == "checkpoint-00000005.npz"
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
def test_a_signal_that_the_program_ignores(straight, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        disturbed(make_trainer(tmp_path), 9, lambda _: signal.raise_signal(signal.SIGHUP)).run()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome(tmp_path) == straight


@pytest.mark.usefixtures("listening")
def test_ctrl_c_while_the_last_checkpoint_is_written(straight, tmp_path, monkeypatch):
    sync, calls = os.fsync, iter(range(100))

    def press(descriptor):
        if next(calls) == 1:  # the log comes first
            signal.raise_signal(signal.SIGINT)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", press)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, checkpoint_every=100).run()
    monkeypatch.undo()
    assert outcome(tmp_path)[1:] == straight[1:]


@pytest.mark.usefixtures("listening")
def test_ctrl_c_while_the_last_progress_is_shown(straight, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def write(self, text):
            if text.startswith("12/12"):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path, progress=True).run()
    assert outcome(tmp_path) == straight


@pytest.mark.usefixtures("listening")
def test_second_ctrl_c_stops_at_once(straight, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        disturbed(make_trainer(tmp_path), 11, press_ctrl_c_twice).run()
    assert max(tmp_path.glob("checkpoint*")).name == "checkpoint-00000004.npz"
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


# ------------------------------------------------------------------- two processes, one folder


SLOW = """
import os, pathlib, sys, time
from training_run import make_trainer
folder, sync = pathlib.Path(sys.argv[1]), os.fsync
def wait(descriptor):  # amid the writing of the first checkpoint
    (folder / "writing").touch()
    while (folder / "writing").exists():
        time.sleep(0.01)
    sync(descriptor)
trainer = make_trainer(folder, 4)
os.fsync = wait
trainer.run()
"""


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
def test_a_second_resume_leaves_the_first_process_alone(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], env=environment)
    try:
        stages = 0
        while first.poll() is None:
            if not (tmp_path / "writing").exists():
                continue
            before = sorted(tmp_path.iterdir())
            with pytest.raises(FileExistsError, match="another process is at work on this run"):
                make_trainer(tmp_path).run(resume=True)
            assert make_trainer(tmp_path).resume() is None  # which only reads
            remove_leftovers(tmp_path)
            assert sorted(tmp_path.iterdir()) == before
            stages += any(path.name.endswith(".tmp") for path in before)
            (tmp_path / "writing").unlink()
    finally:
        first.kill()
    assert first.wait() == 0 and stages == 1
    assert [path.name for path in make_trainer(tmp_path).checkpoints()] == [
        "checkpoint-00000004.npz"
    ]


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    names = [".model.npz.0123456789ab.tmp", ".checkpoint-00000001.npz.0123456789ab.tmp"]
    others = [".model.npz.tmp", "notes.0123456789ab.tmp", ".notes", "model.npz"]
    for name in names + others:
        (tmp_path / name).write_text("half")
    make_trainer(tmp_path, iterations=1).run(resume=True)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*others, "log.jsonl", "checkpoint-00000001.npz"}


def test_a_run_with_a_log_of_the_other_format(stopped):
    before = outcome(stopped)
    with pytest.raises(FileExistsError, match=r"run with log.jsonl: go on with it .log=jsonl. or"):
        make_trainer(stopped, log="csv").run(resume=True)
    assert outcome(stopped) == before


# ------------------------------------------------------------------------------- going wrong


def test_a_damaged_picture_amid_an_epoch_loses_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(5):
        write_image(tmp_path / f"{i}.png", rng.integers(0, 256, (9, 12, 3), "uint8"))
        write_labels(tmp_path / f"{i}l.png", rng.integers(0, 3, (9, 12)))
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i}l.png\n" for i in range(5)))

    def run(folder, resume=False):
        trainer = make_trainer(tmp_path / folder, 6, checkpoint_every=100)
        trainer.loader = Loader(PairList(tmp_path / "list.txt"), batch=1, seed=3)
        trainer.run(resume)

    run("straight")
    order = [*np.random.default_rng((3, 0, 0)).permutation(5)]  # the first epoch's
    picture = tmp_path / f"{order[3]}.png"  # the second of the second iteration's two batches
    whole = picture.read_bytes()
    picture.write_bytes(whole[:100])
    message = r"learned before this error is in .*checkpoint-00000001.npz"
    with (
        pytest.raises(FormatError, match=f"{picture.name}: damaged"),
        pytest.warns(UserWarning, match=message),
    ):
        run("stopped")
    assert len(read_log_of(tmp_path / "stopped")) == 1
    with pytest.raises(FormatError, match=f"{picture.name}: damaged"):  # it is no better now
        run("stopped", resume=True)
    picture.write_bytes(whole)
    run("stopped", resume=True)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")


def test_a_step_that_fails_halfway_leaves_no_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path)
    update, calls = trainer.optimizer._update, iter(range(100))

    def fail(*arguments):  # some weights are those of this iteration, others of the one before
        if next(calls) == 6:
            raise MemoryError
        return update(*arguments)

    trainer.optimizer._update = fail
    with pytest.raises(MemoryError):
        trainer.run()
    assert len(read_log_of(tmp_path)) == 1 and not trainer.checkpoints()


def test_progress_that_cannot_be_shown_loses_nothing(straight, tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.raises(BrokenPipeError), pytest.warns(UserWarning, match="00000001.npz"):
        make_trainer(tmp_path, progress=True).run()
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


def spoil_image(batch):
    batch["image"][1, 2, 3, 4] = np.nan


def test_a_loss_that_is_not_finite(straight, tmp_path):
    trainer = disturbed(make_trainer(tmp_path), 11, spoil_image)
    message = r"iteration 6: the loss is nan; the last checkpoint is .*-00000004.npz"
    with pytest.raises(NonFiniteError, match=message):
        trainer.run()
    assert len(read_log_of(tmp_path)) == 5
    assert trainer.checkpoints()[-1].name == "checkpoint-00000004.npz"  # none of what may be bad
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


def test_a_gradient_that_is_not_finite(straight, tmp_path):
    trainer = make_trainer(tmp_path)
    weights = trainer.net.parameters()

    def spoil_gradient(batch):
        weights["score.bias"].grad[0] = np.inf

    message = r"iteration 2: the norm of the gradient of score.bias is inf; .* no checkpoint yet"
    with pytest.raises(NonFiniteError, match=message):
        disturbed(trainer, 4, spoil_gradient).run()
    assert all(np.isfinite(p.data).all() for p in weights.values())
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


def test_no_checkpoint_of_what_is_not_finite(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.net.parameters()["conv.bias"].data[1] = -np.inf
    with pytest.raises(NonFiniteError, match=r"iteration 0: weights/conv.bias has become NaN or"):
        trainer.checkpoint()
    assert not list(tmp_path.iterdir())


def test_a_loader_that_ends(tmp_path):
    trainer = make_trainer(tmp_path)
    batches = [batch for batch, _ in zip(trainer.loader, range(3), strict=False)]

    class Short:
        state = 3

        def __iter__(self):
            yield from batches

    trainer.loader = Short()
    with pytest.raises(ValueError, match="loader: expected batches without end, got 3"):
        trainer.run()


@pytest.fixture
def stopped(tmp_path):
    """A folder with the checkpoints 4 and 6."""
    make_trainer(tmp_path, iterations=6).run()
    return tmp_path


def test_a_run_is_not_overwritten(stopped):
    before = outcome(stopped)
    with pytest.raises(FileExistsError, match="holds a run: go on with it .*with resume=True."):
        make_trainer(stopped).run()
    assert outcome(stopped) == before


def test_a_run_that_failed_before_its_first_step_is_no_run(tmp_path):
    trainer = make_trainer(tmp_path, iterations=2)
    (tmp_path / f"log.{trainer.log}").touch()  # what a bad first batch leaves
    trainer.run()
    assert len(read_log(tmp_path / f"log.{trainer.log}")) == 2


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint(stopped, length):
    newest = stopped / "checkpoint-00000006.npz"
    data = newest.read_bytes()
    newest.write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    trainer = make_trainer(stopped)
    before = trainer.net.weights()
    with pytest.raises(FormatError, match=r"06.npz.*; remove it .* from checkpoint-00000004.npz"):
        trainer.run(resume=True)
    for name, weight in trainer.net.weights().items():
        np.testing.assert_array_equal(weight, before[name])
    assert len(read_log_of(stopped)) == 6
    (stopped / "checkpoint-00000004.npz").write_bytes(b"PK")
    with pytest.raises(FormatError, match="no other one is whole"):
        trainer.run(resume=True)


def test_a_damaged_checkpoint_is_told_from_a_good_one(stopped):
    newest = stopped / "checkpoint-00000006.npz"
    data, wanted = newest.read_bytes(), outcome(stopped)
    rng, refused = np.random.default_rng(0), 0
    for position in rng.integers(zipfile.ZipFile(newest).start_dir, size=150):
        spoilt = bytearray(data)
        spoilt[position] ^= 1 << rng.integers(8)
        newest.write_bytes(spoilt)
        try:
            make_trainer(stopped).resume()
        except FormatError:
            refused += 1
        else:  # in a date or the like: nothing that is read
            assert outcome(stopped) == wanted
    assert refused > 100


def test_a_file_that_is_no_checkpoint(stopped):
    make_net().save(stopped / "checkpoint-00000009.npz")
    with pytest.raises(FormatError, match="not a checkpoint of this version; remove it"):
        make_trainer(stopped).run(resume=True)
    arrays, metadata = load_arrays(stopped / "checkpoint-00000006.npz")
    save_arrays(stopped / "checkpoint-00000009.npz", {"other": np.zeros(3)}, metadata)
    with pytest.raises(FormatError, match="damaged: its arrays are not those it lists"):
        make_trainer(stopped).run(resume=True)
    state = metadata["net"]["rng"] | {"uinteger": -1}
    for rng in ({"bit_generator": "Dice"}, state, 7):
        save_arrays(stopped / "checkpoint-00000009.npz", arrays, metadata | {"net": {"rng": rng}})
        with pytest.raises(ValueError, match="09.npz: checkpoint of another network: state: not"):
            make_trainer(stopped).run(resume=True)
    save_arrays(stopped / "checkpoint-00000009.npz", arrays, metadata | {"loader": -1})
    with pytest.raises(FormatError, match="not a checkpoint of this version; remove it"):
        make_trainer(stopped).run(resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": lambda: make_net(filters=5)}, r"conv.weight: expected \(5, .* got \(4, "),
        ({"net": lambda: make_net(dtype="float64")}, "expected .* float64, got .* float32"),
        ({"net": lambda: make_net(frozen=True)}, "another optimizer: .*conv.weight/.* is unknown"),
        ({"optimizer": SGD}, "another optimizer: state: expected that of SGD, got Adam"),
    ],
)
def test_a_checkpoint_of_something_else(stopped, change, message):
    options = {key: value() if key == "net" else value for key, value in change.items()}
    trainer = make_trainer(stopped, **options)
    before, random = trainer.net.weights(), trainer.net.state()
    with pytest.raises(ValueError, match=f"00000006.npz: checkpoint of .*{message}"):
        trainer.run(resume=True)
    assert trainer.optimizer.iteration == trainer.loader.state == 0
    assert trainer.net.state() == random
    for name, weight in trainer.net.weights().items():
        np.testing.assert_array_equal(weight, before[name])


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"(exists|Not a directory)"):
            make_trainer(folder).run()


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        make_trainer(tmp_path).run()
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


def test_a_full_disk(straight, tmp_path):
    resource = pytest.importorskip("resource", reason="no file size limits here")
    make_trainer(tmp_path, iterations=6).run()
    before, limits = outcome(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # a file size limit is the full disk that a process can give itself
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OSError, match="too large"):
            make_trainer(tmp_path).run(resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000004.npz", "checkpoint-00000006.npz", "log.jsonl"]
    assert outcome(tmp_path)[:3] == before[:3]
    make_trainer(tmp_path).run(resume=True)
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"iterations": 0}, ValueError, "iterations: expected an integer of at least 1, got 0"),
        ({"iterations": 1.5}, TypeError, "iterations: .*got 1.5"),
        ({"batches": 0}, ValueError, "batches: .*got 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every: .*got 0"),
        ({"keep": 0}, ValueError, "keep: .*got 0"),
        ({"log": "xml"}, ValueError, "log: expected 'jsonl' or 'csv', got 'xml'"),
    ],
)
def test_bad_options(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        make_trainer(tmp_path, **options)


def test_an_optimizer_of_another_network(tmp_path):
    trainer = make_trainer(tmp_path)
    others = Adam(make_net().parameters())
    with pytest.raises(ValueError, match=r"optimizer: conv.weight, .*: not parameters of this"):
        type(trainer)(trainer.net, others, trainer.loader, folder=tmp_path, iterations=1)
