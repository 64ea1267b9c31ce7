"""Windows of an image as views into its memory, a band of output rows at a time.

In a contiguous image a step of dy rows and dx columns is a step of ``dy * W + dx`` elements, for
every pixel. So the windows of a band are one strided view into the image: no columns and no
padded copy are built to look through it. The view takes no notice of the image's border:

* beside the first and the last column it runs on into the next row, and `WindowViews.clear`
  sets those entries of a result to zero, whatever was computed there (a NaN at one edge of the
  image does not come out at the other);
* above and below the image it would leave the image's memory, so those few bands look at a copy
  of their pixels with zeros around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from segaware_np.cpu.workspace import scratch
from segaware_np.window import Pair, Window

# A band's columns should stay in the second-level cache next to what they are made of, and rows
# of them should be long: the trials show a broad optimum around these numbers.
_PIXELS = 1024
_COLUMN_BYTES = 3 << 19


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

    @cached_property
    def count(self) -> Pair:
        """Number of windows, (Ho, Wo)."""
        return self.window.output_shape(self.shape)

    @cached_property
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
        (kh, kw), (sh, sw) = self.window.kernel, self.window.stride
        (dh, dw), width = self.window.dilation, self.shape[1]
        c, length = memory.shape
        shape = (c, kh, kw, band[1] - band[0], self.count[1])
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

    @cached_property
    def inside_columns(self) -> list[slice]:
        """For each column of the kernel, which columns of windows see the image through it."""
        return [self._inside(1, j, (0, self.count[1])) for j in range(self.window.kernel[1])]

    @cached_property
    def _outside_columns(self) -> list[tuple[int, slice]]:
        return [
            (j, outside)
            for j, inside in enumerate(self.inside_columns)
            for outside in (slice(0, inside.start), slice(inside.stop, self.count[1]))
            if outside.stop > outside.start
        ]

    @cached_property
    def _height(self) -> int:
        """Rows that one window spans."""
        return (self.window.kernel[0] - 1) * self.window.dilation[0] + 1

    def _inside(self, axis: int, tap: int, span: Pair) -> slice:
        """Which of the windows [first, stop) on an axis see the image through a tap."""
        seeing = self.window.axes(self.shape)[axis].seeing(tap, *span)
        return slice(seeing.start - span[0], seeing.stop - span[0])


def overlap(low: int, high: int, start: int, stop: int) -> tuple[slice, slice]:
    """Where the ranges [low, high) and [start, stop) overlap, as seen from each."""
    first = min(max(low, start), high)
    last = max(min(high, stop), first)
    return slice(first - low, last - low), slice(first - start, last - start)
