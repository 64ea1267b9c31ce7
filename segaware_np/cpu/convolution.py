"""Convolution and segmentation-aware convolution in bands that stay in the cache.

A band is a few output rows of one image, a block some of its input channels. For each band and
block the masked columns are written into a small buffer that is still in the cache when the
matrix product reads it:

* forward: ``y += W (m x')`` with x' the windows on x, a strided view (see `views`);
* backward: ``dW += dy (m x')^T``; then, with ``G = W^T dy`` in the same buffer,
  ``dm = sum_c G x'``, and the pixels of dx gather ``m G`` from all the windows they are in (see
  `views.Gathering`).

A plain convolution is the same without m; with stride 1 its dx is a forward pass of dy.

The columns hold zeros where a window leaves the image. Where these would meet a NaN or an infinity,
in a weight or in dy, the plain formula computes the result: it leaves out what lies outside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np

from segaware_np.cpu import small
from segaware_np.cpu.gemm import gemm
from segaware_np.cpu.threads import get_num_threads, parallel, scratch
from segaware_np.cpu.views import (
    Gathering,
    Run,
    WindowViews,
    finite,
    gather,
    gather_weighted,
    margin,
)
from segaware_np.ops import convolution as plain
from segaware_np.ops import segaware_convolution as masked
from segaware_np.window import Pair, Window

Gradient = np.ndarray | None

# Rows of columns a power of two apart would share a few sets of the cache: these move on a line.
_CLASHING, _LINE = 256, 16
_FEW = 16  # bands whose products are added up in single precision


def convolution(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window, groups: int
) -> np.ndarray:
    """Fast form of `segaware_np.ops.convolution.convolution`."""
    return forward(x, None, weight, bias, window, groups)


def convolution_grad(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Gradient, Gradient, Gradient]:
    """Fast form of `segaware_np.ops.convolution.convolution_grad`."""
    # On an image without pixels the window that is turned round may not find room.
    small_enough = small.is_small(x, weight, window)
    turns = "x" in need and x.size and not small_enough and finite(weight)
    turned = _turn(weight, window, groups) if turns else None
    if turned is None:
        dx, _, dweight, dbias = backward(dy, x, None, weight, window, groups, need)
    else:
        dx = forward(dy, None, turned[0], None, turned[1], groups)
        dweight = dbias = None
        if others := {*need} - {"x"}:
            _, _, dweight, dbias = backward(dy, x, None, weight, window, groups, others)
    return dx, dweight, dbias


def _turn(weight: np.ndarray, window: Window, groups: int) -> tuple[np.ndarray, Window] | None:
    """The convolution whose forward pass is this one's gradient of x, if there is one.

    With stride 1, ``dx[q] = sum_k W_k^T dy[q - delta_k]``: weights transposed, window turned round.
    """
    reach = tuple(d * (k - 1) for d, k in zip(window.dilation, window.kernel, strict=True))
    pad = reach[0] - window.pad[0], reach[1] - window.pad[1]
    if window.stride != (1, 1) or min(pad) < 0:
        return None
    o, c, *kernel = weight.shape
    grouped = weight[:, :, ::-1, ::-1].reshape(groups, o // groups, c, *kernel)
    turned = grouped.swapaxes(1, 2).reshape(groups * c, o // groups, *kernel)
    return turned, Window(window.kernel, 1, pad, window.dilation)


def forward(
    x: np.ndarray,
    mask: np.ndarray | None,
    weight: np.ndarray,
    bias: np.ndarray | None,
    window: Window,
    groups: int,
) -> np.ndarray:
    found = small.forward(x, mask, weight, bias, window, groups)
    if found is not None:
        return found
    if window.pad != (0, 0) and not finite(weight):
        if mask is None:
            return plain.convolution(x, weight, bias, window, groups)
        return masked.segaware_convolution(x, mask, weight, bias, window, groups)
    problem = _Problem(x, mask, weight, window, groups)
    windows, images, matrix = problem.windows, _images(x), problem.matrix  # (N,C,HW), (O,CK)
    y = np.empty((x.shape[0], weight.shape[0], *windows.count), x.dtype)

    def work(job: tuple[int, Pair]) -> None:
        n, band = job
        out = _rows(y[n], band)  # (O, pixels of the band)
        out[:] = 0 if bias is None else bias[:, None]
        for block in problem.blocks:
            seen = windows.look(images[n, block.channels], band)  # (C, kh, kw, rows, Wo), a view
            columns = problem.columns(seen, n, band)  # (C K, pixels)
            for outputs, taps, rows in block.products:
                gemm(matrix[outputs, taps], columns[rows], out[outputs], beta=1)

    shares = _deal(len(x), windows.count[0], get_num_threads())
    rows = [part for share in shares for part in share]
    parallel(work, [(n, band) for n, (first, stop) in rows for band in windows.bands(first, stop)])
    return y


def backward(
    dy: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray | None,
    weight: np.ndarray,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Gradient, Gradient, Gradient, Gradient]:
    found = small.backward(dy, x, mask, weight, window, groups, need)
    if found is not None:
        return found
    problem = _Problem(x, mask, weight, window, groups)
    dy = np.ascontiguousarray(dy)
    dx = np.zeros((*x.shape[:2], problem.windows.pixels), x.dtype)
    wanted = mask is not None and "mask" in need
    images = _images(x) if wanted or "weight" in need else None  # dx does not depend on x
    dmask = np.zeros((len(x), window.size, *problem.windows.count), x.dtype) if wanted else None

    def work(rows: list[tuple[int, Pair]]) -> _Share:
        share = _Share(problem, images, need)
        for n, (first, stop) in rows:
            target = Gathering(dx[n], problem.windows, (first, stop))
            for band in problem.windows.bands(first, stop):
                share.add(n, band, _rows(dy[n], band), target, dmask)
            share.borders += [(n, *strip) for strip in target.borders]
        return share

    shares = parallel(work, _deal(len(x), problem.windows.count[0], get_num_threads()))
    for n, start, strip in [border for share in shares for border in share.borders]:
        dx[n, :, start : start + strip.shape[1]] += strip
    dweight = None
    if "weight" in need:
        dweight = _total([share.weight.total() for share in shares], weight.dtype)
        dweight = dweight.reshape(weight.shape)
    if dweight is not None and window.pad != (0, 0) and not finite(dweight):
        dweight = _weight_grad(dy, x, mask, weight, window, groups)
    return (
        dx.reshape(x.shape) if "x" in need else None,
        dmask,
        dweight,
        _total([share.bias for share in shares], dy.dtype) if "bias" in need else None,
    )


def _weight_grad(
    dy: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray | None,
    weight: np.ndarray,
    window: Window,
    groups: int,
) -> Gradient:
    """Compute dW by the plain formula, in which what lies outside the image has no part."""
    need = frozenset({"weight"})
    if mask is None:
        return plain.convolution_grad(dy, x, weight, window, groups, need)[1]
    return masked.segaware_convolution_grad(dy, x, mask, weight, window, groups, need)[2]


class _Share:
    """One thread's share of a backward pass: its own sums for dW and db, strips of dx."""

    def __init__(self, problem: _Problem, images: np.ndarray | None, need: Collection[str]) -> None:
        self.problem, self.images, self.need = problem, images, need
        self.weight = _LongSum(problem.matrix)
        self.bias = np.zeros(len(problem.matrix))
        self.borders: list[tuple[int, int, np.ndarray]] = []

    def add(
        self, n: int, band: Pair, dy: np.ndarray, target: Gathering, dmask: np.ndarray | None
    ) -> None:
        """Add the gradients that flow through one band."""
        if "bias" in self.need:
            self.bias += dy.sum(1)
        if "weight" in self.need:
            dweight = self.weight.next()
        for block in self.problem.blocks:
            channels = block.channels.stop - block.channels.start
            shape = self.problem.windows.view_shape(channels, band)
            if self.images is not None:
                seen = self.problem.windows.look(self.images[n, block.channels], band)
            if "weight" in self.need:
                columns = self.problem.columns(seen, n, band)  # (C K, pixels)
                for outputs, taps, rows in block.products:
                    gemm(dy[outputs], columns[rows].T, dweight[outputs, taps], beta=1)
            if "x" in self.need or dmask is not None:
                arrived = self.problem.arrived(block, dy, shape)  # (C, kh, kw, pixels + ...)
            if dmask is not None:
                dm = np.einsum("cijyx,cijyx->ijyx", seen, _windows(arrived, shape))
                self.problem.windows.clear(dm, band)
                dmask[n, :, band[0] : band[1]] += dm.reshape(-1, *dm.shape[2:])
            if "x" in self.need:
                for run in self.problem.gathered(arrived, n, band):
                    target.add(block.channels, *run)


class _LongSum:
    """A sum of many matrices: BLAS adds up a few, and what these make is added in double precision.

    Added up in single precision, the products of some million windows lose four digits.
    """

    def __init__(self, like: np.ndarray) -> None:
        self._few, self._count = np.zeros(like.shape, like.dtype), 0
        self._many: np.ndarray | None = None

    def next(self) -> np.ndarray:
        """Return what the next matrix is to be added to."""
        if self._count == _FEW:
            many = 0 if self._many is None else self._many
            self._many, self._count = np.add(many, self._few, dtype=np.float64), 0
            self._few[...] = 0
        self._count += 1
        return self._few

    def total(self) -> np.ndarray:
        return self._few if self._many is None else self._many + self._few


def _total(parts: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """The sum of what the threads have found, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = np.add(total, part, out=total if total.dtype == part.dtype else None)
    return total.astype(dtype, copy=False)


class _Product(NamedTuple):
    """A part of the weight matrix, by its rows and columns, and the columns of x that it meets."""

    outputs: slice
    taps: slice
    rows: slice


class _Block(NamedTuple):
    """Input channels whose columns are made together, and all that they are multiplied with."""

    channels: slice
    products: list[_Product]


class _Problem:
    """The inputs in the shapes that bands and BLAS want."""

    def __init__(
        self,
        x: np.ndarray,
        mask: np.ndarray | None,
        weight: np.ndarray,
        window: Window,
        groups: int,
    ) -> None:
        _, c, *shape = x.shape
        self.windows = WindowViews(window, (shape[0], shape[1]))
        self.mask = mask
        self.pointwise = mask is None and window == Window(1)  # the columns are the image itself
        room = margin(self.windows)
        self.dense, self.margin = room is not None and mask is not None, room or 0
        # (O, C/groups, kh, kw) -> (O, C/groups K)
        self.matrix = np.ascontiguousarray(weight).reshape(len(weight), prod(weight.shape[1:]))
        self.blocks = self._blocks(c, groups, x.itemsize)

    def _blocks(self, channels: int, groups: int, itemsize: int) -> list[_Block]:
        """Some channels of one group, or all channels of some groups."""
        inputs, outputs = channels // groups, len(self.matrix) // groups
        size = self.windows.window.size
        blocks = []
        for first, last in self.windows.blocks(groups, inputs * itemsize):
            for a, b in self.windows.blocks(inputs, itemsize):  # all, if groups share a block
                products = [
                    _Product(
                        slice(g * outputs, (g + 1) * outputs),
                        slice(a * size, b * size),
                        slice(i * inputs * size, (i * inputs + b - a) * size),
                    )
                    for i, g in enumerate(range(first, last))
                ]
                blocks.append(_Block(slice(first * inputs + a, (last - 1) * inputs + b), products))
        return blocks

    def mask_band(self, n: int, band: Pair) -> np.ndarray:
        """The mask of a band, (kh, kw, rows, Wo)."""
        assert self.mask is not None
        part = self.mask[n, :, band[0] : band[1]]
        return part.reshape(*self.windows.window.kernel, *part.shape[1:])

    def columns(self, seen: np.ndarray, n: int, band: Pair) -> np.ndarray:
        """The masked columns of a band, (C K, pixels), in this thread's buffer."""
        if self.pointwise:
            return _flat(seen)
        buffer = self._buffer(seen.shape, seen.dtype)
        columns = _windows(buffer, seen.shape)
        if self.mask is None:
            np.copyto(columns, seen)
        else:
            np.multiply(seen, self.mask_band(n, band), out=columns)
        self.windows.clear(columns, band)
        return _matrix(buffer, seen.shape)

    def arrived(self, block: _Block, dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What arrives at the columns of a block, ``W^T dy``, with a margin of zeros behind each:
        (C, kh, kw, pixels + margin)."""
        out = self._buffer(shape, dy.dtype)
        out[..., dy.shape[1] :] = 0
        matrix = _matrix(out, shape)
        for outputs, taps, rows in block.products:
            gemm(self.matrix[outputs, taps].T, dy[outputs], matrix[rows])
        return out

    def _buffer(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """This thread's memory for columns (C, kh, kw, rows, Wo): (C, kh, kw, pixels + margin)."""
        length = shape[3] * shape[4] + self.margin
        if length % _CLASHING == 0:
            length += _LINE
        return scratch("columns", (*shape[:3], length), dtype)

    def gathered(self, arrived: np.ndarray, n: int, band: Pair) -> Iterable[Run]:
        """What arrived for the pixels of a band, through the mask."""
        shape = (*arrived.shape[:3], band[1] - band[0], self.windows.count[1])
        columns = _windows(arrived, shape)
        if self.mask is None:
            return [gather(columns, self.windows, band)]
        if not self.dense:
            columns *= self.mask_band(n, band)
            return [gather(columns, self.windows, band)]
        weights = scratch("weights", arrived.shape[1:], arrived.dtype)
        inner = _windows(weights[None], (1, *shape[1:]))[0]
        weights[..., shape[3] * shape[4] :] = 0
        inner[:] = self.mask_band(n, band)
        self.windows.clear(inner, band)
        self.windows.clear(columns, band)
        return gather_weighted(arrived, weights, self.windows, band)


def _images(x: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) with their pixels in a line, (N, C, H W)."""
    n, c, h, w = x.shape
    return np.ascontiguousarray(x).reshape(n, c, h * w)


def _rows(image: np.ndarray, band: Pair) -> np.ndarray:
    """Rows of an image (C, H, W) as a matrix (C, pixels), without a copy."""
    c, h, w = image.shape
    return image.reshape(c, h * w)[:, band[0] * w : band[1] * w]


def _windows(columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Columns (C, kh, kw, pixels + margin) without the margin, as (C, kh, kw, rows, Wo)."""
    return columns[..., : shape[3] * shape[4]].reshape(shape)


def _matrix(columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Columns (C, kh, kw, pixels + margin) without the margin, as (C K, pixels)."""
    return columns.reshape(-1, columns.shape[3])[:, : shape[3] * shape[4]]


def _flat(columns: np.ndarray) -> np.ndarray:
    c, kh, kw, rows, width = columns.shape
    return columns.reshape(c * kh * kw, rows * width)


def _deal(images: int, rows: int, count: int) -> list[list[tuple[int, Pair]]]:
    """Deal all output rows of a batch out in equal parts: ``(image, rows)`` pairs for each."""
    edges = [images * rows * i // count for i in range(count + 1)]
    parts = []
    for start, stop in pairwise(edges):
        touched = range(start // max(1, rows), -(-stop // max(1, rows)))
        parts.append([(n, (max(start - n * rows, 0), min(stop - n * rows, rows))) for n in touched])
    return parts
