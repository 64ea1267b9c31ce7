"""Ranks: their number is no setting of a run, and an end of one is an end of all.

The processes are real ones, started by the ``mpiexec`` of the wheel ``mpich`` or of the system.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import models
from segaware_np.data import Loader, SyntheticScenes
from segaware_np.files import load_arrays
from segaware_np.images import write_image, write_labels
from segaware_np.log import read_log
from segaware_np.ops import dropout_forward
from segaware_np.ranks import share_out

MPIEXEC = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
pytest.importorskip("mpi4py", reason="mpi4py is not installed")
needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")

RUN = (
    "--crop", "32", "--widths", "4,6", "--depths", "1,1", "--iterations", "4", "--quiet",
    "--seed", "3", "--checkpoint-every", "2",
)  # fmt: skip
ENVIRONMENT = {
    **os.environ, "SEGAWARE_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent),
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}  # fmt: skip


def started(ranks, *arguments):
    """A run of the program on some ranks, or without MPI on none."""
    program = [sys.executable, "-m", "segaware_np", *map(str, arguments)]
    if ranks:
        program = [MPIEXEC, "-n", str(ranks), *program, "--mpi"]
    return subprocess.Popen(
        program, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(run, seconds=60):
    out, err = run.communicate(timeout=seconds)
    return run.returncode, out, err


def train(ranks, folder, *more, data="scenes"):
    code, out, err = ended(started(ranks, "train", data, "-o", folder, *RUN, *more))
    assert code == 0, err
    assert out == f"wrote {folder}/model.npz\n"  # once
    return weights(folder)


def weights(folder):
    arrays, _ = load_arrays(Path(folder) / "model.npz")
    return arrays


def distance(first, second):
    assert first.keys() == second.keys()
    return max(np.abs(first[name] - second[name]).max() for name in first)


# ------------------------------------------------------------------------ who computes what


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 12))
def test_every_image_is_computed_once_and_parts_of_a_batch_meet(batches, size, count):
    class One:
        def __init__(self, rank):
            self.rank, self.size = rank, count

    try:
        plans = [share_out(batches, size, One(rank)) for rank in range(count)]
    except ValueError as error:
        assert f"{count} cannot share {batches} x {size} images evenly" in str(error)
        assert not any(size % parts == 0 and parts * batches % count == 0
                       for parts in range(1, size + 1))
        return
    rounds = [list(plan.rounds) for plan in plans]
    assert len({len(items) for items in rounds}) == 1
    items = [item for at in zip(*rounds, strict=True) for item in at]
    assert items == [(b, p) for b in range(batches) for p in range(plans[0].parts)]
    for at in zip(*rounds, strict=True):
        found = [batch for batch, _ in at]
        assert all(found.count(batch) == plans[0].parts for batch in found)


def test_parts_of_a_batch_make_up_the_batch():
    loader = Loader(SyntheticScenes(7, size=(16, 24)), batch=4, seed=2)
    whole = loader.batch(3)
    for name, array in whole.items():
        parts = [loader.part(3, part, 2)[name] for part in range(2)]
        assert np.array_equal(np.concatenate(parts), array)
    with pytest.raises(ValueError, match="part: expected one of 3 of 4 images, got 0"):
        loader.part(0, 0, 3)


def test_a_part_of_a_batch_drops_what_the_whole_batch_drops():
    x = np.ones((4, 3, 5, 6))
    whole, _ = dropout_forward(x, 0.5, seed=9)
    parts = [dropout_forward(x[i : i + 2], 0.5, seed=9, first=i)[0] for i in (0, 2)]
    assert np.array_equal(np.concatenate(parts), whole)


# ------------------------------------------------------------------------ the same results


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights after a run of one process: 4 batches of 2 images an iteration."""
    folder = tmp_path_factory.mktemp("alone")
    return train(0, folder / "run", "--batch", "2", "--accumulate", "4", "--dropout", "0.2")


@needs_mpi
@pytest.mark.parametrize(
    ("ranks", "more", "largest"),
    [
        (1, (), 0),
        (4, (), 0),  # one round
        (2, ("--exact",), 0),
        (2, (), 1e-6),  # another bracketing of the sum
        (8, (), 1e-6),  # halves of batches
    ],
)
def test_the_number_of_ranks_is_no_setting_of_a_run(alone, tmp_path, ranks, more, largest):
    options = ("--batch", "2", "--accumulate", "4", "--dropout", "0.2", *more)
    assert distance(train(ranks, tmp_path / "run", *options), alone) <= largest
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 4


@needs_mpi
def test_losses_of_shared_batches_are_no_means_of_means(tmp_path):
    """Zoomed out, images have very different numbers of pixels that count."""
    options = ("--batch", "4", "--zoom", "0.5,1.0", "--crop", "64")
    one = train(0, tmp_path / "one", *options)
    assert distance(train(4, tmp_path / "four", *options), one) < 1e-6
    losses = [[line["loss"] for line in read_log(tmp_path / name / "log.jsonl")]
              for name in ("one", "four")]  # fmt: skip
    np.testing.assert_allclose(*losses, rtol=1e-5)


@needs_mpi
def test_embeddings_too(tmp_path):
    options = ("--network", "embedding", "--batch", "1", "--accumulate", "2")
    one = train(0, tmp_path / "one", *options)
    assert distance(train(2, tmp_path / "two", *options), one) == 0


@needs_mpi
def test_killed_ranks_are_gone_on_from_with_others(alone, tmp_path):
    """SIGKILL of one at a random moment; resumed with half as many, then alone."""
    folder, options = tmp_path / "run", ("--batch", "2", "--accumulate", "4", "--dropout", "0.2")
    options += ("--exact",)
    for ranks in (4, 2):
        run = started(ranks, "train", "scenes", "-o", folder, *RUN, *options, *resume(folder))
        time.sleep(random.uniform(1.0, 2.5))
        victims = subprocess.run(
            ["pgrep", "-f", f"-o {folder} "], capture_output=True, text=True, check=False
        ).stdout.split()
        for pid in victims[-1:]:
            os.kill(int(pid), signal.SIGKILL)
        ended(run)
    last = started(0, "train", "scenes", "-o", folder, *RUN, *options, *resume(folder))
    code, _, err = ended(last)
    assert code == 0, err
    assert distance(weights(folder), alone) == 0
    assert [line["iteration"] for line in read_log(folder / "log.jsonl")] == [1, 2, 3, 4]


def resume(folder):
    return ("--resume",) if (folder / "log.jsonl").exists() else ()


@needs_mpi
def test_evaluation_and_labels_are_shared_out(tmp_path):
    models.segmentation_network(6, (4,), (1,), embedding="rgb").save(tmp_path / "model.npz")
    reports = []
    for ranks in (0, 3):
        path = tmp_path / f"{ranks}.json"
        code, out, err = ended(started(
            ranks, "evaluate", tmp_path / "model.npz", "scenes", "--split", "val", "--json", path
        ))  # fmt: skip
        assert code == 0, err
        reports.append((out, json.loads(path.read_text())))
    assert reports[0] == reports[1]
    (tmp_path / "photos").mkdir()
    for i in range(3):
        photo = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        write_image(tmp_path / "photos" / f"{i}.png", photo)
    code, out, _ = ended(started(
        2, "predict", tmp_path / "model.npz", tmp_path / "photos", "-o", tmp_path / "labels"
    ))  # fmt: skip
    assert (code, out) == (0, f"labelled 3 images into {tmp_path / 'labels'}\n")
    assert len(list((tmp_path / "labels").iterdir())) == 6


# ------------------------------------------------------------------------ ends


@pytest.fixture
def pairs(tmp_path):
    """Eight pictures with labels, of which number 5 is damaged."""
    rng, lines = np.random.default_rng(0), []
    for i in range(8):
        write_image(tmp_path / f"{i}.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
        write_labels(tmp_path / f"{i}_labels.png", rng.integers(0, 3, (40, 48)))
        lines.append(f"{i}.png {i}_labels.png\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    return tmp_path


@needs_mpi
def test_an_error_of_one_rank_ends_all_with_one_message(pairs):
    (pairs / "5.png").write_bytes((pairs / "5.png").read_bytes()[:200])
    options = ("--classes", "3", "--batch", "1", "--accumulate", "4", *RUN)
    code, _, err = ended(started(4, "train", pairs, "-o", pairs / "run", *options), seconds=30)
    assert code != 0
    assert err.count("segaware: error: ") == 1 and "5.png" in err


@needs_mpi
def test_an_error_of_all_is_told_once(pairs):
    run = started(3, "train", pairs, "-o", pairs / "run", "--classes", "3", *RUN)
    code, _, err = ended(run, 30)
    assert code == 2
    assert err.count("segaware: error: ") == 1
    assert "ranks: 3 cannot share 1 x 4 images evenly: 1, 2, 4 can" in err


@needs_mpi
def test_a_loss_that_is_not_finite_ends_all(pairs):
    options = ("--classes", "3", "--batch", "2", "--lr", "1e30", "--solver", "sgd", *RUN)
    code, _, err = ended(started(2, "train", pairs, "-o", pairs / "run", *options), 30)
    assert code == 2
    assert err.count("segaware: error: ") == 1 and "iteration" in err


@needs_mpi
def test_a_signal_to_one_rank_ends_all_with_a_checkpoint(pairs):
    options = ("--classes", "3", "--batch", "2", *RUN, "--iterations", "100000")
    run = started(2, "train", pairs, "-o", pairs / "run", *options)
    while not (pairs / "run" / "log.jsonl").exists() or len(lines(pairs / "run")) < 3:
        assert run.poll() is None
        time.sleep(0.05)
    victims = subprocess.run(
        ["pgrep", "-f", f"segaware_np train.*-o {pairs / 'run'} "], capture_output=True, text=True
    ).stdout.split()
    os.kill(int(victims[-1]), signal.SIGTERM)
    code, _, err = ended(run, 30)
    assert code != 0
    saved = [p.name for p in (pairs / "run").iterdir() if p.name.startswith("checkpoint")]
    assert f"checkpoint-{len(lines(pairs / 'run')):08d}.npz" in saved, err


def lines(folder):
    return (folder / "log.jsonl").read_text().splitlines()


@needs_mpi
def test_processes_of_mpiexec_that_would_each_train_alone_are_refused(tmp_path):
    program = [MPIEXEC, "-n", "2", sys.executable, "-m", "segaware_np", "train", "scenes"]
    run = subprocess.run(
        [*program, "-o", str(tmp_path / "run"), *RUN], env=ENVIRONMENT, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "started as 2 processes that would each do all of the work alone" in run.stderr
    assert not (tmp_path / "run").exists()


def test_without_the_option_nothing_of_mpi_is_imported():
    code = (
        "import sys, segaware_np.train, segaware_np.mpi, segaware_np.commands.train\n"
        "print('mpi4py' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


class OnDevice(np.ndarray):
    """A NumPy array with the pointer of a CuPy array."""

    def __new__(cls, array):
        return np.asarray(array).view(cls)

    data = SimpleNamespace(ptr=0)


class Link:
    """NCCL's communicator of one rank, in pure Python: what is sent comes back."""

    def __init__(self, size, identity, rank):
        self.calls, self.sent = [], []

    def send(self, pointer, count, kind, peer, stream):
        self.calls.append(("send", count, kind, peer))

    def recv(self, pointer, count, kind, peer, stream):
        self.calls.append(("recv", count, kind, peer))

    def allGather(self, sent, received, count, kind, stream):  # noqa: N802
        self.calls.append(("allGather", count, kind))


def test_nccl_is_called_in_pairs_within_a_group_and_sums_in_the_order_of_ranks():
    from segaware_np import mpi

    groups = []
    stream = SimpleNamespace(ptr=0)
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    ranks = object.__new__(mpi._NCCL)
    ranks.size, ranks.rank, ranks.cupy, ranks.link = 3, 1, cupy, Link(3, None, 1)

    class Library:
        NCCL_FLOAT32, NCCL_FLOAT64 = 7, 8
        groupStart = staticmethod(lambda: groups.append(len(ranks.link.calls)))  # noqa: N815
        groupEnd = staticmethod(lambda: groups.append(len(ranks.link.calls)))  # noqa: N815

    ranks.nccl = Library
    sums = np.array([[1e8, 1.0], [1.0, 2.0], [-1e8, 3.0]], "float32")
    cupy.empty = lambda shape, dtype: OnDevice(sums)
    own = OnDevice(np.zeros(2, "float32"))
    ranks.add(OnDevice(np.zeros(6, "float32")), own)
    assert groups == [0, 6]
    assert ranks.link.calls == [(way, 2, 7, peer) for peer in range(3) for way in ("send", "recv")]
    assert own.tolist() == [0.0, 6.0]  # (1e8 + 1) - 1e8 in float32; another order gives 1
    ranks.share(own, OnDevice(np.zeros(6, "float32")))
    assert ranks.link.calls[-1] == ("allGather", 2, 7)
