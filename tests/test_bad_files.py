"""Damaged and foreign files, folders and disks that cannot be written.

Each gives the documented exception and message, and nothing half written stays behind.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny import check, labels, network, trainer, zeros

from segaware_np import Window, layers, models
from segaware_np.data import PairList, SyntheticScenes
from segaware_np.files import FormatError, atomic_write, load_array, load_arrays, save_arrays
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


def npy(header, data=b"\0" * 16):
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


FLOATS = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}\n"
MEMBERS = {
    "a header cut off": [("w.npy", npy(b"{'descr': '<f4', 'shape': (3,\n"))],
    "a header that is no dictionary": [("w.npy", npy(b"[]\n"))],
    "a header of brackets": [("w.npy", npy(b"[" * 60000 + b"\n"))],
    "a header of code": [("w.npy", npy(b"__import__('os')\n"))],
    "a header that ends too late": [("w.npy", npy(FLOATS % b"4,")[:20])],
    "no array": [("w.npy", b"hello")],
    "no array by name": [("w.txt", npy(FLOATS % b"4,"))],
    "nothing": [("w.npy", b"")],
    "4 TiB": [("w.npy", npy(FLOATS % b"1099511627776,"))],
    "2^70 numbers": [("w.npy", npy(FLOATS % b"1180591620717411303424,"))],
    "one number too many": [("w.npy", npy(FLOATS % b"5,"))],
    "one number too few": [("w.npy", npy(FLOATS % b"3,"))],
    "a size below 0": [("w.npy", npy(FLOATS % b"-2,-2"))],
    "a size that is no number": [("w.npy", npy(FLOATS % b"4.0,"))],
    "objects": [("w.npy", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}\n"))],
    "a name twice": [("w.npy", npy(FLOATS % b"4,"))] * 2,
    "metadata of numbers": [("__metadata__.npy", npy(FLOATS % b"4,"))],
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_arrays_that_declare_what_they_are_not(empty, members):
    with zipfile.ZipFile("a.npz", "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    check(lambda: load_arrays("a.npz"), FormatError, "a.npz: damaged or not a file of arrays (")
    if len(members) == 1:
        Path("a.npy").write_bytes(members[0][1])
        if members[0][0] == "w.npy":
            check(lambda: load_array("a.npy"), FormatError, "a.npy: damaged")


def test_an_archive_that_declares_more_than_it_can_hold(empty):
    with zipfile.ZipFile("a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", npy(FLOATS % b"16,", bytes(64)))
    data = Path("a.npz").read_bytes()
    size = (2**31 - 1).to_bytes(4, "little")
    entry = data.index(b"PK\1\2")
    Path("a.npz").write_bytes(data[: entry + 24] + size + data[entry + 28 :])
    check(lambda: load_arrays("a.npz"), FormatError, "bytes cannot hold 2147483647")


def test_arrays_as_numpy_writes_them(empty):
    rng = np.random.default_rng(0)
    arrays = {
        "columns": np.asfortranarray(rng.normal(size=(3, 4))),
        "big endian": rng.normal(size=5).astype(">f4"),
        "number": np.float32(3.5),
        "none": np.zeros((0, 3)),
        "flags": np.array([True, False]),
        "complex": np.array([1j]),
        "zeros": np.zeros(10**6),  # packed to a thousandth
    }
    np.savez_compressed("a.npz", **arrays)
    found, metadata = load_arrays("a.npz")
    assert metadata == {} and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
        found[name][...] = 1  # they can be written


@pytest.mark.parametrize(("suffix", "least"), [(".npz", 150), (".safetensors", 80)])
def test_mutated_files_of_arrays_give_arrays_or_one_error(empty, suffix, least):
    if suffix == ".safetensors":  # without checksums: most of it may be anything
        pytest.importorskip("safetensors")
    path = Path(f"a{suffix}")
    NET.save(path)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            models.load(path)
        except FormatError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
    assert refused > least


def test_safetensors_that_declare_more_than_they_hold(empty):
    pytest.importorskip("safetensors")
    for dtype, end in (("F32", 2**42), ("F32", 8), ("X", 4)):
        tensor = {"dtype": dtype, "shape": [end // 4], "data_offsets": [0, end]}
        header = json.dumps({"w": tensor}).encode()
        data = len(header).to_bytes(8, "little") + header + bytes(4)
        Path("a.safetensors").write_bytes(data)
        check(lambda: load_arrays("a.safetensors"), FormatError, "a.safetensors: damaged")


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


def describe(**changes):
    """Change the description in model.npz: what stands beside its arguments, or in them."""
    arrays, metadata = load_arrays("model.npz")
    description = metadata["description"]
    for name, value in changes.items():
        target = description["arguments"] if name in description["arguments"] else description
        target[name] = value
    save_arrays("model.npz", arrays, metadata)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("class_names", 5, "class_names: expected different names without control char"),
        ("class_names", ["a", "b"], "class_names: expected one for each of 6 classes, got 2"),
        ("class_names", [*"abcd", "\x1b[31mred", "f"], r"got '\x1b[31mred'"),
        ("class_names", [*"abcd", "c\x9b1m", "f"], r"got 'c\x9b1m'"),
        ("class_names", [*"abcd", "two\nlines", "f"], r"got 'two\nlines'"),
        ("class_names", [*"abcd", "\ud800", "f"], r"got '\ud800'"),
        ("class_names", [*"abcd", "a", "f"], "expected different names"),
        ("class_names", [*"abcd", 7, "f"], "control characters, got 7"),
        ("palette", [[300, 0, 0]], "palette: expected 1 to 256 colours of three integers"),
        ("palette", [[0, 0, 0]] * 257, "palette: expected"),
        ("palette", [[0, 0]], "palette: expected"),
        ("palette", [[0, 0, 0.5]], "palette: expected"),
        ("palette", [0, 0, 0], "palette: expected"),
        ("palette", "red", "palette: expected"),
        ("depths", [100000], "it describes a network of far more weights than it holds"),
        ("widths", [10**9], "it describes a network of far more weights than it holds"),
        ("widths", [2**70], "it describes a network of far more weights than it holds"),
        ("classes", 10**6, "it describes a network of far more weights than it holds"),
        ("classes", 10**400, "not a network of this library ("),
        ("refine", [50000], "refine: expected a sequence of values, each an integer from 1 t"),
        ("dropout", [], "dropout: expected a number in [0, 1), got []"),
        ("scale", float("nan"), "scale: expected a finite number, got nan"),
        ("ignore_label", "x", "ignore_label: expected an integer, got 'x'"),
        ("embedding_lr_mult", "x", "embedding_lr_mult: expected a finite number"),
        ("model", "os.system", "description: not that of a network"),
        ("model", [], "description: not that of a network"),
        ("arguments", [], "it holds no description of one"),
    ],
)
def test_a_model_file_is_not_believed(empty, name, value, message):
    network(aware=True, embedding="rgb").save("model.npz")
    describe(**{name: value})
    with pytest.raises(FormatError) as caught:
        models.load("model.npz")
    assert str(caught.value).startswith("model.npz: not a network of this library (")
    assert message in str(caught.value)


def test_a_model_file_with_names_and_colours(empty):
    NET.save("model.npz")
    names, palette = ["sky", "Straße", "道", "می\u200cخواهم", "a b", "f"], [[0, 128, 255]]
    describe(class_names=names, palette=palette)
    description = models.load("model.npz").description
    assert (description["class_names"], description["palette"]) == (names, palette)


def test_random_numbers_after_loading_are_a_new_networks(empty):
    NET.save("model.npz")
    net = models.load("model.npz", seed=5)
    net.add("more", layers.Convolution(6, 10**6, Window(1)), "score")  # no limit any more
    fresh = network(seed=5)
    fresh.add("more", layers.Convolution(6, 10**6, Window(1)), "score")
    one, other = (n.parameters()["more.weight"].data for n in (net, fresh))
    assert np.array_equal(one, other)


def without(*names, **others):
    """Save model.npz without some of its arrays, and with others."""
    arrays, metadata = load_arrays("model.npz")
    kept = {name: array for name, array in arrays.items() if name not in names}
    save_arrays("model.npz", kept | others, metadata)


def test_a_model_of_which_a_part_is_missing(empty):
    NET.save("model.npz")
    without("classifier.weight", other=X)
    message = "classifier.weight is missing; other is unknown (partial=True takes what fits)"
    check(lambda: models.load("model.npz"), FormatError, message)
    told = r"^model.npz: loaded: conv1_1, classifier.bias; left out: other; left as it was: "
    with pytest.warns(UserWarning, match=f"{told}classifier.weight$"):
        net = models.load("model.npz", partial=True, seed=3)
    found, saved, initial = net.weights(), NET.weights(), network(seed=3).weights()
    for name, array in found.items():
        source = initial if name == "classifier.weight" else saved
        np.testing.assert_array_equal(array, source[name])
    without(*saved)
    check(lambda: models.load("model.npz", partial=True), FormatError, "expected some of this netw")


def test_a_checkpoint_of_which_a_part_is_missing(empty):
    trainer().run()
    (path,) = trainer().checkpoints()
    arrays, metadata = load_arrays(path)
    del arrays["weights/classifier.bias"]
    save_arrays(path, arrays, metadata)
    check(lambda: models.load(path), FormatError, "classifier.bias is missing")


def test_a_network_changed_so_that_weights_are_left_out(empty):
    network(aware=True, embedding="rgb").save("model.npz")
    with pytest.warns(UserWarning, match="model.npz: loaded: .*; left out: conv1_1.scale$"):
        models.load("model.npz", aware=False)


def test_transfer_tells_what_it_did_not(empty):
    told = "^weights: loaded: conv1_1; left out: classifier.weight, "
    with pytest.warns(UserWarning, match=told):
        assert len(models.transfer(NET.weights(), models.segmentation_network(7, (4,), (1,)))) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(models.transfer(NET.weights(), network(seed=1))) == 4
    check(lambda: models.transfer({"x": X}, NET), ValueError, "weights: expected some of this netw")


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


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
def test_a_write_removes_what_a_killed_one_left(empty):
    (empty / "a").mkdir()
    names = [f".{name}.0123456789ab.tmp" for name in ("a.npz", "b.npz", "a.npzz", "x.a.npz")]
    for name in [*names, ".a.npz.0123456789.tmp"]:
        (empty / name).write_text("half")
    save_arrays("a.npz", {"x": X})
    kept = sorted(path.name for path in empty.iterdir() if path.is_file())
    assert kept == sorted(["a.npz", ".a.npz.0123456789.tmp", *names[1:]])


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
def test_a_write_leaves_another_one_alone(empty):
    with atomic_write("a.npz") as file:
        save_arrays("a.npz", {"x": X})
        file.write(b"the later one")
    assert Path("a.npz").read_bytes() == b"the later one"
    assert [path.name for path in empty.iterdir()] == ["a.npz"]


def test_interrupted_write(empty):
    (empty / "a.bin").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(empty / "a.bin") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (empty / "a.bin").read_text() == "before"
    assert len(list(empty.iterdir())) == 1
