"""Windows of an image as views into its memory, a band of output rows at a time.

In a contiguous image a step of dy rows and dx columns is a step of ``dy * W + dx`` elements, for
every pixel. So the windows of a band are one strided view into the image: no columns and no
padded copy are built to look through it. The view takes no notice of the image's border:

* beside the first and the last column it runs on into the next row, and `WindowViews.clear`
  sets those entries of a result to zero, whatever was computed there (a NaN at one edge of the
  image does not come out at the other);
* above and below the image it would leave the image's memory, so those few bands look at a copy
  of their pixels with zeros around them.

The adjoint of looking is gathering: every pixel sums up what arrives from all the windows it is in
(`Gathering`, `gather`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from segaware_np.cpu.threads import scratch
from segaware_np.lazy import lazy
from segaware_np.window import Axis, Pair, Window

# A band's columns should stay in the second-level cache next to what they are made of, and rows
# of them should be long: the trials show a broad optimum around these numbers.
_PIXELS = 1024
_COLUMN_BYTES = 3 << 19

Run = tuple[int, np.ndarray]  # values (C, L) of consecutive pixels, and the first of these pixels


@dataclass(frozen=True)
class WindowViews:
    """The windows on images of one size.

    Parameters
    ----------
    window : Window
    shape : (H, W)
    """

    window: Window
    shape: Pair

    @lazy
    def count(self) -> Pair:
        """Number of windows, (Ho, Wo)."""
        return self.window.output_shape(self.shape)

    @lazy
    def pixels(self) -> int:
        """Number of pixels of the image."""
        return self.shape[0] * self.shape[1]

    def bands(self, start: int = 0, stop: int | None = None) -> list[Pair]:
        """Split the output rows [start, stop) into bands ``(first, last + 1)`` of even height."""
        rows = (self.count[0] if stop is None else stop) - start
        bands = max(1, round(rows * self.count[1] / _PIXELS))
        edges = [start + rows * i // bands for i in range(bands + 1)]
        return [(a, b) for a, b in pairwise(edges) if b > a]

    def blocks(self, count: int, itemsize: int) -> list[Pair]:
        """Split channels, or groups of them, into blocks whose columns of one band fit into the
        cache; `itemsize` is that of one of them."""
        height = max((b - a for a, b in self.bands()), default=1)
        column = height * self.count[1] * self.window.size * itemsize
        blocks = max(1, -(-count * column // _COLUMN_BYTES))
        blocks = min(blocks, count)
        edges = [count * i // blocks for i in range(blocks + 1)] if count else [0]
        return list(pairwise(edges))

    def reach(self, band: Pair) -> Pair:
        """Flat range of pixels that a band's view spans; it may leave the image at both ends."""
        (kh, kw), (sh, sw) = self.window.kernel, self.window.stride
        (ph, pw), (dh, dw) = self.window.pad, self.window.dilation
        width = self.shape[1]
        first = (band[0] * sh - ph) * width - pw
        rows, columns = (band[1] - 1 - band[0]) * sh + (kh - 1) * dh, (kw - 1) * dw
        return first, first + rows * width + columns + (self.count[1] - 1) * sw + 1

    def view_shape(self, channels: int, band: Pair) -> tuple[int, ...]:
        """Shape of a band's windows, (C, kh, kw, rows, Wo)."""
        return channels, *self.window.kernel, band[1] - band[0], self.count[1]

    def view(self, memory: np.ndarray, start: int, band: Pair) -> np.ndarray:
        """Return a band's windows on flat pixels.

        Parameters
        ----------
        memory : (C, L) contiguous array
            Flat pixels; the first of them is pixel `start` of the image.
        start : int
        band : (first, last + 1) output row

        Returns
        -------
        (C, kh, kw, rows, Wo) view, whose memory is that of the pixels.
        """
        (sh, sw), (dh, dw), width = self.window.stride, self.window.dilation, self.shape[1]
        c, length = memory.shape
        shape = self.view_shape(c, band)
        if c == 0:
            return np.empty(shape, memory.dtype)
        steps = (length, dh * width, dw, sh * width, sw)
        size = memory.itemsize
        offset = (self.reach(band)[0] - start) * size
        # Unlike as_strided, this constructor refuses a view that leaves the memory.
        return np.ndarray(shape, memory.dtype, memory, offset, tuple(s * size for s in steps))

    def look(self, image: np.ndarray, band: Pair) -> np.ndarray:
        """Return the windows of a band on an image (C, H*W), see `view`."""
        low, high = self.reach(band)
        if low >= 0 and high <= self.pixels:
            return self.view(image, 0, band)
        inner, outer = overlap(low, high, 0, self.pixels)
        copy = scratch("pixels", (image.shape[0], high - low), image.dtype)
        copy[:, : inner.start] = 0
        copy[:, inner] = image[:, outer]
        copy[:, inner.stop :] = 0
        return self.view(copy, low, band)

    def clear(self, columns: np.ndarray, band: Pair) -> None:
        """Zero the entries (..., kh, kw, rows, Wo) whose neighbour lies outside the image."""
        for j, outside in self._outside_columns:
            columns[..., j, :, outside] = 0
        top = band[0] * self.window.stride[0] - self.window.pad[0]
        span = (band[1] - 1 - band[0]) * self.window.stride[0] + self._height
        if top < 0 or top + span > self.shape[0]:
            for i in range(self.window.kernel[0]):
                inside = self._inside(0, i, band)
                columns[..., i, :, : inside.start, :] = 0
                columns[..., i, :, inside.stop :, :] = 0

    @lazy
    def inside_columns(self) -> list[slice]:
        """For each column of the kernel, which columns of windows see the image through it."""
        return [self._inside(1, j, (0, self.count[1])) for j in range(self.window.kernel[1])]

    @lazy
    def _outside_columns(self) -> list[tuple[int, slice]]:
        return [
            (j, outside)
            for j, inside in enumerate(self.inside_columns)
            for outside in (slice(0, inside.start), slice(inside.stop, self.count[1]))
            if outside.stop > outside.start
        ]

    @lazy
    def _axes(self) -> tuple[Axis, Axis]:
        return self.window.axes(self.shape)

    @lazy
    def _height(self) -> int:
        """Rows that one window spans."""
        return (self.window.kernel[0] - 1) * self.window.dilation[0] + 1

    def _inside(self, axis: int, tap: int, span: Pair) -> slice:
        """Which of the windows [first, stop) on an axis see the image through a tap."""
        seeing = self._axes[axis].seeing(tap, *span)
        return slice(seeing.start - span[0], seeing.stop - span[0])


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


def overlap(low: int, high: int, start: int, stop: int) -> tuple[slice, slice]:
    """Where the ranges [low, high) and [start, stop) overlap, as seen from each."""
    first = min(max(low, start), high)
    last = max(min(high, stop), first)
    return slice(first - low, last - low), slice(first - start, last - start)


def finite(*arrays: np.ndarray) -> bool:
    """Whether products with the zeros around an image are 0: those with a NaN would be NaN.

    What is not finite must not reach a result whose formula does not use it. The arrays' sums tell
    (and may overflow: then the answer is a false alarm).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return all(np.isfinite(array.sum()) for array in arrays)
