"""The operations against numbers that the paper's authors' own code computed.

``tests/golden`` holds a small part of these vectors and is always run; the whole set is read from
the folder in the environment variable SEGAWARE_GOLDEN. Each file is one layer (or a small
composition): inputs, parameters, the gradient fed to its output, the results and all gradients, in
float32 and (keys with 64) in float64. Where their CPU code has a bug that their GPU code has not,
a key with ``_cu_`` holds the right values.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from segaware_np import ops
from segaware_np.window import Window

HERE = Path(__file__).parent / "golden"
GROUPS = (
    "im2col",
    "im2dist",
    "im2parity",
    "segconv",
    "conv",
    "pooling",
    "interp",
    "softmax_loss",
    "distloss",
)
TOLERANCE = {"float32": (2e-4, 2e-5), "float64": (1e-6, 1e-8)}  # relative; of the largest entry
SINGLE = (1e-6, 1e-6)  # where they compute coefficients in float32 whatever the data are
INFINITE = 3e36  # their 'infinite' distance is FLT_MAX / 100, a number like any other


def _cases() -> list:
    folder = os.environ.get("SEGAWARE_GOLDEN")
    found = [
        pytest.param(path, id=f"{group}/{path.stem}")
        for root in ([Path(folder)] if folder else [HERE])
        for group in GROUPS
        for path in sorted((root / group).glob("*.npz"))
    ]
    return found or [pytest.param(None, id="none")]


class Case:
    """One file, read in one precision."""

    def __init__(self, path: Path, dtype: str):
        with np.load(path) as file:
            self.arrays = {key: file[key] for key in file.files}
        self.meta = json.loads(str(self.arrays.pop("meta")))
        self.group, self.dtype = path.parent.name, dtype
        self.gpu_rules = self.group != "distloss"  # there their GPU code is the broken one

    def __getitem__(self, key: str) -> np.ndarray:
        """An input, in this case's dtype."""
        return self.arrays[key].astype(self.dtype)

    def option(self, name: str, default=None):
        """A field of the layer's description."""
        found = re.search(rf"\b{name}: *([-\w.]+)", self.meta["prototxt"])
        if found is None:
            return default
        return float(found[1]) if re.fullmatch(r"-?[\d.]+", found[1]) else found[1]

    def labels(self, key: str) -> np.ndarray:
        return self.arrays[key].astype(int)

    @property
    def window(self) -> Window:
        p = self.meta["params"]
        return Window(*((p[f"{name}h"], p[f"{name}w"]) for name in "kspd"))

    def expect(self, kind: str, name: str, got, tolerance=None) -> None:
        """Compare with the authors' value."""
        wide = "64" if self.dtype == "float64" else ""
        keys = [f"{kind}{wide}_cu_{name}"] * self.gpu_rules + [f"{kind}{wide}_{name}"]
        want = next(self.arrays[key] for key in keys if key in self.arrays).astype(np.float64)
        got = np.asarray(got)
        assert got.dtype == self.dtype or got.dtype.kind == "i"
        assert got.size == want.size, f"{kind} {name}: shape {got.shape} for {want.shape}"
        got = got.reshape(want.shape).astype(np.float64)
        infinite = np.abs(want) > INFINITE
        assert np.isinf(got[infinite]).all(), f"{kind} {name}: infinite distances expected"
        relative, absolute = max(tolerance or (0, 0), TOLERANCE[self.dtype])
        np.testing.assert_allclose(
            got[~infinite],
            want[~infinite],
            rtol=relative,
            atol=absolute * max(1.0, np.abs(want[~infinite]).max(initial=0.0)),
            err_msg=f"{kind} {name}",
        )


def im2col(case: Case) -> None:
    cols, cache = ops.im2col_forward(case["in_data"], case.window)
    case.expect("out", "col", cols)
    case.expect("grad", "data", ops.im2col_backward(case["topdiff_col"].reshape(cols.shape), cache))


def im2dist(case: Case) -> None:
    p = case.meta["params"]
    flags = bool(p["remove_center"]), bool(p["remove_bounds"])
    d, cache = ops.distance_forward(case["in_data"], case.window, p["norm"], *flags)
    case.expect("out", "dist", d)
    case.expect("grad", "data", ops.distance_backward(case["topdiff_dist"], cache))


def im2parity(case: Case) -> None:
    labels = case.labels("in_label")[:, -1]  # of several label images they use the last
    ignore = case.meta["params"]["ignore_label"]
    case.expect("out", "par", ops.label_parity_forward(labels, case.window, ignore))


def segconv(case: Case) -> None:
    p = case.meta["params"]
    window = Window(p["k"], 1, p["pad"], p["dil"])
    scale = case["param_w_dist_0"][()]  # the authors learn s = |w|
    d, distance = ops.distance_forward(case["in_emb"], window, p["norm"])
    case.expect("out", "emb_dist", d)
    mask, masking = ops.exponential_mask_forward(d, abs(scale))
    case.expect("out", "exp_dist", mask)
    inputs = case["in_data"], mask, case["param_conv_0"], case["param_conv_1"]
    for forward, backward in (
        (ops.segaware_convolution_forward, ops.segaware_convolution_backward),
        (ops.segaware_convolution_explicit_forward, ops.segaware_convolution_explicit_backward),
    ):
        y, cache = forward(*inputs, window=window)
        case.expect("out", "conv", y)
        dx, dmask, dweight, dbias = backward(case["topdiff_conv"], cache)
        dd, ds = ops.exponential_mask_backward(dmask, masking)
        case.expect("grad", "data", dx)
        case.expect("pgrad", "conv_0", dweight)
        case.expect("pgrad", "conv_1", dbias)
        case.expect("grad", "emb_dist", dd * (d != 0))  # theirs goes through |w d|, flat at 0
        case.expect("pgrad", "w_dist_0", np.sign(scale) * ds)
        case.expect("grad", "emb", ops.distance_backward(dd, distance))


def conv(case: Case) -> None:
    weight, bias = case["param_c_0"], case["param_c_1"]
    x, groups = case["in_x"], int(case.option("group"))
    if case.option("bottom_is_im2col"):
        n, channels, *size = x.shape
        kernel = weight.shape[2] * weight.shape[3]
        columns = x.reshape(n, channels // kernel, kernel, *size)
        y, cache = ops.column_convolution_forward(columns, weight, bias, groups=groups)
        gradients = ops.column_convolution_backward(case["topdiff_c"], cache)
    else:
        window = Window(
            *(int(case.option(o)) for o in ("kernel_size", "stride", "pad", "dilation"))
        )
        y, cache = ops.convolution_forward(x, weight, bias, window=window, groups=groups)
        gradients = ops.convolution_backward(case["topdiff_c"], cache)
    case.expect("out", "c", y)
    for kind, name, gradient in zip(
        ("grad", "pgrad", "pgrad"), ("x", "c_0", "c_1"), gradients, strict=True
    ):
        case.expect(kind, name, gradient)


def pooling(case: Case) -> None:
    p = case.meta["params"]
    forward, backward = {
        "MAX": (ops.max_pool_forward, ops.max_pool_backward),
        "AVE": (ops.average_pool_forward, ops.average_pool_backward),
    }[p["pool"]]
    y, cache = forward(case["in_data"], Window(p["k"], p["stride"], p["pad"]))
    case.expect("out", "pool", y)
    case.expect("grad", "data", backward(case["topdiff_pool"], cache))


def interp(case: Case) -> None:
    x = case["in_data"]
    first, last = (int(-case.option(o, 0)) for o in ("pad_beg", "pad_end"))
    crop = (..., *(slice(first, n - last) for n in x.shape[2:]))
    shrink, zoom = (int(case.option(o, 1)) for o in ("shrink_factor", "zoom_factor"))
    size = [(n - 1) // shrink + 1 for n in x[crop].shape[2:]]
    size = [n + (n - 1) * (zoom - 1) for n in size]
    h, w = (int(case.option(o, n)) for o, n in zip(("height", "width"), size, strict=True))
    y, cache = ops.resize_forward(x[crop], (h, w))
    case.expect("out", "i", y, SINGLE)
    dx = np.zeros_like(x)
    dx[crop] = ops.resize_backward(case["topdiff_i"], cache)
    case.expect("grad", "data", dx, SINGLE)


def softmax_loss(case: Case) -> None:
    ignore = case.option("ignore_label")
    loss, cache = ops.softmax_cross_entropy_forward(
        case["in_x"],
        case.labels("in_label")[:, 0],
        None if ignore is None else int(ignore),
        case.option("normalization", "VALID").lower(),
    )
    case.expect("out", "loss", loss)
    weight = case.option("loss_weight", 1.0)
    case.expect("grad", "x", ops.softmax_cross_entropy_backward(weight, cache))


def distloss(case: Case) -> None:
    """They report the linear loss, and back-propagate the squared one without its loss weight."""
    p = case.meta["params"]
    arguments = case["in_dist"], case.labels("in_par"), p["alpha"], p["beta"]
    loss, _ = ops.embedding_loss_forward(*arguments, "linear", p["ignore_label"])
    case.expect("out", "loss", loss)
    _, cache = ops.embedding_loss_forward(*arguments, "squared", p["ignore_label"])
    case.expect("grad", "dist", ops.embedding_loss_backward(1.0, cache))


RUN = {
    function.__name__: function
    for function in (
        im2col,
        im2dist,
        im2parity,
        segconv,
        conv,
        pooling,
        interp,
        softmax_loss,
        distloss,
    )
}


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("path", _cases())
def test_golden(path: Path | None, dtype: str) -> None:
    assert path is not None, f"no vectors of {GROUPS} in SEGAWARE_GOLDEN or {HERE}"
    case = Case(path, dtype)
    RUN[case.group](case)


def test_subset_has_every_group():
    for group in GROUPS:
        assert list((HERE / group).glob("*.npz")), f"no vectors in {HERE / group}"
