"""Each kernel, for each of its types, runs at least once and computes what its formula does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from itertools import islice
from types import ModuleType

import numpy as np
from engine_checks import TOLERANCE, assert_near

from segaware_np import ops
from segaware_np.gpu import kernels
from segaware_np.ops.parity import label_parity_forward
from segaware_np.window import Window

pytest_plugins = "segaware_np.testing.cuda.plugin"

WINDOW = Window.same(3)
RNG = np.random.default_rng(0)
X, EMBEDDING = (RNG.standard_normal((2, n, 5, 6)) for n in (3, 4))
MASK = RNG.uniform(size=(2, 9, 5, 6))
DISTANCE = np.where(MASK < 0.2, np.inf, MASK)
PARITY = RNG.integers(0, 3, MASK.shape)
LABELS = RNG.integers(0, 3, (2, 5, 6))


def weight(outputs: int) -> np.ndarray:
    return np.random.default_rng(outputs).standard_normal((outputs, 3, 3, 3)) / 4


def masked(x, mask, w) -> tuple:
    return ops.segaware_convolution_forward(x, mask, w, window=WINDOW)


def plain(x, w) -> tuple:
    return ops.convolution_forward(x, w, window=WINDOW)


def convolutions() -> Iterator[tuple]:
    for outputs in (2, 20, 40):  # one for each width of tile
        yield plain, ops.convolution_backward, [X, weight(outputs)]
        yield masked, ops.segaware_convolution_backward, [X, MASK, weight(outputs)]


def losses(labels: str) -> Iterator[tuple]:
    cross_entropy = ops.softmax_cross_entropy_forward, ops.softmax_cross_entropy_backward
    yield *cross_entropy, [X, LABELS.astype(labels)]
    embedding_loss = ops.embedding_loss_forward, ops.embedding_loss_backward
    yield *embedding_loss, [DISTANCE, PARITY.astype(labels)]


def others() -> Iterator[tuple]:
    for norm in ("L1", "L2"):
        forward = partial(ops.distance_forward, window=WINDOW, norm=norm)
        yield forward, ops.distance_backward, [EMBEDDING]
        for normalized in (False, True):
            options = {"window": WINDOW, "norm": norm, "normalized": normalized}
            forward = partial(ops.local_mask_forward, scale=0.5, **options)
            yield forward, ops.local_mask_backward, [EMBEDDING]
    yield lambda d: ops.exponential_mask_forward(d, 0.5), ops.exponential_mask_backward, [DISTANCE]
    yield lambda d: ops.normalized_mask_forward(d, 0.5), ops.normalized_mask_backward, [DISTANCE]
    yield lambda x: ops.im2col_forward(x, WINDOW), ops.im2col_backward, [X]
    yield lambda x, m: ops.masked_sum_forward(x, m, WINDOW), ops.masked_sum_backward, [X, MASK]
    yield ops.softmax_forward, ops.softmax_backward, [X]
    yield lambda x: ops.max_pool_forward(x, WINDOW), ops.max_pool_backward, [X]
    yield lambda x: ops.average_pool_forward(x, WINDOW), ops.average_pool_backward, [X]
    yield lambda x: ops.resize_forward(x, (7, 4)), ops.resize_backward, [X]


def outcome(forward: Callable, backward: Callable, arrays: list) -> list:
    y, cache = forward(*arrays)
    gradients = backward(y * 0 + 1, cache)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]


def compare(cupy: ModuleType, dtype: str, cases: Iterable[tuple], tolerance: float) -> None:
    for forward, backward, arrays in cases:
        narrow = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        wide = [a.astype("d") if a.dtype.kind == "f" else a for a in narrow]
        have = outcome(forward, backward, [cupy.asarray(a) for a in narrow])
        for a, b in zip(have, outcome(forward, backward, wide), strict=True):
            if b is not None:
                assert_near(a.get(), np.asarray(b), tolerance)


def test_every_kernel_computes_what_its_formula_does(cupy, monkeypatch) -> None:
    counted = getattr(cupy, "launches", [])
    del counted[:]
    module = import_module("segaware_np.gpu.convolution")
    for dtype in "fed":
        tolerance = TOLERANCE[dtype][1]
        for labels in ("u1", "i4", "i8"):
            compare(cupy, dtype, losses(labels), tolerance)
        compare(cupy, dtype, others(), tolerance)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_on_tensor_cores", lambda x: False)
            compare(cupy, dtype, convolutions(), tolerance)
            patch.setattr(module, "IMPLICIT_CHANNELS", 0)
            compare(cupy, dtype, islice(convolutions(), 4), tolerance)
        with monkeypatch.context() as patch:
            patch.setenv("CUPY_TF32", "1")
            compare(cupy, dtype, convolutions(), max(tolerance, 1e-2))
    for dtype in "bhiqBHIQ":
        want = label_parity_forward(LABELS.astype(dtype), WINDOW)
        have = label_parity_forward(cupy.asarray(LABELS.astype(dtype)), WINDOW)
        np.testing.assert_array_equal(have.get(), want)
    every = {
        name
        for source in kernels.CATALOG
        for element in kernels.element_types(source)
        for name in kernels.instances(source, element)
    }
    assert not counted or every - set(counted) == set()
