"""What the GPU forms must compute: each against the plain formula in float64, on drawn cases.

Used plainly by test_kernels_exact.py and under sanitizers by test_kernels_sanitized.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st
from test_dispatch import FORMS

from segaware_np.gpu import kernels
from segaware_np.ops import (
    columns,
    convolution,
    distance,
    embedding_loss,
    mask,
    masked_sum,
    parity,
    pooling,
    softmax,
)
from segaware_np.ops import resize as resize_ops
from segaware_np.ops import segaware_convolution as segaware
from segaware_np.testing.strategies import Geometry, geometries, seeds, windows

gpu = SimpleNamespace(**{name: form for (room, name), form in FORMS.items() if room == "gpu"})
FORWARD = {"e": 4e-3, "f": 2e-6, "d": 1e-13}  # allowed error, relative to the largest entry
BACKWARD = {"e": 1e-2, "f": 1e-5, "d": 1e-12}


@dataclass(frozen=True)
class Case:
    """A geometry, how its arrays are made and laid out, and how the launch is cut."""

    geometry: Geometry
    dtype: str  # its character
    channels: int
    seed: int
    strided: bool  # arrays that are not contiguous
    few_blocks: bool  # threads have to stride over the work
    flags: tuple[bool, bool]  # whatever a check has two options of

    @property
    def window(self) -> Any:
        return self.geometry.window


def cases() -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        geometry=geometries(windows(), min_batch=0),
        dtype=st.sampled_from("fde"),
        channels=st.sampled_from([1, 2, 3, 4, 9, 12]),
        seed=seeds(),
        strided=st.booleans(),
        few_blocks=st.booleans(),
        flags=st.tuples(st.booleans(), st.booleans()),
    )


class Bench:
    """Makes arrays of a case, runs both forms and compares them."""

    def __init__(self, cupy: ModuleType, case: Case) -> None:
        self.cupy, self.case = cupy, case
        self.random = np.random.default_rng(case.seed)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.standard_normal(shape).astype(self.case.dtype)

    def weights(self, shape: tuple[int, ...]) -> np.ndarray:
        """Between 0 and 1, some exactly 0 or 1."""
        return np.clip(self.random.uniform(-0.2, 1.2, shape), 0, 1).astype(self.case.dtype)

    def device(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if not self.case.strided or not value.ndim:
            return self.cupy.asarray(value)
        return self.cupy.asarray(np.repeat(value, 2, -1))[..., ::2]

    def compare(self, fast: Callable, plain: Callable, *inputs: Any, tolerance: dict) -> None:
        wide = [
            i.astype(float) if isinstance(i, np.ndarray) and i.dtype.kind == "f" else i
            for i in inputs
        ]
        want = plain(*wide)
        blocks = 1 if self.case.few_blocks else kernels.MAX_BLOCKS
        with patch.object(kernels, "MAX_BLOCKS", blocks):
            have = fast(*map(self.device, inputs))
        pairs = [(have, want)] if isinstance(want, np.ndarray) else zip(have, want, strict=True)
        for a, b in pairs:
            if b is None:
                assert a is None
                continue
            assert isinstance(a, self.cupy.ndarray)
            assert a.dtype.char == self.case.dtype or a.dtype.kind in "iub"
            assert_near(a.get(), np.asarray(b), tolerance[self.case.dtype])


def assert_near(have: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    assert have.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(have[~finite], want[~finite])
    if finite.any():
        worst = np.abs(have[finite].astype(float) - want[finite]).max()
        assert worst <= tolerance * (1 + np.abs(want[finite]).max()), worst


def check_columns(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    x = bench.normal(g.image(case.channels))
    bench.compare(gpu.im2col, columns.im2col, x, case.window, tolerance=FORWARD)
    cols = bench.normal((g.batch, case.channels, case.window.size, *g.output))
    bench.compare(gpu.col2im, columns.col2im, cols, g.size, case.window, tolerance=BACKWARD)


def check_distance(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    e = bench.random.integers(-2, 3, g.image(case.channels)).astype(case.dtype)  # with ties
    dd = bench.normal(g.result(case.window.size))
    for norm in ("L1", "L2"):
        options = (distance.Measure(case.window, norm, *case.flags),)
        bench.compare(gpu.distance, distance.distance, e, *options, tolerance=FORWARD)
        bench.compare(
            gpu.distance_grad, distance.distance_grad, dd, e, *options, tolerance=BACKWARD
        )


def check_parity(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    dtype = bench.random.choice(["u1", "i4", "i8"])
    labels = bench.random.integers(0, 3, (g.batch, *g.size)).astype(dtype)
    ignore = None if case.flags[0] else int(bench.random.integers(0, 3))
    bench.compare(
        gpu.label_parity, parity.label_parity, labels, case.window, ignore, tolerance=FORWARD
    )


def check_mask(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    d = np.abs(bench.normal(g.result(case.window.size)))
    d[bench.random.uniform(size=d.shape) < 0.3] = np.inf
    dmask = bench.normal(d.shape)
    scale: Any = 0.7 if case.flags[0] else np.array(-0.7, case.dtype)
    kind = "normalized" if case.flags[1] else "exponential"
    forward = getattr(mask, f"{kind}_mask_forward")
    backward = getattr(mask, f"{kind}_mask_backward")
    fast, fast_grad = (getattr(gpu, f"{kind}_mask{end}") for end in ("", "_grad"))

    def plain_grad(dmask: np.ndarray, d: np.ndarray, scale: Any, m: np.ndarray) -> tuple:
        return backward(dmask, forward(d, scale)[1])

    bench.compare(fast, lambda d, s: forward(d, s)[0], d, scale, tolerance=FORWARD)
    m = forward(d.astype(float), scale)[0].astype(case.dtype)
    bench.compare(fast_grad, plain_grad, dmask, d, scale, m, tolerance=BACKWARD)


def check_local_mask(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    e = bench.random.integers(-2, 3, g.image(case.channels)).astype(case.dtype)  # with ties
    scale: Any = 0.2 if case.flags[0] else np.array(0.2, case.dtype)
    need = frozenset(bench.random.choice(["embedding", "scale"], 2))
    removed = tuple(bool(flag) for flag in bench.random.integers(0, 2, 2))
    norm = bench.random.choice(["L1", "L2"])
    how = (distance.Measure(case.window, norm, *removed), case.flags[1])
    bench.compare(
        lambda *a: gpu.local_mask(*a)[0],
        lambda *a: mask.local_mask(*a)[0],
        *(e, scale, *how),
        tolerance=FORWARD,
    )
    m = mask.local_mask(e.astype(float), float(scale), *how)[0].astype(case.dtype)

    def plain_grad(dmask: np.ndarray, e: np.ndarray, scale: Any, m: np.ndarray) -> tuple:
        d = distance.distance(e, how[0])
        return mask.local_mask_grad(dmask, e, scale, m, d, *how, need)

    def fast_grad(dmask: Any, e: Any, scale: Any, m: Any) -> tuple:
        return gpu.local_mask_grad(dmask, e, scale, m, None, *how, need)

    bench.compare(fast_grad, plain_grad, bench.normal(m.shape), e, scale, m, tolerance=BACKWARD)


def _filter(bench: Bench) -> tuple[int, list[np.ndarray]]:
    """Groups; then x, weight, bias, dy, mask."""
    case, g = bench.case, bench.case.geometry
    divisors = [d for d in (1, 2, 3) if case.channels % d == 0]
    groups = int(bench.random.choice(divisors))
    outputs = groups * int(bench.random.integers(1, 5)) * (11 if case.flags[1] else 1)
    weight = bench.normal((outputs, case.channels // groups, *case.window.kernel)) / 4
    arrays = [bench.normal(g.image(case.channels)), weight, bench.normal((outputs,))]
    return groups, [
        *arrays,
        bench.normal(g.result(outputs)),
        bench.weights(g.result(case.window.size)),
    ]


def check_convolution(bench: Bench) -> None:
    case = bench.case
    groups, (x, weight, bias, dy, _) = _filter(bench)
    start = bias if case.flags[0] else None
    need = frozenset(bench.random.choice(["x", "weight", "bias"], 2))
    options = (case.window, groups)
    with _way(bench):
        bench.compare(
            gpu.convolution, convolution.convolution, x, weight, start, *options, tolerance=FORWARD
        )
        bench.compare(
            gpu.convolution_grad,
            convolution.convolution_grad,
            *(dy, x, weight, *options, need),
            tolerance=BACKWARD,
        )


def check_segaware_convolution(bench: Bench) -> None:
    case = bench.case
    groups, (x, weight, bias, dy, m) = _filter(bench)
    start = bias if case.flags[0] else None
    need = frozenset(bench.random.choice(["x", "mask", "weight", "bias"], 3))
    options = (case.window, groups)
    with _way(bench):
        bench.compare(
            gpu.segaware_convolution,
            segaware.segaware_convolution,
            *(x, m, weight, start, *options),
            tolerance=FORWARD,
        )
        bench.compare(
            gpu.segaware_convolution_grad,
            segaware.segaware_convolution_grad,
            *(dy, x, m, weight, *options, need),
            tolerance=BACKWARD,
        )


def _way(bench: Bench) -> Any:
    """Let half of the cases take the forms for many channels, cut into small pieces."""
    implicit = 0 if bench.random.integers(2) else 128
    room = int(bench.random.choice([1, 2000, 10**6]))
    module = import_module("segaware_np.gpu.convolution")
    return patch.multiple(module, IMPLICIT_CHANNELS=implicit, PIECE_BYTES=room)


def check_masked_sum(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    x, dy = bench.normal(g.image(case.channels)), bench.normal(g.result(case.channels))
    m = bench.weights(g.result(case.window.size))
    need = frozenset(name for name, flag in zip(("x", "mask"), case.flags, strict=True) if flag)
    bench.compare(gpu.masked_sum, masked_sum.masked_sum, x, m, case.window, tolerance=FORWARD)
    bench.compare(
        gpu.masked_sum_grad,
        masked_sum.masked_sum_grad,
        *(dy, x, m, case.window, need),
        tolerance=BACKWARD,
    )


def check_pooling(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    window = case.window
    window = type(window)(
        window.kernel,
        window.stride,
        tuple(min(p, k - 1) for p, k in zip(window.pad, window.kernel, strict=True)),
    )
    size = tuple(max(n, k) for n, k in zip(g.size, window.kernel, strict=True))
    x = bench.random.integers(-2, 3, (g.batch, case.channels, *size)).astype(case.dtype)
    count = pooling.pooled_shape(size, window)
    dy = bench.normal((*x.shape[:2], *count))

    def maximum(x: np.ndarray, window: Any, count: Any) -> np.ndarray:
        return pooling.max_pool_forward(x, window)[0]

    def maximum_grad(dy: np.ndarray, x: np.ndarray, y: np.ndarray, window: Any) -> np.ndarray:
        return pooling.max_pool_backward(dy, pooling.max_pool_forward(x, window)[1])

    def average(x: np.ndarray, window: Any, count: Any) -> np.ndarray:
        return pooling.average_pool_forward(x, window)[0]

    def average_grad(dy: np.ndarray, shape: Any, window: Any) -> np.ndarray:
        cache = pooling.average_pool_forward(x.astype(float), window)[1]
        return pooling.average_pool_backward(dy, cache)

    y = maximum(x.astype(float), window, count).astype(case.dtype)
    bench.compare(gpu.max_pool, maximum, x, window, count, tolerance=FORWARD)
    bench.compare(gpu.max_pool_grad, maximum_grad, dy, x, y, window, tolerance=BACKWARD)
    bench.compare(gpu.average_pool, average, x, window, count, tolerance=FORWARD)
    bench.compare(gpu.average_pool_grad, average_grad, dy, size, window, tolerance=BACKWARD)


def check_resize(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    size = tuple(int(n) for n in bench.random.integers(1, 14, 2))
    x = bench.normal(g.image(case.channels))
    dy = bench.normal((*x.shape[:2], *size))

    def plain(x: np.ndarray, size: Any) -> np.ndarray:
        return resize_ops.resize_forward(x, size)[0]

    def plain_grad(dy: np.ndarray, shape: Any) -> np.ndarray:
        return resize_ops.resize_backward(dy, resize_ops.ResizeCache(shape, size))

    bench.compare(gpu.resize, plain, x, size, tolerance=FORWARD)
    bench.compare(gpu.resize_grad, plain_grad, dy, g.size, tolerance=BACKWARD)


def check_softmax(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    x, factor = bench.normal(g.image(case.channels)), bench.weights((g.batch, *g.size))
    bench.compare(gpu.softmax, softmax.softmax, x, tolerance=FORWARD)
    p = softmax.softmax(x.astype(float)).astype(case.dtype)
    dp = bench.normal(p.shape)
    bench.compare(gpu.softmax_grad, softmax.softmax_grad, dp, p, tolerance=BACKWARD)
    dtype = bench.random.choice(["u1", "i2", "i4", "i8"])  # i2 is one that kernels do not know
    labels = bench.random.integers(0, case.channels + 1, factor.shape).astype(dtype)
    want = softmax.cross_entropy(x.astype(float), labels)
    have = gpu.cross_entropy(bench.device(x), bench.device(labels))
    for a, b in zip(have, want, strict=True):
        np.testing.assert_array_equal(np.isnan(a.get()), np.isnan(b))
        assert_near(np.nan_to_num(a.get()), np.nan_to_num(b), FORWARD[case.dtype])
    bench.compare(
        gpu.cross_entropy_grad,
        softmax.cross_entropy_grad,
        *(factor, p, labels),
        tolerance=BACKWARD,
    )


def check_embedding_loss(bench: Bench) -> None:
    case, g = bench.case, bench.case.geometry
    d = np.abs(bench.normal(g.result(case.window.size)))
    d[bench.random.uniform(size=d.shape) < 0.2] = np.inf
    parity = bench.random.integers(0, 3, d.shape).astype(bench.random.choice(["u1", "i4", "i8"]))
    hinge, ignore = ("linear", "squared")[case.flags[0]], (None, 2)[case.flags[1]]
    options = (0.5, 1.5, hinge, ignore)
    want = embedding_loss.hinge_loss(d.astype(float), parity, *options)
    have = gpu.hinge_loss(bench.device(d), bench.device(parity), *options)
    assert have[0].dtype == d.dtype and have[1].dtype == np.float64
    for a, b in zip(have, want, strict=True):
        assert_near(a.get(), np.asarray(b), FORWARD[case.dtype])
    violation = want[0].astype(case.dtype)
    factor = 0.7 if bench.random.integers(2) else np.array(0.7, case.dtype)
    bench.compare(
        gpu.hinge_loss_grad,
        embedding_loss.hinge_loss_grad,
        *(factor, violation, hinge),
        tolerance=BACKWARD,
    )


CHECKS: dict[str, Callable[[Bench], None]] = {
    name.removeprefix("check_"): function
    for name, function in list(globals().items())
    if name.startswith("check_")
}
