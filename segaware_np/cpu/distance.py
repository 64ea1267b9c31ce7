"""Embedding distances by symmetric offsets, in bands that stay in the cache.

The distance from p to q is that from q to p, and offsets come in pairs ``+delta, -delta``: half of
them are computed and each result is stored twice. Backward, both entries of a pair pull along the
same difference, so their gradients are added before they meet the channels. Nothing of size
channels times offsets is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from segaware_np.cpu.workspace import scratch
from segaware_np.ops.shifts import Index, centres, pairs
from segaware_np.threads import get_num_threads, parallel
from segaware_np.window import Pair, Window

_VALUES = 1 << 16  # of one difference: a quarter of a megabyte in float32
_CHANNELS = 32  # that share one look at the gradients of a band


class _Shift(NamedTuple):
    """Windows of an offset, their centres, their neighbours, and the same distances as seen from
    the neighbours, under another offset (None where the window has no such offset)."""

    k: int
    inside: Index
    here: Index
    there: Index
    partner: int | None
    reflected: Index


def distance(
    embedding: np.ndarray, window: Window, norm: str, remove_center: bool, remove_bounds: bool
) -> np.ndarray:
    """Fast form of `segaware_np.ops.distance.distance`."""
    n, e, *shape = embedding.shape
    d = np.zeros((n, window.size, *window.output_shape((shape[0], shape[1]))), embedding.dtype)
    inside, _ = centres((shape[0], shape[1]), window)
    if remove_bounds:
        d[inside] = np.inf
    shifts = _shifts((shape[0], shape[1]), window)

    def work(job: tuple[int, Pair]) -> None:
        image, rows = job
        x, out = embedding[image], d[image]
        for shift in _within(shifts, rows, window):
            if shift.k == window.centre:
                out[shift.k][shift.inside] = 0 * x[shift.here].sum(0)  # NaN stays NaN
                continue
            total = _norm(_difference(x, shift), norm)
            out[shift.k][shift.inside] = total
            if shift.partner is not None:
                out[shift.partner][shift.reflected] = total

    parallel(work, [(image, rows) for image in range(n) for rows in _bands(d.shape[2:], e)])
    if remove_center:
        d[:, window.centre][inside] = np.inf
    return d


def distance_grad(
    d_distance: np.ndarray,
    embedding: np.ndarray,
    window: Window,
    norm: str,
    remove_center: bool,
    remove_bounds: bool,
) -> np.ndarray:
    """Fast form of `segaware_np.ops.distance.distance_grad`."""
    n, e, *shape = embedding.shape
    de = np.zeros(embedding.shape, embedding.dtype)
    shifts = [s for s in _shifts((shape[0], shape[1]), window) if s.k != window.centre]

    def work(job: tuple[int, slice]) -> None:
        image, channels = job
        x, dx, dd = embedding[image, channels], de[image, channels], d_distance[image]
        sign = _finite_sign if np.isfinite(x).all() else _sign
        for rows in _bands(dd.shape[1:], x.shape[0]):
            for shift in _within(shifts, rows, window):
                pull = _difference(x, shift)
                if norm == "L1":
                    sign(pull)
                g = dd[shift.k][shift.inside]
                if shift.partner is not None:
                    g = g + dd[shift.partner][shift.reflected]
                pull *= g
                dx[shift.here] += pull
                dx[shift.there] -= pull

    step = max(1, min(_CHANNELS, n * e // get_num_threads()))
    blocks = [slice(c, min(c + step, e)) for c in range(0, e, step)]
    parallel(work, [(image, block) for image in range(n) for block in blocks])
    return de


def _shifts(shape: Pair, window: Window) -> list[_Shift]:
    """The offsets whose distances have to be computed; no distance to oneself is among them."""
    (oy, ox), count = window.origin, window.output_shape(shape)
    every_pixel = (
        window.stride == (1, 1)
        and max(oy, ox) <= 0
        and oy + count[0] >= shape[0]
        and ox + count[1] >= shape[1]
    )
    numbers = {offset: k for k, offset in enumerate(window.offsets)}
    chosen = []
    for k, inside, here, there in pairs(shape, window):
        dy, dx = window.offsets[k]
        partner = numbers.get((-dy, -dx)) if every_pixel and (dy, dx) != (0, 0) else None
        if partner is not None and (dy, dx) < (0, 0):
            continue
        reflected = (
            ...,
            *(_moved(axis, step) for axis, step in zip(inside[1:], (dy, dx), strict=True)),
        )
        chosen.append(_Shift(k, inside, here, there, partner, reflected))
    return chosen


def _moved(axis: slice, step: int) -> slice:
    return slice(axis.start + step, axis.stop + step)


def _within(shifts: list[_Shift], rows: Pair, window: Window) -> Iterator[_Shift]:
    """The part of each shift that belongs to a band of output rows."""
    stride = window.stride[0]
    for k, inside, here, there, partner, reflected in shifts:
        skip = max(0, rows[0] - inside[1].start)
        size = min(rows[1], inside[1].stop) - inside[1].start - skip
        if size > 0:
            yield _Shift(
                k,
                _rows(inside, skip, size, 1),
                _rows(here, skip, size, stride),
                _rows(there, skip, size, stride),
                partner,
                _rows(reflected, skip, size, 1),
            )


def _rows(index: Index, skip: int, size: int, stride: int) -> Index:
    first = index[1].start + skip * stride
    return ..., slice(first, first + (size - 1) * stride + 1, stride), index[2]


def _difference(x: np.ndarray, shift: _Shift) -> np.ndarray:
    here, there = x[shift.here], x[shift.there]
    return np.subtract(here, there, out=scratch("difference", here.shape, x.dtype))


def _norm(difference: np.ndarray, norm: str) -> np.ndarray:
    """Sum over the channels of a difference, which is overwritten."""
    if norm == "L2":
        total = np.einsum("cyx,cyx->yx", difference, difference)
        total *= 0.5
        return total
    np.abs(difference, out=difference)
    c, h, w = difference.shape
    return (np.ones(c, difference.dtype) @ difference.reshape(c, h * w)).reshape(h, w)


def _sign(x: np.ndarray) -> None:
    np.sign(x, out=x)


def _finite_sign(x: np.ndarray) -> None:
    """In place, without the branches of `numpy.sign`, which real data makes the CPU mispredict."""
    above = np.greater(x, 0, out=scratch("above", x.shape, np.dtype(bool))).view(np.int8)
    below = np.less(x, 0, out=scratch("below", x.shape, np.dtype(bool))).view(np.int8)
    np.copyto(x, np.subtract(above, below, out=above))


def _bands(count: Pair, channels: int) -> list[Pair]:
    height = max(1, _VALUES // max(1, channels * count[1]))
    return [(row, min(row + height, count[0])) for row in range(0, count[0], height)]
