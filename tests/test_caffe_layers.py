"""Every layer type as an operation: gradients proved, results against formulas told here."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segaware_np.caffe import Net
from segaware_np.caffe.layers.base import TYPES, Layer
from segaware_np.files import FormatError
from segaware_np.testing import check_gradients

RNG = np.random.default_rng(12)
X, PAIR = (2, 4, 5, 6), [(2, 4, 5, 6)] * 2
WINDOW = "convolution_param { kernel_size: 3 kernel_size: 2 pad: 2 pad: 1 stride: 1 stride: 2 }"
CONV = "num_output: 6 group: 2 kernel_size: 3 kernel_size: 2 pad: 2 pad: 1 stride: 1 stride: 2"
SAME = "convolution_param { kernel_size: 3 pad: 1 }"
CRF = ("num_iterations: 2 scale: 1 kernel_size: 3 pad: 1 dilation: 1 "
       "remove_center: true remove_bounds: true ")

PLACES = np.stack([RNG.permutation(10 * 12)[:30] for _ in range(8)]).reshape(X)

# type, options, shapes of the bottoms; integer bottoms are given as arrays
CASES: list[tuple[str, str, list]] = [
    ("AbsVal", "", [X]),
    ("Axpy", "", [(2, 4, 1, 1), X, X]),
    ("BN", "bn_param { bn_mode: LEARN }", [X]),
    ("BN", "bn_param { bn_mode: INFERENCE }", [X]),
    ("BN", "bn_param { frozen: true }", [X]),
    ("BN", "bn_param { frozen: false }", [X]),
    ("BN", "phase: TEST bn_param { momentum: 0.9 }", [X]),
    ("BNLL", "", [X]),
    ("BiasChannel", "", [X, np.array([[1, 2], [3, 0]])]),
    ("BatchNorm", "phase: TEST batch_norm_param { use_global_stats: false }", [X]),
    ("BatchNorm", "batch_norm_param { use_global_stats: true }", [X]),
    ("Bias", "", [X]),
    ("Bias", "bias_param { axis: -2 }", [X, (5, 6)]),
    ("ChannelReduce", "channel_reduce_param { num_channels: 2 }", [X]),
    ("ChannelReduce", "channel_reduce_param { operation: SUM }", [X]),
    ("Concat", "", [(2, 1, 3), (2, 4, 3), (2, 2, 3)]),
    ("Concat", "concat_param { axis: -1 }", [(2, 3, 1), (2, 3, 4)]),
    ("ContrastiveLoss", "contrastive_loss_param { legacy_version: true margin: 9 }",
     [(4, 3), (4, 3), np.array([0, 1, 0, 1])]),
    ("Convolution", f"convolution_param {{ {CONV} }}", [X]),
    ("Convolution", "convolution_param { num_output: 3 kernel_size: 2 bottom_is_im2col: true }",
     [(2, 8, 3, 4)]),
    *((name, "convolution_param { num_output: 4 kernel_size: 3 }", [X])
      for name in ("ConvolutionDepthwise", "DepthwiseConvolution")),
    ("Crop", "crop_param { offset: 1 offset: 2 }", [X, np.zeros((1, 1, 3, 2), int)]),
    ("Crop", "crop_param { axis: 1 offset: 2 }", [X, np.zeros((1, 2, 3, 4), int)]),
    ("Deconvolution", f"convolution_param {{ {CONV} }}", [X]),
    ("Deconvolution", "convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 "
                      "pad: 1 bias_term: false }", [X]),
    ("Dropout", "dropout_param { dropout_ratio: 0.3 }", [X]),
    ("ELU", "elu_param { alpha: 0.7 }", [X]),
    ("Eltwise", "eltwise_param { coeff: 2 coeff: -1 coeff: 1 }", [*PAIR, X]),
    ("Eltwise", "eltwise_param { operation: PROD }", [*PAIR, X]),
    ("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", PAIR),
    ("Eltwise", "eltwise_param { operation: MAX }", [*PAIR, X]),
    ("EuclideanLoss", "", PAIR),
    ("Exp", "exp_param { base: 2 scale: -0.5 shift: 0.5 }", [X]),
    ("Flatten", "flatten_param { axis: 1 end_axis: 2 }", [X]),
    ("HingeLoss", "", [(4, 5), RNG.integers(0, 5, 4)]),
    ("HingeLoss", "hinge_loss_param { norm: L2 }", [(4, 5), RNG.integers(0, 5, (4, 1))]),
    ("Im2col", WINDOW, [X]),
    ("Im2dist", f"{WINDOW} im2dist_param {{ norm: L2 }}", [X]),
    ("InfogainLoss", "loss_param { ignore_label: 2 }",
     [X, RNG.integers(0, 4, (2, 5, 6)), RNG.integers(0, 3, (4, 4))]),
    ("InnerProduct", "inner_product_param { num_output: 3 axis: 2 }", [X]),
    ("InnerProduct", "inner_product_param { num_output: 3 transpose: true }", [X]),
    ("Interp", "interp_param { zoom_factor: 3 shrink_factor: 2 pad_beg: -1 }", [X]),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.4 beta: 0.6 k: 2 }", [X]),
    ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.4 }", [X]),
    ("Log", "log_param { base: 2 scale: 0.1 shift: 3 }", [X]),
    ("MVN", "", [X]),
    ("MVN", "mvn_param { across_channels: true eps: 0.1 }", [X]),
    ("MVN", "mvn_param { normalize_variance: false }", [X]),
    ("MultinomialLogisticLoss", "", [RNG.uniform(0.1, 0.9, (4, 5)), RNG.integers(0, 5, 4)]),
    ("NormConv", f"{SAME.replace('{', '{ num_output: 4 ')} norm_conv_param "
                 "{ norm: L2 remove_center: true scale_filler { value: 0.3 } }",
     [(1, 4, 4, 3), (1, 2, 4, 3)]),
    ("NormConvMeanfield", f"norm_conv_meanfield_param {{ {CRF} {CRF[18:]} }}",
     [(1, 3, 3, 3), (1, 3, 3, 3), (1, 2, 3, 3), (1, 2, 3, 3)]),
    ("NospConvMeanfield", f"norm_conv_meanfield_param {{ {CRF} }}",
     [(1, 3, 3, 3), (1, 3, 3, 3), (1, 2, 3, 3)]),
    ("PReLU", "", [X]),
    ("PReLU", "prelu_param { channel_shared: true filler { value: -0.4 } }", [X]),
    ("Padding", "padding_param { pad_beg: 1 pad_end: 2 }", [X]),
    ("Padding", "padding_param { pad_beg: -1 pad_end: -2 }", [X]),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", [X]),
    ("Pooling", 'pooling_param { kernel_size: 2 stride: 2 } top: "places"', [X]),
    ("Pooling", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", [X]),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 ceil_mode: false }", [X]),
    ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [X]),
    ("Power", "power_param { power: 3 scale: 0.5 shift: 1 }", [X]),
    ("ReLU", "", [X]),
    ("ReLU", "relu_param { negative_slope: 0.1 }", [X]),
    *((("Reduction", f"reduction_param {{ operation: {name} axis: {axis} coeff: 1.5 }}", [X]))
      for name, axis in zip(("SUM", "ASUM", "SUMSQ", "MEAN"), (0, 1, -1, 2), strict=True)),
    ("Replicate", "replicate_param { num_copies: 3 axis: 2 }", [X]),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }", [X]),
    ("Scale", "scale_param { bias_term: true num_axes: 2 }", [X]),
    ("Scale", "scale_param { axis: 0 }", [X, (2, 4)]),
    ("Scale", "scale_param { num_axes: 0 }", [X]),
    ("Sigmoid", "", [X]),
    ("SigmoidCrossEntropyLoss", "", [X, RNG.integers(0, 2, X)]),
    ("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 1 normalization: VALID }",
     [X, RNG.integers(0, 2, X)]),
    ("Slice", 'slice_param { slice_point: 1 slice_point: 3 } top: "z" top: "w"', [X]),
    ("Softmax", "softmax_param { axis: 2 }", [X]),
    ("SoftmaxWithLoss", "loss_param { ignore_label: 2 }", [X, RNG.integers(0, 4, (2, 5, 6))]),
    ("SpatialProduct", "", [X, (2, 1, 5, 6)]),
    ("Split", 'top: "z"', [X]),
    ("TanH", "", [X]),
    ("Tile", "tile_param { axis: 2 tiles: 3 }", [X]),
    ("Unpooling", "unpooling_param { kernel_size: 2 stride: 2 unpool_h: 10 unpool_w: 12 }",
     [X, PLACES]),
    *(("Unpooling", f"unpooling_param {{ unpool: {name} kernel_size: 3 stride: 2 "
                    "unpool_size: 12 }", [X]) for name in ("MAX", "AVE", "TILE")),
    ("Upsample", "upsample_param { scale: 2 }", [X, PLACES]),
    ("Upsample", "upsample_param { upsample_h: 11 upsample_w: 13 }", [X, PLACES]),
    ("Upsample", "upsample_param { scale_h: 3 scale_w: 2 pad_out_w: true }", [X]),
]
# Nothing flows back through these ...
STOPS: list[tuple[str, str, list]] = [
    ("Accuracy", "accuracy_param { ignore_label: 255 top_k: 2 }", [X, (2, 1, 5, 6)]),
    ("ArgMax", "argmax_param { axis: 2 top_k: 3 out_max_val: true }", [X]),
    ("ArgMax", "argmax_param { out_max_val: true }", [X]),
    ("EltwiseAccuracy", "eltwise_accuracy_param { ignore_label: 255 }", [X, (2, 1, 5, 6)]),
    ("Im2parity", f"{WINDOW} im2parity_param {{ ignore_label: 255 }}", [X]),
    ("SegAccuracy", "seg_accuracy_param { ignore_label: 255 }", [X, (2, 1, 5, 6)]),
    ("Threshold", "threshold_param { threshold: 0.5 }", [X]),
]
# ... and what does through this one is the gradient of another loss than the one it reports.
SPLIT: list[tuple[str, str, list]] = [
    ("DistLoss", "dist_loss_param { alpha: 0.5 beta: 2 ignore_label: 255 }", PAIR)]
SOURCES = {"Data", "DenseImageData", "DummyData", "HDF5Data", "ImageData", "ImageLabelmapData",
           "ImageSegData", "Input", "MemoryData", "TwoImageData", "WindowData",
           "WindowSegData"}
ELSEWHERE = {"AutoCrop", "MatWrite", "Silence"}  # nothing to prove here
MEASURES = {"Accuracy", "EltwiseAccuracy", "SegAccuracy"}  # their second bottom holds labels
EVERY = [*CASES, *STOPS, *SPLIT]


def away_from_kinks(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that all differ, none of them near 0 or 1 (where hinges have their kinks)."""
    return (RNG.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) // 2 + 0.37) / 13.7


def description(type_: str, options: str, bottoms: list) -> str:
    """A network of one layer."""
    shapes = [b.shape if isinstance(b, np.ndarray) else b for b in bottoms]
    inputs = "".join(
        f'input: "b{i}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }} '
        for i, shape in enumerate(shapes)
    )
    read = " ".join(f'bottom: "b{i}"' for i in range(len(bottoms)))
    return (f"force_backward: true {inputs}"
            f'layer {{ name: "l" type: "{type_}" {read} top: "y" {options} }}')


def single(type_: str, options: str, bottoms: list) -> Layer:
    """The only layer of a network, with parameters drawn anew."""
    net = Net(description(type_, options, bottoms), phase="TRAIN", dtype="float64")
    layer = net._graph.steps[-1].layer
    for blob in layer.params:
        blob.data[...] = RNG.uniform(0.5, 1.5, blob.data.shape)
    layer.context.passes = 1
    return layer


@pytest.mark.parametrize(("type_", "options", "bottoms"), CASES,
                         ids=[f"{type_}-{i}" for i, (type_, *_) in enumerate(CASES)])
def test_gradients(type_: str, options: str, bottoms: list) -> None:
    """Of every bottom and every parameter, entry by entry, by the complex step."""
    layer = single(type_, options, bottoms)
    arrays = [b if isinstance(b, np.ndarray) else away_from_kinks(b) for b in bottoms]
    learned = [blob for blob in layer.params if blob.wanted]  # others are statistics

    def forward(*inputs: np.ndarray) -> tuple[np.ndarray, Any]:
        for blob, value in zip(learned, inputs[len(arrays) :], strict=True):
            blob.data = value
        tops, cache = layer.forward(*inputs[: len(arrays)])
        return np.concatenate([np.ravel(top) for top in tops]), (cache, [np.shape(t) for t in tops])

    def backward(dy: np.ndarray, cache: Any) -> tuple:
        inner, shapes = cache
        cuts = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
        dtops = [d.reshape(s) for d, s in zip(np.split(dy, cuts), shapes, strict=True)]
        dbottoms, dparams = layer.backward(dtops, inner, [True] * len(arrays))
        wanted = [d for d, blob in zip(dparams, layer.params, strict=True) if blob.wanted]
        return (*dbottoms, *wanted)

    inputs = [*arrays, *(blob.data for blob in learned)]
    check_gradients(forward, backward, inputs, method="complex", rtol=1e-11)


@pytest.mark.parametrize(("type_", "options", "bottoms"), EVERY,
                         ids=[f"{type_}-{i}" for i, (type_, *_) in enumerate(EVERY)])
def test_asking_for_shapes_changes_nothing(
    type_: str, options: str, bottoms: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for another batch and back, a layer is as it was, and goes by what it is given."""
    layer = single(type_, options, bottoms)
    arrays = [b if isinstance(b, np.ndarray) else away_from_kinks(b) for b in bottoms]
    shapes = [array.shape for array in arrays]
    batch, written = shapes[0][0], []
    with monkeypatch.context() as watch:
        watch.setattr(Layer, "__setattr__", lambda self, name, value: written.append(name))
        want = layer.shapes(*shapes)
        assert layer.shapes(*((2 * batch, *s[1:]) if s[0] == batch else s for s in shapes))
    assert written == []
    if type_ in MEASURES:
        arrays[1] = np.zeros(shapes[1])
    assert [np.shape(top) for top in layer.forward(*arrays)[0]] == want


@pytest.mark.parametrize(("type_", "options", "bottoms"), EVERY,
                         ids=[f"{type_}-{i}" for i, (type_, *_) in enumerate(EVERY)])
def test_nothing_is_written_into_what_is_read(type_: str, options: str, bottoms: list) -> None:
    layer = single(type_, options, bottoms)
    arrays = [np.array(b, float) if isinstance(b, np.ndarray) else away_from_kinks(b)
              for b in bottoms]
    if type_ in MEASURES:
        arrays[1][...] = 0
    for array in arrays:
        array.flags.writeable = False
    tops, cache = layer.forward(*arrays)
    if not layer.stops:
        dtops = [np.ones(np.shape(top)) for top in tops]
        for array in dtops:
            array.flags.writeable = False
        layer.backward(dtops, cache, [True] * len(arrays))


def test_every_type_is_here() -> None:
    assert {type_ for type_, *_ in EVERY} | SOURCES | ELSEWHERE == TYPES.keys()
    assert all(TYPES[name].stops for name in SOURCES.union(type_ for type_, *_ in STOPS))


def test_every_type_is_in_the_guide() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "howto" / "caffe.md").read_text("utf-8")
    assert not [name for name in TYPES if f"`{name}`" not in guide]


# -- results --------------------------------------------------------------------------------------


def run(type_: str, options: str, *bottoms: np.ndarray, tops: int = 1) -> Any:
    """Tops of a single layer, in phase TEST."""
    more = 'top: "z" ' if tops == 2 else ""
    net = Net(description(type_, more + options, list(bottoms)), dtype="float64")
    out = net.forward({f"b{i}": b for i, b in enumerate(bottoms)})
    return out["y"] if tops == 1 else (out["y"], out["z"])


V = np.array([[-800.0, -2.0, -0.5], [0.0, 1.5, 800.0]])


@pytest.mark.parametrize(
    ("type_", "options", "formula"),
    [
        ("BNLL", "", lambda v: v if v > 50 else np.log1p(np.exp(v))),
        ("ELU", "elu_param { alpha: 2 }", lambda v: v if v > 0 else 2 * (np.exp(v) - 1)),
        ("PReLU", "", lambda v: v if v > 0 else 0.25 * v),
        ("Sigmoid", "", lambda v: 0.0 if v < -700 else 1 / (1 + np.exp(-v))),
        ("Threshold", "threshold_param { threshold: 0.5 }", lambda v: float(v > 0.5)),
        ("Log", "log_param { base: 10 scale: 2 shift: 1700 }", lambda v: np.log10(1700 + 2 * v)),
    ],
)
def test_neurons(type_: str, options: str, formula: Any) -> None:
    want = [[formula(v) for v in row] for row in V.tolist()]
    np.testing.assert_allclose(run(type_, options, V), want, 1e-6)  # options have 32 bits


def test_pooling_windows_larger_than_the_image() -> None:
    """By the formula with ceil a 3x3 window of stride 2 goes once on 2x2 pixels."""
    x = np.array([[[[1.0, 2.0], [3.0, 6.0]]]])
    for kind, want in (("MAX", 6), ("AVE", 3)):
        y = run("Pooling", f"pooling_param {{ pool: {kind} kernel_size: 3 stride: 2 }}", x)
        assert y.tolist() == [[[[want]]]]
    with pytest.raises(FormatError, match="spans 3 pixels, more than the padded height 2"):
        run("Pooling", "pooling_param { kernel_size: 3 stride: 1 }", x)


def test_lrn() -> None:
    x = RNG.normal(size=(2, 5, 4, 3))
    y = run("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 2 k: 3 }", x)
    z = run("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 2 norm_region: WITHIN_CHANNEL }", x)
    for n, c, i, j in product(*map(range, x.shape)):
        across = (x[n, max(c - 1, 0) : c + 2, i, j] ** 2).sum() / 3
        within = (x[n, c, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] ** 2).sum() / 9
        assert y[n, c, i, j] == pytest.approx(x[n, c, i, j] / (3 + 0.5 * across) ** 2)
        assert z[n, c, i, j] == pytest.approx(x[n, c, i, j] / (1 + 0.5 * within) ** 2)


def test_bilinear_deconvolution_enlarges() -> None:
    """The usual layer for it: of a linear ramp the inside stays linear, at half the step."""
    ramp = np.arange(6.0) + 10 * np.arange(5.0)[:, None]
    x = np.stack([ramp, -ramp])[None]
    y = run("Deconvolution", 'convolution_param { num_output: 2 group: 2 kernel_size: 4 stride: 2 '
                             'pad: 1 bias_term: false weight_filler { type: "bilinear" } }', x)
    assert y.shape == (1, 2, 10, 12)
    np.testing.assert_allclose(np.diff(y[0, 0, 1:-1, 1:-1], axis=1), 0.5)
    np.testing.assert_allclose(np.diff(y[0, 1, 1:-1, 1:-1], axis=0), -5)


def test_crop_and_reduction() -> None:
    x = RNG.normal(size=(2, 3, 5, 6))
    like = np.zeros((1, 1, 2, 3))
    np.testing.assert_array_equal(run("Crop", "crop_param { offset: 2 offset: 3 }", x, like),
                                  x[:, :, 2:4, 3:6])
    np.testing.assert_array_equal(run("Crop", "", x, like), x[:, :, :2, :3])
    for operation, function in (("SUM", np.sum), ("MEAN", np.mean),
                                ("ASUM", lambda a, axis: np.abs(a).sum(axis)),
                                ("SUMSQ", lambda a, axis: (a**2).sum(axis))):
        y = run("Reduction", f"reduction_param {{ operation: {operation} axis: 1 coeff: 3 }}", x)
        np.testing.assert_allclose(y, 3 * function(x, axis=(1, 2, 3)))


def test_argmax_prefers_the_last_of_equals() -> None:
    x = np.array([[[3.0, 1.0], [3.0, 7.0], [2.0, 7.0]]])  # (1, 3, 2)
    np.testing.assert_array_equal(run("ArgMax", "argmax_param { axis: 1 }", x), [[[1, 2]]])
    np.testing.assert_array_equal(run("ArgMax", "argmax_param { axis: 1 top_k: 2 }", x),
                                  [[[1, 2], [0, 1]]])
    np.testing.assert_array_equal(
        run("ArgMax", "argmax_param { axis: 1 top_k: 2 out_max_val: true }", x),
        [[[3, 7], [3, 7]]])
    np.testing.assert_array_equal(run("ArgMax", "argmax_param { top_k: 3 }", x), [[[5, 3, 2]]])
    np.testing.assert_array_equal(
        run("ArgMax", "argmax_param { out_max_val: true }", x[..., None]), [[[[5]], [[7]]]])


def test_accuracy_counts_by_rank() -> None:
    score = np.array([[3.0, 3.0, 1.0], [0.0, 2.0, 5.0], [1.0, 1.0, 1.0], [9.0, 0.0, 0.0]])
    labels = np.array([0, 1, 2, 255])
    ignore = "accuracy_param { ignore_label: 255"
    whole, each = run("Accuracy", f"{ignore} }}", score, labels, tops=2)
    assert whole == pytest.approx(1 / 3)  # the tie of the first is lost to class 1
    np.testing.assert_array_equal(each, [0, 0, 1])
    assert run("Accuracy", f"{ignore} top_k: 2 }}", score, labels) == 1
    assert run("Accuracy", "", score, labels) == 1 / 4  # 255 counts, and nobody says it


def test_losses() -> None:
    x, t = RNG.normal(0, 3, (2, 3, 4)), RNG.integers(0, 2, (2, 3, 4)).astype(float)
    p = 1 / (1 + np.exp(-x))
    terms = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    loss = run("SigmoidCrossEntropyLoss", "", x, t)
    assert loss == pytest.approx(terms.sum() / 2)
    loss = run("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 0 normalize: true }", x, t)
    assert loss == pytest.approx(terms[t == 1].mean())
    assert run("SigmoidCrossEntropyLoss", "", np.array([[900.0, -900]]), np.array([[0, 1]])) == 1800
    score, labels = RNG.normal(size=(3, 4)), np.array([2, 0, 3])
    h = np.array([[max(0, 1 + (-v if k == label else v)) for k, v in enumerate(row)]
                  for row, label in zip(score, labels, strict=True)])
    assert run("HingeLoss", "", score, labels) == pytest.approx(h.sum() / 3)
    assert run("HingeLoss", "hinge_loss_param { norm: L2 }", score, labels) == pytest.approx(
        (h**2).sum() / 3)
    with pytest.raises(ValueError, match="a label is not one of 4 classes"):
        run("HingeLoss", "", score, labels + 2)


@pytest.mark.parametrize(
    ("type_", "options", "bottoms", "message"),
    [
        ("ArgMax", "argmax_param { axis: 1 top_k: 9 }", [X], "top_k: expected 1 to 4, got 9"),
        ("Crop", "crop_param { offset: 3 }", [X, (1, 1, 3, 3)], "reaches beyond"),
        ("Crop", "crop_param { offset: 1 offset: 1 offset: 1 }", [X, X], "3 offsets"),
        ("Deconvolution", "convolution_param { num_output: 3 kernel_size: 1 pad: 4 }", [X],
         "expected an image with something left but padding"),
        ("LRN", "lrn_param { local_size: 4 }", [X], "local_size: expected an odd number, got 4"),
        ("PReLU", "", [(3,)], "expected a bottom with channels"),
        ("BatchNorm", "", [(3,)], "expected a bottom with channels"),
        ("Log", "log_param { base: -3 }", [X], "base: expected a positive number or -1 for e"),
        ("Accuracy", "accuracy_param { top_k: 0 }", [X, (2, 5, 6)], "top_k: expected at least 1"),
        ("HingeLoss", "", [(4, 5), (3,)], "labels .* are not one for each sample"),
        ("SigmoidCrossEntropyLoss", "", [(4, 5), (4,)], "differ in size"),
        ("AbsVal", "blobs { shape { dim: 1 } }", [X], "blobs are read from caffemodels"),
    ],
)
def test_what_does_not_fit(type_: str, options: str, bottoms: list, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        single(type_, options, bottoms)
