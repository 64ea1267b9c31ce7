"""Embedding distances by symmetric offsets, in bands that stay in the cache.

The distance from p to q is that from q to p, and offsets come in pairs ``+delta, -delta``: half of
them are computed and each result is stored twice. Backward, both entries of a pair pull along the
same difference, so their gradients are added before they meet the channels. Nothing of size
channels times offsets is ever stored.

An offset is a step of ``dy * W + dx`` through the flat pixels, so that differences are taken over
long runs of memory. Between the windows, a run meets pixels that are no pair: beside the first and
the last column, and where a stride leaves pixels out. What comes of those is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from segaware_np.cpu import small
from segaware_np.cpu.threads import get_num_threads, parallel, scratch
from segaware_np.ops.distance import Measure
from segaware_np.window import Index, Pair, Window, centres, pairs

_VALUES = 1 << 17  # of one difference: half a megabyte in float32
_CHANNELS = 16  # of one difference: a pass over few long runs takes less time than over many short
_SHARING = 32  # channels that share one look at the gradients of a band


class _Shift(NamedTuple):
    """Windows of an offset, the pixels they are centred on, and the same distances as seen from
    their neighbours, under another offset (None where the window has no such offset)."""

    k: int
    inside: Index
    here: Index
    partner: int | None
    reflected: Index


class _Run(NamedTuple):
    """The flat pixels from the first centre of a shift to the last, and how to find the windows
    among them."""

    here: slice
    there: slice
    grid: tuple[Pair, Index]

    @property
    def length(self) -> int:
        return self.here.stop - self.here.start

    def windows(self, values: np.ndarray) -> np.ndarray:
        """The windows' entries in an array of whole rows of pixels, as (rows, columns)."""
        shape, index = self.grid
        return values.reshape(shape)[index]


def distance(embedding: np.ndarray, measure: Measure) -> np.ndarray:
    """Fast form of `segaware_np.ops.distance.distance`."""
    window, norm, remove_center, remove_bounds = measure
    found = small.distance(embedding, measure)
    if found is not None:
        return found
    n, e, *shape = embedding.shape
    flat = np.ascontiguousarray(embedding).reshape(n, e, shape[0] * shape[1])
    d = np.zeros((n, window.size, *window.output_shape((shape[0], shape[1]))), embedding.dtype)
    inside, _ = centres((shape[0], shape[1]), window)
    if remove_bounds:
        d[inside] = np.inf
    shifts = _shifts((shape[0], shape[1]), window)

    def work(job: tuple[int, Pair]) -> None:
        image, rows = job
        x, out = flat[image], d[image]
        for shift in _within(shifts, rows, window.stride[0]):
            run = _run(shift, window, shape[1])
            total = scratch("total", run.grid[0], x.dtype)  # whole rows of pixels
            _measure(x, run, norm, total.reshape(-1)[: run.length])
            out[shift.k][shift.inside] = run.windows(total)
            if shift.partner is not None:
                out[shift.partner][shift.reflected] = run.windows(total)

    parallel(work, [(image, rows) for image in range(n) for rows in _bands(d.shape[2:], e)])
    if remove_center:
        d[:, window.centre][inside] = np.inf
    return d


def distance_grad(d_distance: np.ndarray, embedding: np.ndarray, measure: Measure) -> np.ndarray:
    """Fast form of `segaware_np.ops.distance.distance_grad`."""
    found = small.distance_grad(d_distance, embedding, measure)
    if found is not None:
        return found
    window, norm, *_ = measure
    n, e, *shape = embedding.shape
    flat = np.ascontiguousarray(embedding).reshape(n, e, shape[0] * shape[1])
    de = np.zeros_like(flat)
    shifts = [s for s in _shifts((shape[0], shape[1]), window) if s.k != window.centre]

    def work(job: tuple[int, slice]) -> None:
        image, channels = job
        x, dx, dd = flat[image, channels], de[image, channels], d_distance[image]
        finite = np.isfinite(x).all()
        for rows in _bands(dd.shape[1:], x.shape[0]):
            for shift in _within(shifts, rows, window.stride[0]):
                run = _run(shift, window, shape[1])
                g = _arriving(dd, shift, run)  # (L,)
                for block in _blocks(len(x), _CHANNELS):
                    pull = _slope(x[block], run, norm, finite)  # (C, L)
                    pull *= g
                    if not finite:
                        pull[:, ~_passing(dd, shift, run)] = 0
                    dx[block, run.here] += pull
                    dx[block, run.there] -= pull

    blocks = _blocks(e, max(1, min(_SHARING, n * e // get_num_threads())))
    parallel(work, [(image, block) for image in range(n) for block in blocks])
    return de.reshape(embedding.shape)


def _shifts(shape: Pair, window: Window) -> list[_Shift]:
    """The offsets whose distances have to be computed."""
    (oy, ox), count = window.origin, window.output_shape(shape)
    every_pixel = (
        window.stride == (1, 1)
        and max(oy, ox) <= 0
        and oy + count[0] >= shape[0]
        and ox + count[1] >= shape[1]
    )
    numbers = {offset: k for k, offset in enumerate(window.offsets)}
    chosen = []
    for k, inside, here, _ in pairs(shape, window):
        dy, dx = window.offsets[k]
        partner = numbers.get((-dy, -dx)) if every_pixel and (dy, dx) != (0, 0) else None
        if partner is not None and (dy, dx) < (0, 0):
            continue
        reflected = (
            ...,
            *(_moved(axis, step) for axis, step in zip(inside[1:], (dy, dx), strict=True)),
        )
        chosen.append(_Shift(k, inside, here, partner, reflected))
    return chosen


def _moved(axis: slice, step: int) -> slice:
    return slice(axis.start + step, axis.stop + step)


def _within(shifts: list[_Shift], rows: Pair, stride: int) -> Iterator[_Shift]:
    """The part of each shift that belongs to a band of output rows."""
    for k, inside, here, partner, reflected in shifts:
        skip = max(0, rows[0] - inside[1].start)
        size = min(rows[1], inside[1].stop) - inside[1].start - skip
        if size > 0:
            yield _Shift(
                k,
                _rows(inside, skip, size, 1),
                _rows(here, skip, size, stride),
                partner,
                _rows(reflected, skip, size, 1),
            )


def _rows(index: Index, skip: int, size: int, stride: int) -> Index:
    first = index[1].start + skip * stride
    return ..., slice(first, first + (size - 1) * stride + 1, stride), index[2]


def _run(shift: _Shift, window: Window, width: int) -> _Run:
    _, rows, columns = shift.here
    height = rows.stop - rows.start
    first = rows.start * width + columns.start
    last = (rows.stop - 1) * width + columns.stop
    dy, dx = window.offsets[shift.k]
    index = (slice(None, None, rows.step), slice(None, columns.stop - columns.start, columns.step))
    step = dy * width + dx
    return _Run(slice(first, last), slice(first + step, last + step), ((height, width), index))


def _difference(x: np.ndarray, run: _Run) -> np.ndarray:
    here, there = x[:, run.here], x[:, run.there]
    return np.subtract(here, there, out=scratch("difference", here.shape, x.dtype))


def _measure(x: np.ndarray, run: _Run, norm: str, total: np.ndarray) -> None:
    """Write the distances of a run, (L,)."""
    total[:] = 0
    for block in _blocks(len(x), _CHANNELS):
        difference = _difference(x[block], run)
        if norm == "L2":
            total += np.einsum("cl,cl->l", difference, difference)
        else:
            np.abs(difference, out=difference)
            total += np.ones(len(difference), difference.dtype) @ difference
    if norm == "L2":
        total *= 0.5


def _slope(x: np.ndarray, run: _Run, norm: str, finite: bool) -> np.ndarray:
    """What the distances of a run change by with their centres, (C, L)."""
    if norm == "L1" and finite:  # without the branches of `numpy.sign`, which real data mispredict
        here, there = x[:, run.here], x[:, run.there]
        above = np.greater(here, there, out=scratch("above", here.shape, np.dtype(bool)))
        below = np.less(here, there, out=scratch("below", here.shape, np.dtype(bool)))
        sign = np.subtract(above.view(np.int8), below.view(np.int8), out=above.view(np.int8))
        slope = scratch("difference", here.shape, x.dtype)
        np.copyto(slope, sign)
        return slope
    difference = _difference(x, run)
    return np.sign(difference, out=difference) if norm == "L1" else difference


def _arriving(dd: np.ndarray, shift: _Shift, run: _Run) -> np.ndarray:
    """The gradients of the distances of a run, (L,), and 0 where there is no pair."""
    g = scratch("gradient", run.grid[0], dd.dtype)
    g[:] = 0
    windows = run.windows(g)
    windows[:] = dd[shift.k][shift.inside]
    if shift.partner is not None:
        windows += dd[shift.partner][shift.reflected]
    return g.reshape(-1)[: run.length]


def _passing(dd: np.ndarray, shift: _Shift, run: _Run) -> np.ndarray:
    """Which pixels of a run have a pair there, and a gradient for it, (L,)."""
    passing = np.zeros(run.grid[0], bool)
    windows = run.windows(passing)
    windows[:] = dd[shift.k][shift.inside] != 0
    if shift.partner is not None:
        windows |= dd[shift.partner][shift.reflected] != 0
    return passing.reshape(-1)[: run.length]


def _bands(count: Pair, channels: int) -> list[Pair]:
    height = max(1, _VALUES // max(1, min(channels, _CHANNELS) * count[1]))
    return [(row, min(row + height, count[0])) for row in range(0, count[0], height)]


def _blocks(channels: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, channels)) for start in range(0, channels, step)]
