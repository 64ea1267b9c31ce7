"""Operations that treat every pixel on its own: the channels of some pixels at a time.

Their many passes then find these pixels in the cache, one thread has them to itself, and what is
a matrix product does not wake BLAS's own threads, which would go on spinning beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from segaware_np.cpu.gemm import gemm
from segaware_np.threads import parallel

_VALUES = 1 << 16  # of one array: a quarter of a megabyte in float32

Part = tuple[slice, slice, slice]  # images, all channels, pixels


def softmax(x: np.ndarray) -> np.ndarray:
    """Fast form of `segaware_np.ops.softmax.softmax`."""
    flat, p = _flat(x), np.empty(x.shape, x.dtype)
    out = _flat(p)

    def work(part: Part) -> None:
        block = out[part]
        np.subtract(flat[part], flat[part].max(1, keepdims=True), out=block)
        np.exp(block, out=block)
        block /= block.sum(1, keepdims=True)

    parallel(work, _parts(flat))
    return p


def softmax_grad(dp: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Fast form of `segaware_np.ops.softmax.softmax_grad`."""
    dflat, flat, dx = _flat(dp), _flat(p), np.empty(p.shape, p.dtype)
    out = _flat(dx)

    def work(part: Part) -> None:
        block = out[part]
        total = np.einsum("ncp,ncp->np", flat[part], dflat[part])
        np.subtract(dflat[part], total[:, None], out=block)
        block *= flat[part]

    parallel(work, _parts(flat))
    return dx


def mean_field_update(
    unary: np.ndarray, filtered: Sequence[np.ndarray], mixers: Sequence[np.ndarray]
) -> np.ndarray:
    """Fast form of `segaware_np.ops.mean_field.mean_field_update`."""
    u, q = _flat(unary), np.empty(unary.shape, unary.dtype)
    inputs, out = [*map(_flat, filtered)], _flat(q)
    minus = [-np.ascontiguousarray(mixer) for mixer in mixers]

    def work(part: Part) -> None:
        out[part] = u[part]
        for n in range(part[0].start, part[0].stop):
            pixels = n, *part[1:]
            for matrix, a in zip(minus, inputs, strict=True):
                gemm(matrix, a[pixels], out[pixels], beta=1)

    parallel(work, _parts(u))
    return q


def mean_field_update_grad(
    dq: np.ndarray, filtered: Sequence[np.ndarray], mixers: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Fast form of `segaware_np.ops.mean_field.mean_field_update_grad`."""
    arrived, inputs = _flat(dq), [*map(_flat, filtered)]
    dfiltered = [np.empty(a.shape, a.dtype) for a in filtered]
    minus, outputs = [-np.ascontiguousarray(mixer) for mixer in mixers], [*map(_flat, dfiltered)]

    def work(part: Part) -> list[np.ndarray]:
        sums = [np.zeros_like(matrix) for matrix in minus]
        for n in range(part[0].start, part[0].stop):
            pixels = n, *part[1:]
            for i, matrix in enumerate(minus):
                gemm(arrived[pixels], inputs[i][pixels].T, sums[i], beta=1)
                gemm(matrix.T, arrived[pixels], outputs[i][pixels])
        return sums

    parts = parallel(work, _parts(arrived))
    dmixers = [np.zeros_like(matrix) for matrix in minus]
    for sums in parts:  # in their order, whoever computed them
        for dmixer, part in zip(dmixers, sums, strict=True):
            dmixer -= part
    return dfiltered, dmixers


def _flat(array: np.ndarray) -> np.ndarray:
    """An array (N, C, ...) as (N, C, pixels), without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(*array.shape[:2], prod(array.shape[2:]))


def _parts(array: np.ndarray) -> list[Part]:
    """Some pixels of an image, or all those of several images."""
    n, c, pixels = array.shape
    length = max(1, _VALUES // max(1, c))
    images = max(1, length // max(1, pixels))
    return [
        (slice(first, min(first + images, n)), slice(None), slice(start, start + length))
        for first in range(0, n, images)
        for start in range(0, pixels, length)
    ]
