"""Sums over windows as products with banded matrices.

Neighbouring windows in a row of an image see overlapping stretches of pixels. What a window
weighs its pixels with is a row of a matrix, in which each row begins one place further right::

    window 0    m0 m1 m2  0  0      on the pixels  x0 x1 x2 x3 x4
    window 1     0 m0 m1 m2  0
    window 2     0  0 m0 m1 m2

For all channels together, the sums are the product of the pixels and this matrix. BLAS multiplies
so much faster than anything adds shifted images that the zeros do not matter, as long as a block
of windows is about as long as the kernel.

With dilation d a window sees every d-th pixel. Windows whose numbers have the same residue see
the same pixels, and among these pixels their dilation is 1: the image falls apart into smaller
ones that are not dilated (see `Residues`). A tile is the part of such an image that a block sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import NamedTuple

import numpy as np

from segaware_np.cpu.threads import scratch
from segaware_np.window import Pair, Window

_BLOCK = 12  # windows, at most
_HEIGHT = 16  # rows of windows in a part, at most; or twice as many as the kernel has
_VALUES = 1 << 18  # of matrices that are multiplied together: a megabyte in float32

Index = tuple[slice, slice, slice]


class Rows(NamedTuple):
    """Rows of windows, or of pixels, of one residue, numbered within it."""

    residue: int
    first: int
    stop: int


@dataclass(frozen=True)
class Residues:
    """Windows along one axis of an image, by the residue of their number.

    The windows ``r, r + residues, r + 2 residues ...`` are those of stride `step` and dilation 1
    on the pixels ``start(r), start(r) + dilation, start(r) + 2 dilation ...``.
    """

    kernel: int
    stride: int
    pad: int
    dilation: int
    length: int
    count: int

    @property
    def residues(self) -> int:
        return min(self.dilation // gcd(self.stride, self.dilation), self.count)

    @property
    def step(self) -> int:
        return self.stride // gcd(self.stride, self.dilation)

    def start(self, residue: int) -> int:
        return self.stride * residue - self.pad

    def windows(self, residue: int) -> int:
        """Number of windows of a residue; residue 0 has most."""
        return len(range(residue, self.count, self.residues))

    def seen(self, windows: int) -> int:
        """Number of pixels that some windows in succession see."""
        return (windows - 1) * self.step + self.kernel

    def inside(self, pixels: Rows) -> Rows:
        """Those of some pixels that lie inside the image."""
        residue, first, stop = pixels
        start = self.start(residue)
        first = max(first, -(start // self.dilation))
        stop = min(stop, -((start - self.length) // self.dilation))
        return Rows(residue, first, max(first, stop))


class Banded:
    """Tiles and banded matrices for the windows on images of one size.

    In the shapes below, R: residues of columns, B: blocks of a row, b: windows of a block,
    v: pixels of a row that a block sees, T: rows of windows, P: rows of pixels that these see.
    New arrays are scratch memory.

    Parameters
    ----------
    window : Window
    shape : (H, W)
    dtype : dtype
    """

    def __init__(self, window: Window, shape: Pair, dtype: np.dtype) -> None:
        parts = window.kernel, window.stride, window.pad, window.dilation, shape
        count = window.output_shape(shape)
        self.rows, self.columns = (Residues(*axis) for axis in zip(*parts, count, strict=True))
        self.dtype = dtype
        longest = self.columns.windows(0)
        self.blocks = -(-longest // _BLOCK)
        self.block = -(-longest // self.blocks)
        self.width = self.columns.seen(self.block)
        self.tiles = self.columns.residues * self.blocks

    def parts(self) -> list[Rows]:
        """All rows of windows, in parts of even height."""
        parts, height = [], max(_HEIGHT, 2 * self.rows.kernel)
        for residue in range(self.rows.residues):
            rows = self.rows.windows(residue)
            count = -(-rows // height)
            edges = [rows * i // count for i in range(count + 1)]
            parts += [Rows(residue, first, stop) for first, stop in pairwise(edges)]
        return parts

    def steps(self, rows: Rows) -> Iterator[tuple[Rows, slice]]:
        """As many rows of windows at a time as have matrices that fit into the cache: they
        themselves, and where they are among all that are given."""
        residue, first, stop = rows
        values = self.tiles * self.block * self.rows.kernel * self.width
        height = max(1, _VALUES // values)
        for row in range(first, stop, height):
            last = min(row + height, stop)
            yield Rows(residue, row, last), slice(row - first, last - first)

    # --- pixels and their tiles ---------------------------------------------------------------

    def cut(self, image: np.ndarray, rows: Rows) -> np.ndarray:
        """Tiles (R, B, C, P, v) of what rows of windows see of an image (C, H, W), and of zeros
        around it."""
        pixels = self._pixels(rows)
        canvas = self._canvas(len(image), pixels)
        inner, outer = self._overlap(canvas, pixels, pixels)
        canvas[inner] = image[outer]
        tiles = self.empty_tiles(len(image), rows)
        np.copyto(tiles, self._stretches(canvas))
        return tiles

    def paste(self, tiles: np.ndarray, image: np.ndarray, rows: Rows) -> tuple[Index, np.ndarray]:
        """The adjoint of `cut`: a pixel becomes the sum of its places in the tiles.

        Rows that the next windows see as well, where another thread may be at work, are not
        written into the image: they are returned, to be added to it at an index.
        """
        pixels = self._pixels(rows)
        canvas = self._canvas(tiles.shape[2], pixels)
        stretches = self._stretches(canvas)
        for block in range(self.blocks):  # whose tiles overlap
            stretches[:, block] += tiles[:, block]
        edge = min(rows.stop * self.rows.step, pixels.stop)
        inner, outer = self._overlap(canvas, pixels, pixels._replace(stop=edge))
        image[outer] = canvas[inner]
        inner, outer = self._overlap(canvas, pixels, pixels._replace(first=edge))
        return outer, canvas[inner].copy()

    def empty_tiles(self, channels: int, rows: Rows) -> np.ndarray:
        """Tiles (R, B, C, P, v) of anything."""
        height = self.rows.seen(rows.stop - rows.first)
        shape = self.columns.residues, self.blocks, channels, height, self.width
        return scratch("tiles", shape, self.dtype)

    def seen(self, tiles: np.ndarray) -> np.ndarray:
        """What each row of windows sees of tiles, a view (T, R B, C, kh v)."""
        _, _, c, height, v = tiles.shape
        shape = (height - self.rows.kernel) // self.rows.step + 1, self.tiles, c
        steps = self.rows.step * v, c * height * v, height * v, 1
        return _view(tiles, (*shape, self.rows.kernel * v), steps)

    def _pixels(self, rows: Rows) -> Rows:
        """The rows of pixels that rows of windows see."""
        first = rows.first * self.rows.step
        return Rows(rows.residue, first, first + self.rows.seen(rows.stop - rows.first))

    def _canvas(self, channels: int, pixels: Rows) -> np.ndarray:
        """Zeros (C, P, all columns that tiles cover)."""
        last = self.columns.stride * (self.columns.residues - 1)
        last += self.columns.dilation * (self.columns.seen(self.blocks * self.block) - 1)
        canvas = scratch("canvas", (channels, pixels.stop - pixels.first, last + 1), self.dtype)
        canvas[:] = 0
        return canvas

    def _overlap(self, canvas: np.ndarray, pixels: Rows, part: Rows) -> tuple[Index, Index]:
        """Where a part of a canvas shows the image: index of the canvas, and of the image."""
        residue, first, stop = self.rows.inside(part)
        start, step, pad = self.rows.start(residue), self.rows.dilation, self.columns.pad
        outer = slice(start + first * step, start + stop * step, step)
        inner = slice(first - pixels.first, stop - pixels.first)
        width = max(0, min(self.columns.length, canvas.shape[2] - pad))
        return (slice(None), inner, slice(pad, pad + width)), (slice(None), outer, slice(width))

    def _stretches(self, canvas: np.ndarray) -> np.ndarray:
        """The tiles on a canvas, a view (R, B, C, P, v)."""
        c, height, width = canvas.shape
        axis = self.columns
        shape = axis.residues, self.blocks, c, height, self.width
        to_next_block = axis.dilation * axis.step * self.block
        steps = axis.stride, to_next_block, height * width, width, axis.dilation
        return _view(canvas, shape, steps)

    # --- windows and their matrices -----------------------------------------------------------

    def matrices(self, rows: Rows) -> np.ndarray:
        """Matrices (T, R B, b, kh v) of zeros, for each of the `steps` of rows in turn."""
        height = max(part.stop - part.first for part, _ in self.steps(rows))
        shape = height, self.tiles, self.block, self.rows.kernel * self.width
        matrices = scratch("matrices", shape, self.dtype)
        matrices[:] = 0
        return matrices

    def spread(self, mask: np.ndarray, rows: Rows, matrices: np.ndarray) -> np.ndarray:
        """Write the weights of a mask (K, Ho, Wo) into their bands; return the matrices of these
        rows of windows."""
        matrices = matrices[: rows.stop - rows.first]
        bands = self._bands(matrices)
        np.copyto(bands, self._load(mask, rows).reshape(bands.shape))
        return matrices

    def collect(self, matrices: np.ndarray, mask: np.ndarray, rows: Rows) -> None:
        """Write what stands in the bands of matrices into a mask (K, Ho, Wo)."""
        self._store(self._bands(matrices), mask, rows)

    def split(self, array: np.ndarray, rows: Rows) -> np.ndarray:
        """Rows of windows of an array (C, Ho, Wo) in blocks, (T, R B, C, b)."""
        lines = self._load(array, rows).transpose(1, 4, 2, 0, 3)
        height, _, _, c, b = lines.shape
        blocks = scratch("blocks", lines.shape, self.dtype)
        np.copyto(blocks, lines)
        return blocks.reshape(height, self.tiles, c, b)

    def join(self, blocks: np.ndarray, array: np.ndarray, rows: Rows) -> None:
        """Undo `split`: write blocks into an array (C, Ho, Wo)."""
        height, _, c, b = blocks.shape
        blocks = blocks.reshape(height, self.columns.residues, self.blocks, c, b)
        self._store(blocks.transpose(3, 0, 2, 4, 1), array, rows)

    def _bands(self, matrices: np.ndarray) -> np.ndarray:
        """The places of the weights in matrices, a view (kh, kw, T, B, b, R)."""
        (height, _, b, length), v = matrices.shape, self.width
        shape = self.rows.kernel, self.columns.kernel, height, self.blocks, b, self.columns.residues
        to_next_window = length + self.columns.step  # a row of the matrix on, and to the right
        matrix = b * length
        steps = v, 1, self.tiles * matrix, matrix, to_next_window, self.blocks * matrix
        return _view(matrices, shape, steps)

    def _load(self, array: np.ndarray, rows: Rows) -> np.ndarray:
        """Rows of windows of an array (A, Ho, Wo), and zeros behind them, as (A, T, B, b, R)."""
        lines = self._lines(len(array), rows)
        lines[..., : self.columns.count] = array[:, self._windows(rows)]
        lines[..., self.columns.count :] = 0
        return lines.reshape(*lines.shape[:2], self.blocks, self.block, self.columns.residues)

    def _store(self, ordered: np.ndarray, array: np.ndarray, rows: Rows) -> None:
        """Undo `_load`: write (A..., T, B, b, R) into an array (A, Ho, Wo)."""
        lines = self._lines(len(array), rows)
        np.copyto(lines.reshape(ordered.shape), ordered)
        array[:, self._windows(rows)] = lines[..., : self.columns.count]

    def _lines(self, count: int, rows: Rows) -> np.ndarray:
        shape = count, rows.stop - rows.first, self.tiles * self.block
        return scratch("lines", shape, self.dtype)

    def _windows(self, rows: Rows) -> slice:
        """Rows of a residue among all rows of windows."""
        residue, first, stop = rows
        step = self.rows.residues
        return slice(residue + step * first, residue + step * (stop - 1) + 1, step)


def _view(memory: np.ndarray, shape: tuple[int, ...], steps: tuple[int, ...]) -> np.ndarray:
    """A view of contiguous memory from its beginning, with steps in elements."""
    strides = tuple(step * memory.itemsize for step in steps)
    return np.ndarray(shape, memory.dtype, memory, 0, strides)
