"""Damaged and foreign files, folders and disks that cannot be written.

Each gives the documented exception and message, and nothing half written stays behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from tiny import check, labels, network, trainer, zeros

from segaware_np import models
from segaware_np.data import PairList, SyntheticScenes
from segaware_np.files import FormatError, atomic_write, load_arrays, save_arrays
from segaware_np.images import read_image, read_labels, write_image, write_labels
from segaware_np.optim import NonFiniteError
from segaware_np.version import __version__

IMAGE = np.zeros((4, 5, 3), np.uint8)
SCENES = SyntheticScenes(2, size=(8, 8))
NET = network()
X = zeros(2, 3)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- damaged and foreign files ------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 50, 0.5, -30])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_image(empty, suffix, keep):
    path = empty / f"image{suffix}"
    write_image(path, SCENES[0][0])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    check(lambda: read_image(path), FormatError, f"{path}: damaged or not a usable image")


def test_labels_in_colour(empty):
    write_image(empty / "labels.png", IMAGE)
    check(lambda: read_labels("labels.png"), FormatError,
          "labels.png: expected class numbers, as a grey or palette image, got colours (RGB)")


def test_labels_that_were_compressed_with_loss(empty):
    write_image(empty / "labels.jpg", IMAGE[..., 0])
    check(lambda: read_labels("labels.jpg"), FormatError, "expected a format that keeps class num")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("image.png none.png", FileNotFoundError, "list.txt:1: no such file"),
        ("image.png\nimage.png a b", FormatError, "list.txt:2: expected 'image label' or 'image'"),
        ("image.png,labels.png", FileNotFoundError, "(expected 'image label', space between)"),
        ("image.png labels.png\nimage.png", FormatError, "list.txt:2: expected all lines with"),
        (" \n", FormatError, "list.txt: expected at least one line, got none"),
        (b"caf\xe9.png", FormatError, "list.txt: expected text in UTF-8"),
        (b"\xff\xfe\x00", FormatError, "list.txt: expected text in UTF-8"),
    ],
)
def test_list_file(empty, text, error, message):
    write_image(empty / "image.png", IMAGE)
    write_labels(empty / "labels.png", labels(4, 5))
    (empty / "list.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    check(lambda: PairList(empty / "list.txt"), error, message)


def test_labels_of_another_size(empty):
    write_image(empty / "image.png", IMAGE)
    write_labels(empty / "labels.png", labels(5, 5))
    (empty / "list.txt").write_text("image.png labels.png")
    dataset = PairList(empty / "list.txt")
    check(lambda: dataset[0], FormatError, "expected (4, 5) labels to match")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_truncated_weights(empty, suffix, keep):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = empty / f"model{suffix}"
    NET.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    check(lambda: models.load(path), FormatError, str(path))
    check(lambda: NET.load(path), FormatError, str(path))


def test_weights_with_a_pickle(empty):
    np.savez("model.npz", weights=np.array([{}], dtype=object))
    check(lambda: load_arrays("model.npz"), FormatError, "model.npz: damaged")


def test_weights_of_another_network(empty):
    NET.save("model.npz")
    other = models.segmentation_network(7, (4,), (1,))
    before = other.weights()
    check(lambda: other.load("model.npz"), ValueError, "weights of another network: classifier")
    assert all(np.array_equal(before[name], array) for name, array in other.weights().items())


def test_arrays_that_are_no_network(empty):
    save_arrays("arrays.npz", {"x": X})
    check(lambda: NET.load("arrays.npz"), FormatError, "arrays.npz: not a saved network")
    check(lambda: models.load("arrays.npz"), FormatError, "arrays.npz: not a network")


def test_a_network_of_another_version(empty):
    NET.save("model.npz")
    arrays, metadata = load_arrays("model.npz")
    metadata["description"]["arguments"]["attention"] = "new"
    save_arrays("model.npz", arrays, metadata | {"version": "9.1"})
    message = f"version 9.1 wrote it, this is {__version__}"
    check(lambda: models.load("model.npz"), FormatError, message)


def test_a_network_with_other_arguments(empty):
    NET.save("model.npz")
    check(lambda: models.load("model.npz", typo=1), TypeError, "typo: expected an argument of")
    check(lambda: models.load("model.npz", dtype="float16"), ValueError, "dtype: expected one of")
    check(lambda: models.load("model.npz", classes=7), ValueError, "classifier.weight: expected")
    assert models.load("model.npz", dtype="float64").dtype == np.float64


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_checkpoint(empty, keep):
    trainer().run()
    (path,) = trainer().checkpoints()
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    check(lambda: trainer(iterations=2).run(resume=True), FormatError, f"{path}: damaged")


def test_checkpoint_of_another_network(empty):
    trainer().run()
    other = models.segmentation_network(7, (4,), (1,))
    check(lambda: trainer(other, iterations=2).run(resume=True), ValueError,
          "checkpoint of another network")


def test_folder_of_another_run(empty):
    trainer().run()
    before = sorted(empty.rglob("*"))
    check(lambda: trainer().run(), FileExistsError, "run holds a run: go on with it")
    assert sorted(empty.rglob("*")) == before


def test_nan_stops_training_and_keeps_the_checkpoint(empty):
    trainer().run()
    broken = trainer(iterations=3)
    (path,) = broken.checkpoints()
    arrays, metadata = load_arrays(path)
    arrays["weights/classifier.bias"][0] = np.nan
    save_arrays(path, arrays, metadata)
    check(lambda: broken.run(resume=True), NonFiniteError,
          f"iteration 2: the loss is nan; the last checkpoint is {path}")
    assert broken.checkpoints() == [path]


# --- folders and disks that cannot be written ---------------------------------------------------


def _write_all(folder: Path) -> list:
    return [
        lambda: write_image(folder / "a.png", SCENES[0][0]),
        lambda: write_labels(folder / "a.png", SCENES[0][1]),
        lambda: save_arrays(folder / "a.npz", {"x": X}),
        lambda: NET.save(folder / "net.npz"),
        lambda: trainer(folder=str(folder / "run")).run(),
    ]


@pytest.fixture
def locked():
    """A folder that cannot be written, seen by someone who is not root."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system has no users as on Unix")
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        if user == 0:  # root writes anywhere
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.mark.parametrize("which", range(5))
def test_read_only_folder(locked, which):
    check(_write_all(locked)[which], PermissionError, str(locked))
    with pytest.raises(PermissionError) as caught:
        _write_all(locked)[which]()
    assert ".tmp" not in str(caught.value)
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("which", range(5))
def test_folder_that_is_a_file(empty, which):
    (empty / "file").write_text("kept")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        _write_all(empty / "file")[which]()
    assert (empty / "file").read_text() == "kept"


@pytest.mark.parametrize("which", range(4))
def test_full_disk(empty, monkeypatch, which):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    for name in ("a.png", "a.npz", "net.npz"):
        (empty / name).write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        _write_all(empty)[which]()
    assert Path(caught.value.filename).name in ("a.png", "a.npz", "net.npz")
    assert {path.name: path.read_text() for path in empty.iterdir()} == dict.fromkeys(
        ("a.png", "a.npz", "net.npz"), "before"
    )


def test_arrays_of_any_name_but_no_objects(empty):
    names = ("file", "allow_pickle", "a/b.npy", "self")  # the first two are numpy.savez's own
    save_arrays("a.npz", {name: np.float32(i) for i, name in enumerate(names)}, {"x": 1})
    arrays, metadata = load_arrays("a.npz")
    assert {name: a.item() for name, a in arrays.items()} == dict(zip(names, range(4), strict=True))
    assert metadata == {"x": 1}
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_arrays("b.npz", {"x": np.array([{}])})
    assert [path.name for path in empty.iterdir()] == ["a.npz"]


def test_metadata_that_is_no_mapping(empty):
    np.savez("a.npz", __metadata__=np.array("[1]"))
    with pytest.raises(FormatError, match="a.npz: damaged .*expected a JSON object"):
        models.load("a.npz")


def test_files_have_the_permissions_of_others(empty):
    before = os.umask(0o027)
    try:
        save_arrays("a.npz", {"x": X})
    finally:
        os.umask(before)
    assert (empty / "a.npz").stat().st_mode & 0o777 == 0o640


def test_interrupted_write(empty):
    (empty / "a.bin").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(empty / "a.bin") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (empty / "a.bin").read_text() == "before"
    assert len(list(empty.iterdir())) == 1
