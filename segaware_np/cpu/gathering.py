"""The adjoint of looking through windows: pixels gather from all the windows they are in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segaware_np.cpu.views import WindowViews, overlap
from segaware_np.cpu.workspace import scratch
from segaware_np.window import Pair

Run = tuple[int, np.ndarray]  # values (C, L) of consecutive pixels, and the first of these pixels


class Gathering:
    """An image that grows by what the windows of some output rows send to their pixels.

    Sums go straight into the pixels of these rows. The windows reach beyond them, where other
    threads may be adding: what belongs there is kept in two strips, for the caller to add when
    all threads are done, always in the same order. What lies outside the image is dropped.

    Parameters
    ----------
    image : (C, H*W) array
        Flat image, to which everything is added.
    windows : WindowViews
    rows : (first, last + 1) output row
    """

    def __init__(self, image: np.ndarray, windows: WindowViews, rows: Pair) -> None:
        low, high = windows.reach(rows)
        start, stop = (_edge(windows, row) for row in rows)
        above, below = max(0, start - max(0, low)), max(0, min(windows.pixels, high) - stop)
        self.borders: list[Run] = [
            (start - above, np.zeros((len(image), above), image.dtype)),
            (stop, np.zeros((len(image), below), image.dtype)),
        ]
        self._runs: list[Run] = [(start, image[:, start:stop]), *self.borders]

    def add(self, channels: slice, first: int, values: np.ndarray) -> None:
        """Add values (C, L) to consecutive pixels of some channels."""
        last = first + values.shape[1]
        for start, run in self._runs:
            inner, outer = overlap(first, last, start, start + run.shape[1])
            if inner.stop > inner.start:
                run[channels, outer] += values[:, inner]


def _edge(windows: WindowViews, row: int) -> int:
    """First pixel that belongs to the windows from this output row on."""
    if row == windows.count[0]:
        return windows.pixels
    height, width = windows.shape
    centre = row * windows.window.stride[0] + windows.window.origin[0]
    return min(max(0, centre), height) * width if row else 0


def gather(columns: np.ndarray, windows: WindowViews, band: Pair) -> Run:
    """Sum the columns (C, kh, kw, rows, Wo) of a band into pixels, for every geometry."""
    low, high = windows.reach(band)
    pixels = scratch("pixels", (len(columns), high - low), columns.dtype)
    pixels[:] = 0
    view = windows.view(pixels, low, band)
    for i in range(windows.window.kernel[0]):
        for j, inside in enumerate(windows.inside_columns):
            view[:, i, j, :, inside] += columns[:, i, j, :, inside]
    return low, pixels


def margin(windows: WindowViews) -> int | None:
    """Zeros that `gather_weighted` needs behind each row of columns; None where it cannot work.

    Its windows must be as dense as the pixels: one step to the right in both.
    """
    window = windows.window
    if window.stride != (1, 1) or windows.count[1] != windows.shape[1]:
        return None
    return (window.kernel[1] - 1) * window.dilation[1]


def gather_weighted(
    columns: np.ndarray, weights: np.ndarray, windows: WindowViews, band: Pair
) -> Iterator[Run]:
    """Like `gather` of ``weights * columns``, in one pass for each row of the kernel.

    ``values[c, q] = sum_j columns[c, i, j, q - j d] weights[i, j, q - j d]``: a view that steps
    back by d when it steps on to the next j lets `einsum` multiply and shift at once.

    Parameters
    ----------
    columns, weights : (C, kh, kw, L + margin) and (kh, kw, L + margin) array
        Zero where a neighbour lies outside the image, and in the margin.
    """
    (kh, kw), (dh, dw) = windows.window.kernel, windows.window.dilation
    (c, _, _, length), size = columns.shape, columns.itemsize
    skewed = (length - dw) * size
    values = scratch("pixels", (c, length), columns.dtype)
    for i in range(kh):
        row, first = i * kw * length * size, windows.reach(band)[0] + i * dh * windows.shape[1]
        steps = kh * kw * length * size, skewed, size
        shifted = np.ndarray((c, kw, length), columns.dtype, columns, row, steps)
        shifted_weights = np.ndarray((kw, length), weights.dtype, weights, row, steps[1:])
        yield first, np.einsum("cjl,jl->cl", shifted, shifted_weights, out=values)
