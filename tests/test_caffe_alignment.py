"""Where blobs lie on each other; Crop without crop_param, which two Caffes read differently."""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np.caffe import Net, Solver
from segaware_np.commands.main import main
from segaware_np.files import FormatError

FLAT = 'weight_filler { type: "constant" value: %r }'


def layer(name: str, type_: str, bottoms: str, options: str = "") -> str:
    read = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    return f'layer {{ name: "{name}" type: "{type_}" {read} top: "{name}" {options} }}\n'


def data(side: int = 40) -> str:
    return f'input: "x" input_shape {{ dim: 1 dim: 1 dim: {side} dim: {side} }}\n'


def blur(name: str, bottom: str, kernel: int, more: str = "") -> str:
    """A mean over a window: of a ramp it leaves a ramp."""
    return layer(name, "Convolution", bottom, f"convolution_param {{ num_output: 1 {more} "
                 f"kernel_size: {kernel} bias_term: false {FLAT % kernel**-2} }}")


def pool(name: str, bottom: str) -> str:
    return layer(name, "Pooling", bottom, "pooling_param { pool: AVE kernel_size: 2 stride: 2 }")


def enlarge(name: str, bottom: str, factor: int) -> str:
    """Bilinear: it leaves a ramp as well."""
    return layer(name, "Deconvolution", bottom, "convolution_param { num_output: 1 "
                 f"kernel_size: {2 * factor} stride: {factor} bias_term: false "
                 'weight_filler { type: "bilinear" } }')


NETWORKS = {
    "padding": (blur("a", "x", 3, "pad: 35"), "a"),
    "an even window": (blur("a", "x", 4, "pad: 9") + blur("b", "a", 2), "b"),
    "dilation": (blur("a", "x", 3, "pad: 20") + blur("b", "a", 3, "dilation: 4"), "b"),
    "down and up": (blur("a", "x", 3, "pad: 30") + pool("b", "a") + blur("c", "b", 3, "pad: 1")
                    + enlarge("d", "c", 2), "d"),
    "twice down, up at once": (blur("a", "x", 5, "pad: 22") + pool("b", "a") + pool("c", "b")
                               + layer("r", "ReLU", "c") + enlarge("d", "r", 4), "d"),
    "another crop between": (blur("a", "x", 3, "pad: 12") + blur("w", "x", 1, "pad: 5") + layer(
        "k", "Crop", "a w", "crop_param { offset: 4 }"), "k"),
    "a resize between": (blur("a", "x", 1, "pad: 10") + layer(
        "i", "Interp", "a", "interp_param { zoom_factor: 3 }") + pool("p", "i")
        + layer("j", "Interp", "p", "interp_param { height: 59 width: 59 }"), None),
}


@pytest.mark.parametrize("name", [name for name, (_, top) in NETWORKS.items() if top])
def test_aligned_a_ramp_comes_out_where_it_went_in(name: str) -> None:
    """Whatever the layers between do, the middle of the picture lies on itself."""
    body, top = NETWORKS[name]
    text = data() + body + layer("y", "Crop", f"{top} x")
    asked = r"'y' .*without crop_param it begins at \(\d+, \d+\) in .*crop='aligned' or crop='zero'"
    with pytest.raises(FormatError, match=asked):
        Net(text)
    ramp = np.add.outer(3.0 * np.arange(40), np.arange(40))[None, None] + 100
    net = Net(text, dtype="float64", crop="aligned")
    middle = np.s_[0, 0, 17:22, 17:22]
    np.testing.assert_allclose(net.forward(x=ramp)["y"][middle], ramp[middle], 1e-5)
    zero = Net(text, dtype="float64", crop="zero").forward(x=ramp)["y"]
    whole = Net(data() + body, dtype="float64").forward(x=ramp)[top]
    np.testing.assert_array_equal(zero, whole[:, :, :40, :40])


def test_a_crop_whose_readings_agree_asks_nothing() -> None:
    for body in (blur("a", "x", 3, "pad: 1"), layer("a", "ReLU", "x"), blur("a", "x", 5, "pad: 2")):
        text = data() + body + layer("y", "Crop", "a x")
        x = np.random.default_rng(0).normal(size=(1, 1, 40, 40))
        outs = [Net(text, crop=crop).forward(x=x)["y"] for crop in (None, "aligned", "zero")]
        np.testing.assert_array_equal(outs[0], outs[1])
        np.testing.assert_array_equal(outs[0], outs[2])


@pytest.mark.parametrize(
    "body",
    [
        pool("a", "x") + pool("b", "a") + enlarge("c", "b", 2) + "SMALL",  # of another scale
        blur("a", "x", 2) + "SMALL",  # by half a pixel
        blur("a", "x", 3) + "SMALL",  # to the left of the picture
        layer("a", "Reshape", "x", "reshape_param { shape { dim: 1 dim: 1 dim: 20 dim: 80 } }")
        + "SMALL",  # pixels in another order
        'input: "z" input_shape { dim: 1 dim: 1 dim: 9 dim: 9 }' + blur("a", "x", 3, "pad: 5")
        + layer("y", "Crop", "a z"),  # of another picture
        NETWORKS["a resize between"][0] + layer("y", "Crop", "j x"),
    ],
)
def test_where_no_alignment_is_there_is_one_reading(body: str) -> None:
    """Long's Caffe would have stopped, so that the file cannot mean it."""
    last = "c" if '"c"' in body else "a"
    small = ('input: "s" input_shape { dim: 1 dim: 1 dim: 2 dim: 2 }'
             + layer("t", "Pooling", "x", "pooling_param { kernel_size: 20 stride: 20 }")
             + layer("y", "Crop", f"{last} t"))
    text = data() + body.replace("SMALL", small)
    x = np.random.default_rng(0).normal(size=(1, 1, 40, 40))
    y, zero = (Net(text, crop=crop).forward(x=x)["y"] for crop in (None, "zero"))
    np.testing.assert_array_equal(y, zero)
    with pytest.raises(FormatError, match="crop: the layers between its bottoms do not align"):
        Net(text, crop="aligned")


def test_what_crop_param_says_is_not_asked() -> None:
    text = data() + NETWORKS["padding"][0] + layer("y", "Crop", "a x", "crop_param { offset: 7 }")
    x = np.random.default_rng(0).normal(size=(1, 1, 40, 40))
    outs = [Net(text, crop=crop).forward(x=x)["y"] for crop in (None, "aligned", "zero")]
    np.testing.assert_array_equal(outs, [outs[0]] * 3)


def test_the_reading_goes_through_solvers_and_the_program(tmp_path, capsys) -> None:
    text = data() + blur("a", "x", 3, "pad: 2") + layer("y", "Crop", "a x") + layer(
        "l", "EuclideanLoss", "y x")
    (tmp_path / "net.prototxt").write_text(text)
    solver = f'net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1'
    assert Solver(solver, crop="aligned").net.blobs["y"].shape == (1, 1, 40, 40)
    with pytest.raises(FormatError, match="crop='aligned' or crop='zero'"):
        Solver(solver)
    with pytest.raises(ValueError, match="crop: expected one of aligned, zero, got 'middle'"):
        Net(text, crop="middle")
    show = ["caffe", "show", str(tmp_path / "net.prototxt")]
    assert main(show) == 2
    assert "crop" in capsys.readouterr().err
    assert main([*show, "--crop", "aligned"]) == 0
    assert "EuclideanLoss" in capsys.readouterr().out
