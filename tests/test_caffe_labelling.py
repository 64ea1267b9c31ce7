"""From pictures to labels: where scores lie, which sizes go, what one channel means, by the layers.

Every network here copies: its score of class 1 is the brightness of a pixel minus a half, so that
the labels must show the picture itself, white parts as 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import fails, run
from PIL import Image

from segaware_np.caffe import Net
from segaware_np.caffe.labelling import Labeller
from segaware_np.commands.main import main

RNG = np.random.default_rng(3)
MEAN = (127.5, 127.5, 127.5)


def data(h: int = 32, w: int = 32, channels: int = 3) -> str:
    return f'input: "x" input_shape {{ dim: 1 dim: {channels} dim: {h} dim: {w} }}\n'


def layer(name: str, type_: str, bottoms: str, options: str = "") -> str:
    read = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    return f'layer {{ name: "{name}" type: "{type_}" {read} top: "{name}" {options} }}\n'


def convolution(name: str, bottom: str, outputs: int = 2, options: str = "kernel_size: 1") -> str:
    return layer(name, "Convolution", bottom,
                 f"convolution_param {{ num_output: {outputs} {options} bias_term: false }}")


def pooling(name: str, bottom: str, side: int) -> str:
    return layer(name, "Pooling", bottom, f"pooling_param {{ kernel_size: {side} stride: {side} }}")


def enlarging(name: str, bottom: str, side: int, kind: str = "constant", kernel: int = 0) -> str:
    return layer(name, "Deconvolution", bottom, "convolution_param { num_output: 2 group: 2 "
                 f"kernel_size: {kernel or side} stride: {side} bias_term: false "
                 f'weight_filler {{ type: "{kind}" value: 1 }} }}')


def copying(text: str, **options) -> Net:
    """A network whose convolutions pass on the middle pixel of their windows, class 1's channel."""
    net = Net(text, **options)
    for step in net._graph.steps:
        if step.layer.type == "Convolution":
            weight = step.layer.params[0].data
            weight[...] = 0
            weight[-1, -1, weight.shape[2] // 2, weight.shape[3] // 2] = 1
    return net


def blocks(h: int, w: int, side: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A picture of black and white blocks, and its labels."""
    truth = RNG.integers(0, 2, (-(-h // side), -(-w // side))).repeat(side, 0).repeat(side, 1)
    truth = truth[:h, :w]
    return np.repeat(np.uint8(255 * truth)[..., None], 3, 2), truth


PIXELWISE = {
    "of its own size": convolution("y", "x"),
    "without padding": convolution("y", "x", 2, "kernel_size: 17"),
    "without padding, a window of even height": convolution("y", "x", 2, "kernel_h: 1 kernel_w: 9"),
    "with more padding than it needs": convolution("y", "x", 2, "kernel_size: 3 pad: 12"),
    "dilated": convolution("y", "x", 2, "kernel_size: 3 dilation: 7"),
    "padded, and a crop": convolution("a", "x", 2, "kernel_size: 3 pad: 10")
    + layer("y", "Crop", "a x", "crop_param { offset: 9 }"),
    "a crop at 0 of what is padded": convolution("a", "x", 2, "kernel_size: 3 pad: 10")
    + layer("y", "Crop", "a x", "crop_param { offset: 0 }"),
    "by rows of its own": convolution("a", "x", 2, "kernel_h: 5 kernel_w: 3 pad_h: 0 pad_w: 1")
    + convolution("y", "a", 2, "kernel_h: 1 kernel_w: 7 pad_h: 0 pad_w: 3"),
}


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (45, 33), (33, 70), (1, 9)])
@pytest.mark.parametrize("name", PIXELWISE)
def test_scores_of_every_pixel_lie_on_it(name: str, size: tuple[int, int]) -> None:
    image, truth = blocks(*size)
    label = Labeller(copying(data() + PIXELWISE[name]), mean=MEAN)
    np.testing.assert_array_equal(label(image), truth)


@pytest.mark.parametrize("size", [(32, 32), (24, 31), (33, 33), (40, 70), (71, 8)])
def test_scores_of_blocks_lie_on_them(size: tuple[int, int]) -> None:
    """Pooled by 8 and enlarged again: scores larger than the picture are cut, not shrunk."""
    image, truth = blocks(*size, side=8)
    text = pooling("p", "x", 8) + convolution("c", "p") + enlarging("y", "c", 8)
    np.testing.assert_array_equal(Labeller(copying(data() + text), mean=MEAN)(image), truth)


@pytest.mark.parametrize("up", [
    layer("y", "Upsample", "c", "upsample_param { scale: 4 }"),
    layer("y", "Unpooling", "c", "unpooling_param { unpool: TILE kernel_size: 4 stride: 4 "
                                 "unpool_h: 32 unpool_w: 32 }"),
])
def test_scores_that_were_repeated_lie_on_their_blocks(up: str) -> None:
    image, truth = blocks(32, 30, side=4)
    net = copying(data() + pooling("p", "x", 4) + convolution("c", "p") + up)
    np.testing.assert_array_equal(Labeller(net, mean=MEAN)(image), truth)


@pytest.mark.parametrize("up", ["Upsample", "Unpooling"])
def test_unpooling_leads_back_to_the_pixels_that_were_pooled(up: str) -> None:
    """As in SegNet and DeconvNet: the maxima come out where they were, the rest is 0."""
    options = {"Upsample": "upsample_param { scale: 2 }",
               "Unpooling": "unpooling_param { kernel_size: 2 stride: 2 unpool_size: 32 }"}[up]
    pool = ('layer { name: "p" type: "Pooling" bottom: "c" top: "p" top: "m" pooling_param '
            "{ kernel_size: 2 stride: 2 } }\n")
    image = RNG.integers(1, 255, (31, 32, 3)).astype(np.uint8)
    net = copying(data() + convolution("c", "x") + pool + layer("y", up, "p m", options))
    red = np.pad(image[..., 0], ((0, 1), (0, 0))).astype(int)  # class 1's score
    largest = red.reshape(16, 2, 16, 2).max((1, 3)).repeat(2, 0).repeat(2, 1)
    labels = Labeller(net, mean=(0, 0, 0))(image)
    np.testing.assert_array_equal(labels[labels == 1], (red == largest)[:31][labels == 1])
    assert labels.sum() >= 16 * 15


def test_coarse_scores_are_interpolated_between_their_centres() -> None:
    """Of every second pixel, or of the means of pairs: the ramps between are straight."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 20:] = 255
    every_second = copying(data() + convolution("y", "x", 2, "kernel_size: 1 stride: 2"))
    labels = Labeller(every_second, mean=(0.3 * 255,) * 3)(image)
    # between pixel 18 (0) and 20 (255) pixel 19 has half: above three tenths
    assert np.flatnonzero(labels[5]).tolist() == list(range(19, 32))
    pairs = copying(data() + convolution("c", "x") + layer(
        "y", "Pooling", "c", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"))
    for part, first in ((0.2, 19), (0.3, 20), (0.7, 20), (0.8, 21)):
        # centres at 18.5 (0) and 20.5 (255): pixel 19 has a quarter, 20 three quarters
        labels = Labeller(pairs, mean=(part * 255,) * 3)(image)
        assert np.flatnonzero(labels[5])[0] == first, part


def test_bilinear_enlargement_is_taken_as_it_lies() -> None:
    """As FCN's: windows of 2 f, stride f, cut from the middle."""
    image = np.zeros((50, 40, 3), np.uint8)
    image[:, 16:] = 255
    text = (convolution("c", "x", 2, "kernel_size: 1 pad: 12")
            + layer("p", "Pooling", "c", "pooling_param { pool: AVE kernel_size: 4 stride: 4 }")
            + enlarging("y", "p", 4, "bilinear", 8))
    labels = Labeller(copying(data() + text), mean=MEAN)(image)
    np.testing.assert_array_equal(labels, np.indices((50, 40))[1] >= 16)


def test_sizes_that_fit_are_found() -> None:
    """Like U-Net, a border is left out, and halves must meet: only even sizes go."""
    text = (data(34, 34) + convolution("a", "x", 2, "kernel_size: 3") + pooling("p", "a", 2)
            + enlarging("u", "p", 2) + layer("y", "Eltwise", "u a"))
    label = Labeller(copying(text), mean=MEAN)
    for size in ((32, 32), (30, 9), (47, 33), (50, 64)):
        image, truth = blocks(*size, side=2)
        np.testing.assert_array_equal(label(image), truth)


def test_pictures_do_not_depend_on_those_before() -> None:
    text = data() + convolution("y", "x", 2, "kernel_size: 3 pad: 1")
    label = Labeller(copying(text), mean=MEAN)
    label(blocks(60, 40)[0])
    label(blocks(9, 9)[0])
    assert label.net.blobs["x"].shape == (1, 3, 32, 32)


FIXED = (convolution("c", "x") + 'layer { name: "z" type: "DummyData" top: "z" dummy_data_param '
         "{ shape { dim: 1 dim: 2 dim: 32 dim: 32 } } }\n" + layer("y", "Eltwise", "c z"))


def test_a_network_of_one_size_says_so() -> None:
    label = Labeller(copying(data() + FIXED), mean=MEAN)
    image, truth = blocks(30, 32)
    np.testing.assert_array_equal(label(image), truth)
    for size in ((33, 32), (480, 640)):
        message = rf"image: .* fits the 32 x 32 pixels .*got {size[0]} x {size[1]} .*bottoms differ"
        with pytest.raises(ValueError, match=message):
            label(blocks(*size)[0])
    np.testing.assert_array_equal(label(image), truth)
    inner = convolution("c", "x") + layer("y", "InnerProduct", "c", "inner_product_param "
                                          "{ num_output: 2 }") + layer(
        "r", "Reshape", "y", "reshape_param { shape { dim: 1 dim: 2 dim: 1 dim: 1 } }")
    with pytest.raises(ValueError, match=r"parameter 0 has shape \(2, 2048\), these bottoms need"):
        Labeller(Net(data() + inner), stretch=True)(blocks(40, 40)[0])


def test_scores_of_unknown_place_can_be_stretched() -> None:
    shape = "dim: 1 dim: 12 dim: 16 dim: 16"
    shuffled = layer("r", "Reshape", "x", f"reshape_param {{ shape {{ {shape} }} }}")
    net = copying(data() + shuffled + convolution("y", "r"))
    image = blocks(32, 32)[0]
    with pytest.raises(ValueError, match="stretch: the layers between do not tell"):
        Labeller(net, mean=MEAN)(image)
    labels = Labeller(net, mean=MEAN, stretch=True)(image)
    y = net.blobs["y"].data[0].argmax(0)
    assert labels.shape == (32, 32)
    assert [labels[0, 0], labels[0, 31], labels[31, 0], labels[31, 31]] == [
        y[0, 0], y[0, 15], y[15, 0], y[15, 15]]


TWO = convolution("y", "x")
ONE = convolution("s", "x", 1, "kernel_size: 5 pad: 2")


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        (ONE + layer("y", "Sigmoid", "s"), None),
        (ONE + layer("p", "Sigmoid", "s") + layer("y", "Crop", "p x", "crop_param {}"), None),
        (ONE, 0.0),
        (ONE + layer("y", "Power", "s", "power_param { scale: 2 shift: 100 }"), 100.0),
        (convolution("s", "x") + layer("y", "ArgMax", "s", "argmax_param { axis: 1 }"), None),
    ],
)
def test_one_channel_of_scores_parts_two_classes(text: str, threshold: float | None) -> None:
    image, truth = blocks(40, 21)
    label = Labeller(copying(data() + text), mean=MEAN, threshold=threshold)
    np.testing.assert_array_equal(label(image), truth)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (data() + ONE, {}, "threshold: expected the score above which .* blob 's' has one channel"),
        (data() + TWO, {"threshold": 0.5}, "threshold: is for one channel .* got 2"),
        (data() + TWO, {"blob": "z"}, "blob: expected one of the network's, got 'z'"),
        (data() + TWO, {"mean": [1, 2]}, r"mean: expected 3 finite numbers, got"),
        (data() + TWO, {"mean": [1, 2, np.nan]}, "mean: expected 3 finite numbers"),
        (data(channels=1) + TWO, {}, "mean: expected that of the grey images"),
        (data(channels=4) + TWO, {}, r"input 'x': expected images \(N, 3, H, W\), got"),
        (data() + data().replace('"x"', '"z"') + layer("y", "Eltwise", "x z"), {},
         "blob 'y': expected scores that depend on one input, the image, got x, z"),
        (data() + layer("y", "InnerProduct", "x", "inner_product_param { num_output: 3 }"), {},
         r"blob 'y': expected scores \(N, C, H, W\), got \(1, 3\)"),
    ],
)
def test_what_cannot_be_known_is_asked(text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labeller(Net(text), **options)


def test_what_goes_in() -> None:
    image = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    net = copying(data(16, 16) + convolution("y", "x"))
    Labeller(net, mean=(1, 2, 3), scale=0.5)(image)
    want = np.zeros((3, 16, 16))
    for channel, (colour, mean) in enumerate(((2, 1), (1, 2), (0, 3))):  # blue, green, red
        want[channel, :9, :11] = (image[..., colour] - float(mean)) / 2
    np.testing.assert_array_equal(net.blobs["x"].data[0], want)
    Labeller(net)(image)
    np.testing.assert_allclose(net.blobs["x"].data[0, :, 0, 0],
                               image[0, 0, ::-1] - np.array([104.008, 116.669, 122.675]), 1e-5)
    grey = copying(data(9, 11, 1) + convolution("y", "x"))
    Labeller(grey, mean=[10])(image)
    weights = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    np.testing.assert_allclose(grey.blobs["x"].data[0, 0], weights - 10, atol=0.51)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    image, truth = blocks(20, 24)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "truth.npy", truth)
    return tmp_path


def test_the_program(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "net.prototxt").write_text(data() + ONE)
    copying(data() + ONE).save(files / "w.caffemodel")
    call = ["caffe", "run", files / "net.prototxt", files / "w.caffemodel", files / "a.png", "-o",
            files / "out"]
    assert "threshold" in fails(capsys, *call)
    run(capsys, *call, "--threshold", "0", "--mean", "127.5,127.5,127.5")
    labels = np.asarray(Image.open(files / "out" / "a.png"))
    np.testing.assert_array_equal(labels, np.load(files / "truth.npy"))
    mean = np.full((1, 3, 4, 4), 127.5, "<f4")
    mean[..., :2], mean[..., 2:] = 100, 155  # binaryproto: num, channels, height, width, data
    (files / "mean.binaryproto").write_bytes(
        bytes([8, 1, 16, 3, 24, 4, 32, 4, 42, 192, 1]) + mean.tobytes())
    run(capsys, *call, "--threshold", "0", "--mean", files / "mean.binaryproto")
    np.testing.assert_array_equal(np.asarray(Image.open(files / "out" / "a.png")), labels)
    assert "expected a finite number" in fails(capsys, *call, "--mean", "1,b,3")


def test_the_program_runs_no_layer_without_its_weights(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = data() + convolution("a", "x") + convolution("y", "a")
    (files / "net.prototxt").write_text(text)
    copying(data() + convolution("a", "x")).save(files / "w.npz")
    call = ["caffe", "run", files / "net.prototxt", files / "w.npz", files / "a.png", "-o",
            files / "out"]
    assert "expected weights of all layers, got none of 'y'" in fails(capsys, *call)
    assert not list(files.glob("out/*"))
    assert main([*map(str, call), "--partial"]) == 0
    assert "loaded: 'a'; left as they were" in capsys.readouterr().err
    assert (files / "out" / "a.png").exists()
