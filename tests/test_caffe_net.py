"""What a network does beyond its numbers: names, shapes, sharing, versions, fusion, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net
from segaware_np.caffe.fusion import FusedStep
from segaware_np.caffe.weights import read_layers, write_layers
from segaware_np.files import FormatError, save_arrays

RNG = np.random.default_rng(5)


def data(n: int = 1, c: int = 2, h: int = 4, w: int = 5) -> str:
    return f'input: "x" input_shape {{ dim: {n} dim: {c} dim: {h} dim: {w} }}\n'


def conv(name: str, bottom: str, options: str = "kernel_size: 3 pad: 1", more: str = "") -> str:
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {more} '
            f"convolution_param {{ num_output: 3 {options} "
            'weight_filler { type: "xavier" } } }\n')


def layer(name: str, type_: str, bottoms: str, options: str = "", top: str | None = None) -> str:
    read = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    return f'layer {{ name: "{name}" type: "{type_}" {read} top: "{top or name}" {options} }}\n'


CHAIN = (
    'input: "x" input_shape { dim: 2 dim: 3 dim: 6 dim: 7 }\n'
    'input: "e" input_shape { dim: 2 dim: 2 dim: 6 dim: 7 }\n'
    + layer("d", "Im2dist", "e", "convolution_param { kernel_size: 3 pad: 1 } "
                                 "im2dist_param { norm: L1 remove_bounds: true }")
    + layer("w", "Scale", "d", 'scale_param { num_axes: 0 filler { value: 0.3 } }')
    + layer("a", "AbsVal", "w")
    + layer("m", "Exp", "a", "exp_param { scale: -1 }")
    + layer("t", "Tile", "m", "tile_param { tiles: 3 }")
    + layer("col", "Im2col", "x", "convolution_param { kernel_size: 3 pad: 1 }")
    + layer("hit", "Eltwise", "col t", "eltwise_param { operation: PROD }")
    + conv("y", "hit", "kernel_size: 3 bottom_is_im2col: true")
)


def fused_names(net: Net) -> list[str]:
    return [s.layer.name for s in net._engine.steps if isinstance(s, FusedStep)]


def inputs_of(net: Net) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=net.blobs[name].shape) for name in net.inputs}


def run_both(text: str, top: str = "y") -> tuple[Net, Net]:
    """The same network, fused and literal, after the same passes."""
    nets = [Net("force_backward: true\n" + text, dtype="float64", fuse=fuse)
            for fuse in (True, False)]
    arrays = inputs_of(nets[0])
    dy = RNG.normal(size=nets[0].blobs[top].shape)
    for net in nets:
        net.forward(arrays)
        net.backward({top: dy})
    return nets[0], nets[1]


def test_summary() -> None:
    net = Net('''
        input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
        layer { name: "c" type: "Convolution" bottom: "x" top: "y"
                convolution_param { num_output: 7 kernel_size: 1 } }
        layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
        layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "d" }''')
    head, *rows, last = net.summary().splitlines()
    assert head.split() == ["layer", "type", "top", "shape", "parameters", "fused", "into"]
    assert [row.split() for row in rows] == [
        ["c", "Convolution", "y", "2x7x4x5", "28"], ["r", "ReLU", "y", "2x7x4x5"],
        ["s", "Slice", "a", "b", "d", "2x1x4x5", "2x1x4x5", "2x1x4x5"]]
    size = (280 + 280 + 3 * 40) * 4 / 2**20
    assert last == f"28 parameters (0.0 MiB); blobs {size:.1f} MiB"


def test_fused_chain_shows_every_blob() -> None:
    fused, literal = run_both(CHAIN)
    assert fused_names(fused) == ["y"]
    assert fused_names(literal) == []
    for name in literal.blobs:
        np.testing.assert_allclose(fused.blobs[name].data, literal.blobs[name].data, 1e-12)
        np.testing.assert_allclose(fused.blobs[name].diff, literal.blobs[name].diff, 1e-12, 1e-13)
    for name, blob in literal.learned().items():
        # asking for hidden gradients ran backward again: it must not have counted twice
        np.testing.assert_allclose(fused.learned()[name].diff, blob.diff, 1e-12)


def test_gradient_may_start_inside_a_fused_chain() -> None:
    fused, literal = run_both(CHAIN, top="hit")
    for name in ("x", "e", "d", "t"):
        np.testing.assert_allclose(fused.blobs[name].diff, literal.blobs[name].diff, 1e-12, 1e-13)


@pytest.mark.parametrize(
    ("change", "fuses"),
    [
        (lambda t: t, True),
        (lambda t: t.replace('bottom: "col" bottom: "t"', 'bottom: "t" bottom: "col"'), True),
        (lambda t: t + layer("again", "AbsVal", "hit"), False),  # somebody reads the product
        (lambda t: t + layer("again", "AbsVal", "t"), False),
        (lambda t: t.replace("operation: PROD", "operation: SUM"), False),
        (lambda t: t.replace('top: "t"', 'top: "t" loss_weight: 2'), False),
        (lambda t: t + layer("hit2", "Eltwise", "col t", "eltwise_param { operation: PROD }")
         + conv("y2", "hit2", "kernel_size: 3 bottom_is_im2col: true"), True),  # shared columns
        (lambda t: t.replace(layer("t", "Tile", "m", "tile_param { tiles: 3 }"),
                             layer("t", "Tile", "z", "tile_param { tiles: 1 }")).replace(
            'input: "e"', 'input: "z" input_shape { dim: 2 dim: 27 dim: 6 dim: 7 }\ninput: "e"'),
         False),  # a mask of its own for every channel
    ],
)
def test_what_fuses_and_what_does_not(change, fuses: bool) -> None:
    fused, literal = run_both(change(CHAIN))
    assert bool(fused_names(fused)) == fuses
    for name in literal.blobs:
        np.testing.assert_allclose(fused.blobs[name].data, literal.blobs[name].data, 1e-12)
        np.testing.assert_allclose(fused.blobs[name].diff, literal.blobs[name].diff, 1e-12, 1e-13)


def test_embedding_loss_chain() -> None:
    window = "convolution_param { kernel_size: 3 pad: 2 dilation: 2 }"
    text = (data() + 'input: "l" input_shape { dim: 1 dim: 1 dim: 4 dim: 5 }\n'
            + conv("e", "x")
            + layer("d", "Im2dist", "e", window + " im2dist_param { norm: L1 }")
            + layer("p", "Im2parity", "l", window)
            + layer("loss", "DistLoss", "d p", "dist_loss_param { alpha: 0.5 beta: 2 }"))
    nets = [Net(text, phase="TRAIN", dtype="float64", fuse=fuse) for fuse in (True, False)]
    arrays = {"x": RNG.normal(size=(1, 2, 4, 5)), "l": RNG.integers(0, 3, (1, 1, 4, 5))}
    for net in nets:
        net.forward(arrays)
        net.backward()
    fused, literal = nets
    assert fused_names(fused) == ["loss"]
    assert fused.loss == literal.loss > 0
    for name in ("e", "d", "p", "loss"):
        np.testing.assert_allclose(fused.blobs[name].data, literal.blobs[name].data, 1e-12)
        np.testing.assert_allclose(fused.blobs[name].diff, literal.blobs[name].diff, 1e-12, 1e-15)
    np.testing.assert_allclose(fused.params["e"][0].diff, literal.params["e"][0].diff, 1e-12)


def test_in_place_layers_and_forks() -> None:
    """A blob shows its last version's data and its first version's gradient, as in Caffe."""
    text = "force_backward: true\n" + data(1, 1, 1, 4) + (
        layer("p", "Power", "x", "power_param { scale: 2 }", top="b")
        + layer("r", "ReLU", "b", top="b")
        + layer("q", "Power", "b", "power_param { scale: 10 }")
        + layer("s", "Eltwise", "b q"))
    net = Net(text, dtype="float64")
    assert net.outputs == ["s"]
    out = net.forward(x=np.array([[[[-1.0, 1.0, 2.0, 0.0]]]]))
    np.testing.assert_array_equal(net.blobs["b"].data.ravel(), [0, 2, 4, 0])
    np.testing.assert_array_equal(out["s"].ravel(), [0, 22, 44, 0])
    back = net.backward(s=np.ones((1, 1, 1, 4)))
    np.testing.assert_array_equal(net.blobs["b"].diff.ravel(), [0, 11, 11, 0])
    np.testing.assert_array_equal(back["x"].ravel(), [0, 22, 22, 0])


def test_parameters_shared_by_name() -> None:
    shared = 'param { name: "w" lr_mult: 3 } param { name: "b" }'
    text = data() + conv("c1", "x", more=shared) + conv("c2", "x", more=shared) + layer(
        "s", "Eltwise", "c1 c2")
    net = Net(text, phase="TRAIN")
    assert net.params["c1"][0] is net.params["c2"][0]
    assert list(net.learned()) == ["c1[0]", "c1[1]"]
    assert net.params["c2"][0].lr_mult == 3
    net.forward(x=np.ones((1, 2, 4, 5)))
    net.backward(s=np.ones((1, 3, 4, 5)))
    np.testing.assert_allclose(net.params["c1"][1].diff, 40)
    net.backward(s=np.ones((1, 3, 4, 5)))
    np.testing.assert_allclose(net.params["c1"][1].diff, 80)  # they add up
    net.clear_diffs()
    assert not net.params["c1"][1].diff.any()
    with pytest.raises(FormatError, match="lr_mult 3.0 elsewhere, 2.0 here"):
        Net(data() + conv("c1", "x", more='param { name: "w" lr_mult: 3 }')
            + conv("c2", "x", more='param { name: "w" lr_mult: 2 }'))
    later = conv("c1", "x", more='param { name: "w" }') + conv(
        "c2", "x", more='param { name: "w" lr_mult: 0 decay_mult: 7 }')
    shared_blob = Net(data() + later, phase="TRAIN").params["c1"][0]  # whoever says it first
    assert (shared_blob.lr_mult, shared_blob.decay_mult, shared_blob.wanted) == (0, 7, False)
    with pytest.raises(FormatError, match=r"has shape \(3, 2, 3, 3\), this layer needs"):
        Net(data() + conv("c1", "x", more=shared) + conv("c2", "c1", "kernel_size: 1", shared))


def test_frozen_layers_cost_no_gradient() -> None:
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    net = Net(data() + conv("c1", "x", more=frozen) + conv("c2", "c1"), phase="TRAIN")
    net.forward(x=np.ones((1, 2, 4, 5)))
    back = net.backward(c2=np.ones((1, 3, 4, 5)))
    assert not net.params["c1"][0].diff.any()
    assert net.params["c2"][0].diff.any()
    assert not back["x"].any()
    assert not net.blobs["c1"].diff.any()
    assert [step.active for step in net._engine.steps] == [False, True]


def test_backward_in_use_repeats_what_it_needs() -> None:
    """In phase TEST nothing is kept for backward: in-place chains over frozen layers as well."""
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text = data() + conv("c1", "x", more=frozen) + (
        layer("f", "Scale", "c1", "param { lr_mult: 0 } scale_param { filler { value: 3 } }", "c1")
        + layer("g", "Scale", "c1", "scale_param { filler { value: 2 } }", "c1")
        + layer("i", "Interp", "c1", "interp_param { zoom_factor: 2 }")
        + layer("h", "Scale", "i", "scale_param { bias_term: true }"))
    nets = [Net(text, phase=phase, dtype="float64") for phase in ("TEST", "TRAIN")]
    x = RNG.normal(size=(1, 2, 4, 5))
    for net in nets:
        net.forward(x=x)
        net.backward(h=np.ones(net.blobs["h"].shape))
        net.backward(h=np.ones(net.blobs["h"].shape))
    for name in ("g", "h"):
        a, b = (net.params[name][0].diff for net in nets)
        assert a.any()
        np.testing.assert_array_equal(a, b)


def test_any_input_size_and_pycaffe_habits() -> None:
    net = Net(data(h=8, w=8) + conv("c", "x"))
    assert net.blobs["c"].data.shape == (1, 3, 8, 8)  # before any pass, zeros
    net.blobs["x"].data[...] = 1
    first = net.forward()["c"].copy()
    np.testing.assert_array_equal(net.forward(x=np.ones((1, 2, 8, 8)))["c"], first)
    assert net.forward(x=np.ones((3, 2, 5, 9), "f4"))["c"].shape == (3, 3, 5, 9)
    net.blobs["x"].reshape(2, 2, 4, 4)
    assert net.blobs["c"].shape == (2, 3, 4, 4)
    assert net.forward()["c"].shape == (2, 3, 4, 4)
    x = np.ones((1, 2, 8, 8), "f4")
    net.forward(x=x)
    assert net.blobs["x"].data is not x and (net.blobs["x"].data == x).all()
    with pytest.raises(FormatError, match="'c' .Convolution.*kernel 3"):
        Net(data(h=1, w=1) + conv("c", "x", "kernel_size: 3"))
    with pytest.raises(FormatError, match="expected a bottom of 4 axes"):
        net.forward(x=np.ones((2, 8, 8)))


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("type_", "more"),
    [("Dropout", ""), ("Flatten", ""), ("Split", 'top: "z"'), ("Eltwise", 'bottom: "x"'),
     ("Slice", 'top: "z" slice_param { axis: 2 }'),
     ("Reshape", "reshape_param { shape { dim: -1 } }"),
     ("Crop", 'bottom: "r"'), ("ReLU", ""), ("Concat", "")],
)
def test_no_array_of_the_callers_is_one_of_the_networks(type_: str, more: str, fuse: bool) -> None:
    """Layers that hand on what they read, or parts of it, are no way back to it."""
    net = Net("force_backward: true " + data() + data().replace('"x"', '"r"')
              + layer("l", type_, "x", more, top="y")
              + 'layer { type: "Silence" bottom: "x" bottom: "r" }', fuse=fuse)
    x, r = (np.full((1, 2, 4, 5), k, "f4") for k in (1, 2))
    out = net.forward(x=x, r=r)
    before = {name: array.copy() for name, array in out.items()}
    dy = np.ones_like(out["y"])
    back = net.backward(y=dy)
    for blob in net.blobs["x"], net.blobs["r"]:
        blob.data[...] = 7
    for blob in net.blobs.values():
        blob.diff[...] = 7
    for name, array in out.items():
        np.testing.assert_array_equal(array, before[name])
        array[...] = 9
    assert (x == 1).all() and (r == 2).all() and (dy == 1).all()
    assert (net.blobs["x"].data == 7).all() and (net.blobs["x"].diff == 7).all()
    back["x"][...] = 8
    assert (net.blobs["y"].diff == 7).all() and (dy == 1).all()
    dy[...] = 5  # and the other way
    assert (net.blobs["y"].diff == 7).all()


def test_ten_thousand_inputs_are_read_run_and_told_apart() -> None:
    """Each step of the way must go through them once, not once for each."""
    count = 10_000
    net = Net("force_backward: true " + "".join(
        f'input: "x{i}" input_shape {{ dim: 1 }}\n' for i in range(count)))
    out = net.forward(x7=[3.0])
    assert len(out) == count and out["x7"].tolist() == [3.0]
    assert len(net.backward({"x7": [1.0]})) == count


def test_calls_that_cannot_be() -> None:
    net = Net(data() + conv("c", "x"))
    with pytest.raises(RuntimeError, match="run forward first"):
        net.backward()
    with pytest.raises(ValueError, match=r"z: not an input \(those are x\)"):
        net.forward(z=np.ones(1))
    with pytest.raises(TypeError, match="expected an array of real numbers"):
        net.forward(x=np.ones((1, 2, 4, 5), complex))
    net.forward()
    with pytest.raises(ValueError, match="nope: there is no such blob"):
        net.backward(nope=np.ones(1))
    with pytest.raises(ValueError, match=r"c: expected a gradient of shape \(1, 3, 4, 5\)"):
        net.backward(c=np.ones((1, 3)))
    with pytest.raises(ValueError, match="phase: expected"):
        Net(data(), phase="train")
    with pytest.raises(ValueError, match="dtype: expected"):
        Net(data(), dtype="float16")


def test_losses_and_their_weights() -> None:
    text = data() + 'input: "l" input_shape { dim: 1 dim: 1 dim: 4 dim: 5 }\n' + conv("c", "x") + (
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "l" loss_weight: 2 }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "l" top: "twin" }\n'
        + layer("sum", "Power", "c", "loss_weight: 0.5"))
    net = Net(text, phase="TRAIN", dtype="float64")
    arrays = {"x": RNG.normal(size=(1, 2, 4, 5)), "l": RNG.integers(0, 3, (1, 1, 4, 5))}
    out = net.forward(arrays)
    assert net.loss == pytest.approx(3 * float(out["twin"]) + 0.5 * net.blobs["c"].data.sum())
    net.backward()
    weight, step = net.params["c"][0], 1e-6
    gradient, before = weight.diff.copy(), net.loss
    weight.data[1, 1, 0, 2] += step
    net.forward(arrays)
    assert (net.loss - before) / step == pytest.approx(gradient[1, 1, 0, 2], rel=1e-4)


def test_phases_levels_and_stages() -> None:
    text = data() + (
        layer("train", "AbsVal", "x", "include { phase: TRAIN }", "y")
        + layer("test", "Power", "x", "include { phase: TEST }", "y")
        + layer("deep", "AbsVal", "y", "include { min_level: 1 }")
        + layer("staged", "AbsVal", "y", 'include { stage: "s" not_stage: "t" }')
        + layer("never", "AbsVal", "y", "exclude { phase: TEST } exclude { phase: TRAIN }"))
    assert list(Net(text).blobs) == ["x", "y"]
    assert Net(text, phase="TRAIN")._engine.steps[0].layer.type == "AbsVal"
    staged = Net('state { level: 1 stage: "s" }\n' + text)
    assert list(staged.blobs) == ["x", "y", "deep", "staged"]


def test_dropout_is_a_function_of_the_seed() -> None:
    text = data(h=16, w=16) + layer("d", "Dropout", "x")
    x = np.ones((1, 2, 16, 16))
    first, twin, other = (Net(text, phase="TRAIN", seed=seed) for seed in (1, 1, 2))
    a, b = first.forward(x=x)["d"].copy(), first.forward(x=x)["d"].copy()
    assert (a != b).any()
    assert set(np.unique(a)) == {0, 2}
    np.testing.assert_array_equal(twin.forward(x=x)["d"], a)
    state = twin.state()
    np.testing.assert_array_equal(twin.forward(x=x)["d"], b)
    twin.set_state(state)
    np.testing.assert_array_equal(twin.forward(x=x)["d"], b)
    assert (other.forward(x=x)["d"] != a).any()
    np.testing.assert_array_equal(Net(text).forward(x=x)["d"], x)


def test_variables() -> None:
    text = data() + layer("${NAME}", "Power", "x", "power_param { scale: ${S} }")
    assert list(Net(text, variables={"NAME": "p", "S": 3}).blobs) == ["x", "p"]
    with pytest.raises(ValueError, match="no value given for NAME, S"):
        Net(text)


def test_input_declarations() -> None:
    for text in ('input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4',
                 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 '
                 "dim: 3 dim: 4 } } }"):
        net = Net(text + layer("y", "AbsVal", "x"))
        assert (net.inputs, net.blobs["y"].shape) == (["x"], (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers { }", "line 1: layer '': type '' is not supported"),
        (layer("a", "AbsVal", "x") + "layers { type: RELU }",
         "line 2: 'layer' and 'layers', the present form and the old one"),
        ("\n", "no layers"),
        ('input: "x"', "expected an input_shape for each of 1 inputs"),
        ('input: "x" input_shape { dim: -1 }', "not a shape"),
        ('input: "x" input_shape { dim: 1000000 dim: 1000000 dim: 9 }', "not a shape"),
        ('input: "x" input_dim: 3', "expected 4 input_dim"),
        (layer("a", "AbsVal", "x"), "layer 'a' .AbsVal.: bottom 'x' is made by no layer before"),
        (data() + layer("a", "AbsVal", "x") * 2, "top 'a' is made twice"),
        (data() + layer("a", "AbsVal", "x x"), "expected 1 bottoms, got 2"),
        (data() + layer("a", "HDF5Output", "x"), "'HDF5Output' is not supported: take the array"),
        (data() + layer("a", "Python", "x", 'python_param { module: "m" layer: "L" }'),
         r"the Python layer m.L is not registered .*register_layer\('m', 'L', cls\)"),
        (data() + layer("a", "SPP", "x", "spp_param { pyramid_height: 2 }"),
         "'SPP' is not supported: there are AbsVal, "),
        (data() + conv("c", "x", "kernel_size: 3 kernel_h: 3"), "exclude each other"),
        (data() + conv("c", "x", "kernel_size: 0"), "kernel: expected at least 1"),
        (data() + conv("c", "x", "kernel_size: 1 group: 2"), "num_output 3 and group 2"),
        (data() + conv("c", "x", "kernel_size: 1 axis: 2"), "channels are axis 1"),
        (data(c=99999) + conv("c", "x", "kernel_h: 99 kernel_w: 99 pad: 99"), "beyond all reason"),
        (data() + conv("c", "x", "kernel_size: 1", "param { } param { } param { }"),
         "3 param for 2 parameters"),
        (data() + layer("p", "Pooling", "x", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"),
         "STOCHASTIC"),
        (data() + layer("p", "Pooling", "x", "pooling_param { kernel_size: 2 pad: 2 }"),
         "pad < kernel"),
        (data() + layer("s", "Scale", "x", "scale_param { axis: 7 }"), "axis 7 is not one of"),
        (data() + layer("i", "Interp", "x", "interp_param { }"), "expected either zoom_factor"),
        (data() + layer("i", "Interp", "x", "interp_param { zoom_factor: 2 pad_beg: 1 }"), "crop"),
        (data() + layer("b", "BatchNorm", "x",
                        "batch_norm_param { use_global_stats: true update_global_stats: true }"),
         "update_global_stats"),
        (data() + 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" }',
         "does not divide into 3"),
        (data() + layer("r", "Reshape", "x", "reshape_param { shape { dim: 7 dim: -1 } }"),
         "cannot infer"),
        (data() + layer("f", "Scale", "x", 'scale_param { filler { type: "spline" } }'),
         "unknown filler 'spline'"),
        (data() + layer("t", "Tile", "x", "tile_param { tiles: 1000000000 }"), "not a shape"),
        (data() + layer("p", "Pooling", "x", "pooling_param { kernel_size: 999 pad: 998 }"),
         "a window of 998001 pixels is beyond all reason"),
        (data() + conv("c", "x", "kernel_size: -3"), "expected an integer of at least 0"),
        (data(1, 1, 1, 1 << 14) + "".join(
            layer(f"p{i}", "InnerProduct", "x", "inner_product_param { num_output: 16000 }")
            for i in range(3)), "layer 'p2' .*the parameters up to here have 786,4.*beyond all"),
        ("".join(data(1, 1, 40000, 40000).replace('"x"', f'"x{i}"') for i in range(6)),
         r"blobs have 9,600,000,000 numbers, beyond all reason \(of these 'x.' \(1, 1, 40000, 4"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Net(text)


def test_weights_round_trip(tmp_path: Path) -> None:
    text = data() + conv("c1", "x") + conv("c2", "c1", "kernel_size: 1")
    path = tmp_path / "net.caffemodel"
    for dtype in ("float32", "float64"):
        source = Net(text, dtype=dtype, seed=1)
        source.save(path)
        target = Net(text, path, dtype=dtype, seed=2)
        for name, blob in source.learned().items():
            assert target.learned()[name].data.tobytes() == blob.data.tobytes()


def test_what_was_not_loaded_is_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    source, other = Net(data() + conv("c1", "x") + conv("c2", "c1"), seed=1), data() + conv(
        "c1", "x") + conv("new", "c1")
    source.save(path)
    told = (r"loaded: 'c1'; left out, as this network has none of that name: 'c2'; left as they "
            "were, as there is none of that name there: 'new'$")
    net = Net(other)
    with pytest.warns(UserWarning, match=f"net.caffemodel: {told}"):
        assert net.copy_from(path) == ["c1"]
    with pytest.warns(UserWarning, match=f"net.caffemodel: {told}"):
        Net(other, path)
    with pytest.warns(UserWarning, match=f"share_from: {told}"):
        assert net.share_from(source) == ["c1"]
    before = [blob.data.copy() for blob in source.learned().values()]
    Net(other, seed=2).save(path)
    with pytest.raises(ValueError, match=r"expected weights of all layers, got none of 'c2'$"):
        source.copy_from(path, complete=True)
    with pytest.raises(FormatError, match=r"expected to share parameters .*float64 \(3, 2, 3, 3\)"):
        Net(other, dtype="float64").share_from(source)
    for blob, values in zip(source.learned().values(), before, strict=True):
        np.testing.assert_array_equal(blob.data, values)


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_weights_in_files_of_arrays(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    text, path = data() + conv("c1", "x") + conv("c/2", "c1", "kernel_size: 1"), tmp_path / name
    source = Net(text, seed=1)
    source.save(path)
    target = Net(text, path, seed=2)
    for key, blob in source.learned().items():
        np.testing.assert_array_equal(target.learned()[key].data, blob.data)
    for arrays, metadata in (({"c1": np.ones(3)}, {}), ({"c1/0": np.array("text")}, {})):
        if name.endswith("npz"):
            save_arrays(path, arrays, metadata)
            with pytest.raises(FormatError, match="expected arrays of numbers named LAYER/NUMBER"):
                source.copy_from(path)
    for odd in (None, 3, [1, ["c1"], [[], {}]]):  # of another hand
        save_arrays(path, {"c1/0": np.ones((3, 2, 3, 3)), "c1/1": np.ones(3)}, {"layers": odd})
        with pytest.warns(UserWarning, match=r"loaded: 'c1'; left as they were.*: 'c/2'$"):
            assert target.copy_from(path) == ["c1"]


def linear(names: str) -> str:
    """Inner products of two numbers, one behind the other, of the given names."""
    text, bottom = 'input: "x" input_shape { dim: 1 dim: 2 }\n', "x"
    for i, name in enumerate(names.split(",")):
        text += layer(name, "InnerProduct", bottom, "inner_product_param { num_output: 2 "
                      'bias_term: false weight_filler { type: "gaussian" } }', top=f"y{i}")
        bottom = f"y{i}"
    return text


@pytest.mark.parametrize("names", ["fc,fc,other", ",,other", "fc,fc,fc#2", "a/0,,a/0"])
@pytest.mark.parametrize("suffix", ["caffemodel", "npz", "safetensors"])
def test_layers_of_one_name_are_told_apart_by_their_order(
    tmp_path: Path, names: str, suffix: str
) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    source, text = Net(linear(names), seed=1), linear(names)
    weights = [RNG.normal(size=(2, 2)).astype("f4") for _ in range(3)]
    assert len(source.params) == len(source.learned()) == 3
    for blobs, weight in zip(source.params.values(), weights, strict=True):
        blobs[0].data[...] = weight
    source.save(tmp_path / f"w.{suffix}")
    first, second, third = weights
    x = np.array([[1.0, -2.0]], "f4")
    loaded, sharing = Net(text, tmp_path / f"w.{suffix}", seed=2), Net(text, seed=3)
    sharing.share_from(source)
    for net in loaded, sharing:
        np.testing.assert_allclose(net.forward(x=x)["y2"], x @ first.T @ second.T @ third.T, 1e-5)
    write_layers(tmp_path / "again.npz", read_layers(tmp_path / f"w.{suffix}"))  # as `convert` does
    again = read_layers(tmp_path / "again.npz")
    assert [one.name for one in again] == names.split(",")
    np.testing.assert_array_equal([one.blobs[0] for one in again], weights)


def test_fewer_layers_of_one_name_take_the_first(tmp_path: Path) -> None:
    Net(linear("fc,fc"), seed=1).save(tmp_path / "w.npz")
    three = Net(linear("fc,fc,fc"), seed=2)
    before = three.params["fc#3"][0].data.copy()
    with pytest.warns(UserWarning, match="loaded: 'fc', 'fc'; left as they were.*: 'fc'$"):
        assert three.copy_from(tmp_path / "w.npz") == ["fc", "fc"]
    np.testing.assert_array_equal(three.params["fc#3"][0].data, before)


def test_a_parameter_shared_in_two_shapes_is_learned_once() -> None:
    text = 'input: "x" input_shape { dim: 1 dim: 2 }\n' + "".join(
        layer(name, "InnerProduct", bottom, 'param { name: "w" share_mode: PERMISSIVE } '
              f"inner_product_param {{ bias_term: false num_output: {count} }}")
        for name, bottom, count in (("a", "x", 3), ("b", "a", 2)))
    net = Net(text, phase="TRAIN", dtype="float64")
    assert list(net.learned()) == ["a[0]"]
    w = np.arange(6.0)
    net.params["a"][0].data[...] = w.reshape(3, 2)
    x, dy = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0]])
    net.forward(x=x)
    net.backward(b=dy)
    inner, dinner = x @ w.reshape(3, 2).T, dy @ w.reshape(2, 3)
    want = (dinner.T @ x).ravel() + (dy.T @ inner).ravel()
    np.testing.assert_allclose(net.learned()["a[0]"].diff.ravel(), want)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    Net(data() + conv("c1", "x") + conv("c2", "c1")).save(path)
    other = Net(data() + conv("c1", "x") + conv("c2", "c1", "kernel_size: 1"))
    before = other.params["c1"][0].data.copy()
    with pytest.raises(ValueError, match=r"0 of layer 'c2' has shape \(3, 3, 1, 1\) here"):
        other.copy_from(path)
    np.testing.assert_array_equal(other.params["c1"][0].data, before)
    with pytest.raises(ValueError, match="1 parameters here, 2 in the file"):
        Net(data() + conv("c1", "x", "kernel_size: 3 bias_term: false")).copy_from(path)
    with pytest.raises(ValueError, match="no layer that has its name"):
        Net(data() + conv("c9", "x")).copy_from(path)
    with pytest.raises(FileNotFoundError):
        other.copy_from(tmp_path / "none.caffemodel")
