"""Bad calls: each gives the documented exception and message, before any work is done.

One line a call: what is called, the exception, and what its message must say. Every call runs in
an empty folder, which must be as empty afterwards: nothing half written stays behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from segaware_np import layers, models, optim, policies
from segaware_np.data import (
    Augmentation,
    ImageFolder,
    Loader,
    PairList,
    SyntheticScenes,
    VOCFolder,
)
from segaware_np.files import FormatError, atomic_write, load_arrays, save_arrays
from segaware_np.images import overlay, read_image, read_labels, write_image, write_labels
from segaware_np.inference import embed, evaluate, predict
from segaware_np.metrics import Confusion, Evaluation, boundary_band
from segaware_np.net import Net
from segaware_np.optim import NonFiniteError
from segaware_np.ops.columns import col2im_forward, im2col_forward
from segaware_np.ops.convolution import (
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dropout import dropout_forward
from segaware_np.ops.embedding_loss import embedding_loss_forward
from segaware_np.ops.join import add_forward, concat_forward
from segaware_np.ops.mask import exponential_mask_forward, normalized_mask_forward
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import average_pool_forward, max_pool_forward
from segaware_np.ops.relu import relu_forward
from segaware_np.ops.resize import resize_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_explicit_forward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import softmax_cross_entropy_forward, softmax_forward
from segaware_np.train import Trainer
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array, check_array


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def labels(*shape: int, value: int = 0) -> np.ndarray:
    return np.full(shape, value, np.int32)


W3 = Window.same(3)
X, WEIGHT, MASK = zeros(2, 4, 6, 5), zeros(3, 4, 3, 3), zeros(2, 9, 6, 5)
_, CONVOLVED = convolution_forward(X, WEIGHT, window=W3)
_, MASKED = segaware_convolution_forward(X, MASK, WEIGHT, window=W3)
_, MEASURED = distance_forward(X, W3)
D = zeros(2, 9, 6, 5)

WINDOWS = [
    (lambda: Window(0), ValueError, "kernel: expected at least 1, got 0"),
    (lambda: Window(3, stride=0), ValueError, "stride: expected at least 1, got 0"),
    (lambda: Window(3, dilation=-1), ValueError, "dilation: expected at least 1, got -1"),
    (lambda: Window(3, pad=-1), ValueError, "pad: expected at least 0, got -1"),
    (lambda: Window(3, pad=(1, -2)), ValueError, "pad: expected at least 0, got (1, -2)"),
    (lambda: Window(2.5), TypeError, "kernel: expected an integer or a pair of integers, got 2.5"),
    (lambda: Window((3, 3, 3)), TypeError, "kernel: expected an integer or a pair of integers"),
    (lambda: Window("3"), TypeError, "kernel: expected an integer or a pair of integers, got '3'"),
    (lambda: im2col_forward(zeros(1, 1, 2, 9), Window(5)), ValueError,
     "kernel 5 with dilation 1 spans 5 pixels, more than the padded height 2 + 2*0"),
    (lambda: convolution_forward(X, WEIGHT, window=Window(3, dilation=3)), ValueError,
     "kernel 3 with dilation 3 spans 7 pixels, more than the padded height 6 + 2*0"),
    (lambda: distance_forward(zeros(1, 2, 0, 4), W3), ValueError, "more than the padded height 0"),
]
ARRAYS = [
    (lambda: array_module([1.0]), TypeError, "expected a NumPy or CuPy array, got list"),
    (lambda: as_array(zeros(2), xp=array_module), TypeError, "expected a array_module array"),
    (lambda: check_array("x", X, (1, "C", "H", "W")), ValueError,
     "x: expected shape (1, C, H, W), got (2, 4, 6, 5)"),
    (lambda: im2col_forward([[1.0]], W3), TypeError, "x: expected a NumPy or CuPy array, got list"),
    (lambda: im2col_forward(zeros(4, 6, 5), W3), ValueError,
     "x: expected shape (N, C, H, W), got (4, 6, 5)"),
    (lambda: im2col_forward(X.astype(int), W3), TypeError, "x: expected a float array, got int64"),
    (lambda: im2col_forward(None, W3), TypeError, "x: expected a NumPy or CuPy array, got None"),
    (lambda: relu_forward("x"), TypeError, "x: expected a NumPy or CuPy array, got str"),
]
OPS = [
    (lambda: col2im_forward(zeros(2, 4, 9, 6, 5), (6, 6), W3), ValueError,
     "cols: expected shape (N, C, 9, 6, 6), got (2, 4, 9, 6, 5)"),
    (lambda: distance_forward(X, W3, norm="L3"), ValueError,
     "norm: expected 'L1' or 'L2', got 'L3'"),
    (lambda: distance_forward(X.astype("i4"), W3), TypeError, "embedding: expected a float array"),
    (lambda: distance_backward(zeros(2, 9, 5, 5), MEASURED), ValueError,
     "expected shape (2, 9, 6, 5), got (2, 9, 5, 5)"),
    (lambda: label_parity_forward(zeros(1, 6, 5), W3), TypeError,
     "labels: expected an integer array, got float32"),
    (lambda: label_parity_forward(np.zeros((1, 6, 5), "u1"), W3, ignore_label=256), ValueError,
     "ignore_label: 256 does not fit labels of uint8"),
    (lambda: exponential_mask_forward(D, float("nan")), ValueError,
     "scale: expected a finite number, got nan"),
    (lambda: normalized_mask_forward(D, float("inf")), ValueError,
     "scale: expected a finite number, got inf"),
    (lambda: exponential_mask_forward(D, zeros(2)), ValueError,
     "scale: expected one number, got shape (2,)"),
    (lambda: exponential_mask_forward(zeros(9, 6, 5), 1.0), ValueError, "distance: expected shape"),
    (lambda: convolution_forward(X, zeros(3, 5, 3, 3), window=W3), ValueError,
     "weight: expected shape"),
    (lambda: convolution_forward(X, WEIGHT, zeros(4), window=W3), ValueError,
     "bias: expected shape (3,), got (4,)"),
    (lambda: convolution_forward(X, WEIGHT.astype("f8"), window=W3), TypeError,
     "weight: expected dtype float32, got float64"),
    (lambda: convolution_forward(X, WEIGHT, window=Window(5, pad=2)), ValueError,
     "weight: expected shape"),
    (lambda: convolution_forward(X, WEIGHT, window=W3, groups=3), ValueError,
     "groups: expected a divisor of the 4 channels, got 3"),
    (lambda: convolution_forward(X, WEIGHT, window=W3, groups=0), ValueError,
     "groups: expected a divisor of the 4 channels, got 0"),
    (lambda: convolution_backward(zeros(2, 3, 6, 6), CONVOLVED), ValueError,
     "dy: expected shape (2, 3, 6, 5), got (2, 3, 6, 6)"),
    (lambda: convolution_backward(zeros(2, 3, 6, 5), CONVOLVED, need={"mask"}), ValueError,
     "need: expected names out of ['bias', 'weight', 'x'], got ['mask']"),
    (lambda: column_convolution_forward(zeros(2, 4, 8, 6, 5), WEIGHT), ValueError,
     "weight: expected a kernel of 8 taps to match columns, got 3x3"),
    (lambda: segaware_convolution_forward(X, zeros(2, 9, 6, 6), WEIGHT, window=W3), ValueError,
     "mask: expected shape (2, 9, 6, 5), got (2, 9, 6, 6)"),
    (lambda: segaware_convolution_forward(X, MASK > 0, WEIGHT, window=W3), TypeError,
     "mask: expected a float array, got bool"),
    (lambda: segaware_convolution_explicit_forward(X, zeros(1, 9, 6, 5), WEIGHT, window=W3),
     ValueError, "mask: expected shape (2, 9, 6, 5), got (1, 9, 6, 5)"),
    (lambda: segaware_convolution_backward(zeros(2, 3, 6, 5, dtype="float64"), MASKED), TypeError,
     "dy: expected dtype float32, got float64"),
    (lambda: max_pool_forward(X, Window(3, 2, 3)), ValueError, "window: expected pad < kernel"),
    (lambda: average_pool_forward(X, Window(2, 2, 2)), ValueError, "window: expected pad < kernel"),
    (lambda: resize_forward(X, 7), TypeError, "size: expected a pair of integers, got 7"),
    (lambda: resize_forward(X, (0, 4)), ValueError, "size: expected at least one pixel each way"),
    (lambda: concat_forward(), ValueError, "xs: expected at least one array"),
    (lambda: concat_forward(X, zeros(2, 4, 6, 6)), ValueError, "got (2, 4, 6, 6)"),
    (lambda: add_forward(X, zeros(2, 3, 6, 5)), ValueError, "got (2, 3, 6, 5)"),
    (lambda: dropout_forward(X, 1.0, 0), ValueError, "ratio: expected a number in [0, 1), got 1.0"),
    (lambda: softmax_forward(zeros(3)), ValueError, "x: expected shape (N, C, ...) with C > 0"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=4)), ValueError,
     "labels: expected classes 0 to 3 or the ignore label"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=-1)), ValueError,
     "labels: expected classes 0 to 3"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 5, 6)), ValueError,
     "labels: expected shape (2, 6, 5), got (2, 5, 6)"),
    (lambda: softmax_cross_entropy_forward(X, zeros(2, 6, 5)), TypeError,
     "labels: expected an integer array, got float32"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), alpha=2.0, beta=0.5), ValueError,
     "alpha, beta: expected 0 < alpha < beta, got 2.0 and 0.5"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 4)), ValueError, "parity: expected shape"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), hinge="cubic"), ValueError,
     "hinge: expected 'linear' or 'squared', got 'cubic'"),
]


def network(seed: int = 0, **options) -> Net:
    return models.segmentation_network(6, (4,), (1,), seed=seed, **options)


def trainer(net: Net | None = None, folder: str = "run", **options) -> Trainer:
    net = net or network()
    scenes = SyntheticScenes(2, size=(8, 8))
    loader = Loader(scenes, 1, Augmentation())
    options = {"iterations": 1, "progress": False, **options}
    return Trainer(net, optim.SGD(net.parameters(), 1e-3), loader, folder=folder, **options)


IMAGE = np.zeros((4, 5, 3), np.uint8)
SCENES = SyntheticScenes(2, size=(8, 8))
NET = network()
PARAMETERS = NET.parameters()

DATA = [
    (lambda: SyntheticScenes(0), ValueError, "count: expected at least 1, got 0"),
    (lambda: SyntheticScenes(1, size=(0, 4)), ValueError, "size: expected a positive height"),
    (lambda: SyntheticScenes(2)[2], IndexError, "index: expected below 2, got 2"),
    (lambda: Augmentation(crop=0), ValueError, "crop: expected a positive size"),
    (lambda: Augmentation(scale=(2, 1)), ValueError, "scale: expected 0 < low <= high"),
    (lambda: Augmentation(mean=(1, 2, float("nan"))), ValueError, "mean: expected three finite"),
    (lambda: Augmentation(order="hsv"), ValueError, "order: expected 'rgb' or 'bgr', got 'hsv'"),
    (lambda: Loader(SCENES, 0), ValueError, "batch: expected at least 1, got 0"),
    (lambda: Loader(SCENES, 1, seed=-1), ValueError, "seed: expected at least 0, got -1"),
    (lambda: Loader(SCENES, 1).batch(-1), ValueError, "index: expected at least 0, got -1"),
    (lambda: Confusion(0), ValueError, "classes: expected at least 1, got 0"),
    (lambda: Confusion(2).update(labels(2, 2, value=2), labels(2, 2)), ValueError,
     "predicted: expected values in 0..1, got 2"),
    (lambda: Confusion(2).update(labels(2, 2), labels(2, 2, value=7)), ValueError,
     "labels: expected values in 0..1 or the ignore label 255, got 7"),
    (lambda: Evaluation(2, width=0), ValueError, "width: expected at least 1 pixel, got 0"),
    (lambda: boundary_band(zeros(4, 4)), TypeError, "labels: expected an integer array"),
    (lambda: overlay(IMAGE, labels(4, 4)), ValueError, "labels: expected shape (4, 5)"),
]
FILES = [
    (lambda: read_image("none.png"), FileNotFoundError, "none.png"),
    (lambda: write_image("a.png", IMAGE.astype(float)), TypeError,
     "image: expected an integer array, got float64"),
    (lambda: write_image("a.xyz", IMAGE), ValueError, "path: expected the suffix of an image"),
    (lambda: write_labels("a.png", labels(4, 5, value=256)), ValueError,
     "labels: expected values in 0..255, got 256"),
    (lambda: write_labels("a.jpg", labels(4, 5)), ValueError, "expected a name ending in .png"),
    (lambda: write_image("none/a.png", IMAGE), FileNotFoundError, "none"),
    (lambda: PairList("none.txt"), FileNotFoundError, "none.txt"),
    (lambda: VOCFolder(".", "train"), FileNotFoundError, "train.txt"),
    (lambda: ImageFolder("."), FileNotFoundError, "no image"),
    (lambda: load_arrays("none.npz"), FileNotFoundError, "no such file: none.npz"),
    (lambda: load_arrays("none.pkl"), ValueError, "expected a name ending in .npz or .safetensors"),
    (lambda: save_arrays("a.bin", {}), ValueError, "expected a name ending in .npz or"),
    (lambda: save_arrays("a.npz", {}, {"x": object()}), TypeError, "not JSON serializable"),
    (lambda: save_arrays("none/a.npz", {"x": X}), FileNotFoundError, "none"),
    (lambda: models.load("none.npz"), FileNotFoundError, "no such file: none.npz"),
]
NETWORKS = [
    (lambda: network(aware={"stage2"}), ValueError, "aware: expected names out of"),
    (lambda: network(embedding="depth"), ValueError, "embedding: expected 'learned' or 'rgb'"),
    (lambda: network(dropout=1.5), ValueError, "ratio: expected a number in [0, 1), got 1.5"),
    (lambda: models.embedding_network((4, 4), (1,)), ValueError, "depths: expected 2"),
    (lambda: models.build({"model": "unet"}), ValueError, "description: not that of a network"),
    (lambda: Net(dtype="float16"), ValueError, "dtype: expected one of"),
    (lambda: network().add("loss", layers.ReLU(), "score"), ValueError, "'loss' is taken"),
    (lambda: network().add("new", layers.ReLU(), "nothing"), ValueError, "which nothing produces"),
    (lambda: NET.forward({}), ValueError, "are needed for ['loss'] and missing"),
    (lambda: NET.forward({"image": zeros(1, 3, 8, 8)}, ["sky"]), ValueError,
     "outputs: expected names of layers, got ['sky']"),
    (lambda: NET.forward({"image": zeros(1, 3, 8, 8, dtype="float64")}, ["score"]), TypeError,
     "image: expected float32, as the network, got float64"),
    (lambda: NET.forward({"image": zeros(1, 4, 8, 8)}, ["score"]), ValueError,
     "weight: expected shape"),
    (lambda: network().backward(), RuntimeError, "needs a forward pass"),
    (lambda: NET.set_weights({}), ValueError, "weights of another network"),
    (lambda: NET.set_state({}), ValueError, "state: not the random state of a network"),
    (lambda: layers.Convolution(4, 6, W3, groups=4), ValueError, "groups: expected a divisor"),
    (lambda: layers.Convolution(4, 4, W3, init="zeros"), ValueError, "init: expected"),
    (lambda: predict(NET, zeros(4, 5, 3)), TypeError, "image: expected a uint8 NumPy array"),
    (lambda: predict(NET, IMAGE[..., :2]), ValueError, "image: expected shape (H, W, 3)"),
    (lambda: embed(NET, IMAGE), ValueError, "expected a network with a layer 'embedding'"),
    (lambda: evaluate(network(), SyntheticScenes(1, size=(8, 8)), width=0), ValueError, "width"),
]
TRAINING = [
    (lambda: policies.Fixed(-1.0), ValueError, "lr: expected a finite number of at least 0"),
    (lambda: policies.Fixed("fast"), TypeError, "lr: expected a"),
    (lambda: policies.Polynomial(0.1, 0), ValueError, "iterations: expected an integer of at least"),
    (lambda: policies.MultiStep(0.1, 0.1, (20, 10)), ValueError, "steps: expected ascending"),
    (lambda: optim.SGD(PARAMETERS, 0.1, momentum=1.0), ValueError, "momentum: expected"),
    (lambda: optim.SGD(PARAMETERS, float("nan")), ValueError, "lr: expected a finite number"),
    (lambda: optim.SGD({}, 0.1), ValueError, "parameters: expected at least one"),
    (lambda: optim.Adam(PARAMETERS, clip_norm=0.0), ValueError, "clip_norm: expected"),
    (lambda: optim.SGD(PARAMETERS, 0.1).step(0), ValueError, "batches: expected"),
    (lambda: trainer(iterations=0), ValueError, "iterations: expected an integer of at least 1"),
    (lambda: trainer(batches=1.5), TypeError, "batches: expected"),
    (lambda: trainer(log="xml"), ValueError, "log: expected 'jsonl' or 'csv', got 'xml'"),
    (lambda: Trainer(NET, optim.SGD(network().parameters(), 0.1), Loader(SCENES, 1),
                     folder="run", iterations=1), ValueError, "not parameters of this network"),
    (lambda: Trainer(Net(), optim.SGD(PARAMETERS, 0.1), Loader(SCENES, 1), folder="run",
                     iterations=1), ValueError, "net: expected at least one loss layer, got none"),
]
CALLS = [*WINDOWS, *ARRAYS, *OPS, *DATA, *FILES, *NETWORKS, *TRAINING]


def check(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("call", "error", "message"), CALLS, ids=[message for _, _, message in CALLS]
)
def test_bad_call(empty, call, error, message):
    check(call, error, message)
    assert list(empty.iterdir()) == []


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
    check(lambda: read_labels(empty / "labels.png"), FormatError, "expected a palette or grey image")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("image.png none.png", FileNotFoundError, "list.txt:1: no such file"),
        ("image.png\nimage.png a b", FormatError, "list.txt:2: expected 'image label' or 'image'"),
        ("image.png labels.png\nimage.png", FormatError, "list.txt:2: expected all lines with"),
        (" \n", FormatError, "list.txt: expected at least one line, got none"),
        (b"\xff\xfe\x00", FormatError, "list.txt: expected a list in UTF-8 text"),
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
    check(lambda: trainer().run(), FileExistsError, "run holds a run: resume it or take another")
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
    with pytest.raises(OSError, match="No space left on device"):
        _write_all(empty)[which]()
    assert {path.name: path.read_text() for path in empty.iterdir()} == dict.fromkeys(
        ("a.png", "a.npz", "net.npz"), "before"
    )


def test_interrupted_write(empty):
    (empty / "a.bin").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(empty / "a.bin") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (empty / "a.bin").read_text() == "before"
    assert len(list(empty.iterdir())) == 1
