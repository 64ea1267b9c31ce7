"""Images so small that preparing bands and threads would take longer than computing.

All windows of all images are looked at together, as one view into a padded copy, and written out
as columns; BLAS is called once an image and group, by `numpy.matmul`. At these sizes it uses one
thread of its own accord.

Zeros of the padding times a NaN would be NaN: a mask's are cleared; weights and gradients that are
not finite are left to the bands, as are images that are not small. A function returns None then.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from segaware_np.ops.convolution import bias_grad
from segaware_np.ops.distance import Measure
from segaware_np.window import Index, Pair, Window, centres, pairs, shifts

_COLUMNS = 1 << 16  # of the whole batch
_PRODUCTS = 1 << 18  # of one matrix product: from here on OpenBLAS uses more threads than one

Gradient = np.ndarray | None


def is_small(x: np.ndarray, weight: np.ndarray, window: Window) -> bool:
    """Whether a convolution takes longer to prepare than to compute."""
    height, width = window.output_shape(x.shape[2:])
    return _few(x, window) and 0 < weight.size * height * width <= _PRODUCTS


def _few(x: np.ndarray, window: Window) -> bool:
    """Whether the columns of images (N, C, H, W) are few."""
    height, width = window.output_shape(x.shape[2:])
    columns = x.shape[0] * x.shape[1] * window.size * height * width
    return x.size > 0 and 0 < columns <= _COLUMNS


def forward(
    x: np.ndarray,
    mask: np.ndarray | None,
    weight: np.ndarray,
    bias: np.ndarray | None,
    window: Window,
    groups: int,
) -> np.ndarray | None:
    """``y = W (m x') + b`` with x' the columns of x."""
    if not is_small(x, weight, window):
        return None
    grid = _grid(window, x.shape[2:], x.itemsize)
    columns = grid.columns(x)
    if mask is not None:
        columns *= _flat(mask)

    def product() -> np.ndarray:
        y = np.matmul(_matrix(weight, groups), grid.grouped(columns, groups))
        y = y.reshape(len(x), len(weight), *grid.output)
        if bias is not None:
            y += bias[:, None, None]
        return y

    y = product()
    if np.isfinite(y).all():
        return y
    columns[..., grid.outside] = 0
    return product() if np.isfinite(weight).all() else None


def backward(
    dy: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray | None,
    weight: np.ndarray,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Gradient, Gradient, Gradient, Gradient] | None:
    """``dW = dy (m x')^T``; with ``G = W^T dy``, ``dm = sum_c G x'`` and dx gathers ``m G``."""
    if not is_small(x, weight, window):
        return None
    if not (np.isfinite(dy).all() and np.isfinite(weight).all()):
        return None
    grid = _grid(window, x.shape[2:], x.itemsize)
    arriving = dy.reshape(len(dy), groups, len(weight) // groups, grid.output[0] * grid.output[1])
    columns = grid.columns(x)
    dx = dmask = dweight = None
    if "x" in need or (mask is not None and "mask" in need):
        g = np.matmul(_matrix(weight, groups).swapaxes(1, 2), arriving).reshape(columns.shape)
        if mask is not None and "mask" in need:
            dmask = np.add.reduce(g * columns, axis=1).reshape(mask.shape)
        if "x" in need:
            dx = grid.gathered(g if mask is None else np.multiply(g, _flat(mask), out=g), x.shape)
    if "weight" in need:
        right = grid.grouped(grid.weighted(columns, mask), groups).swapaxes(2, 3)
        dweight = np.matmul(arriving, right).sum(0).reshape(weight.shape)
    return dx, dmask, dweight, bias_grad(dy) if "bias" in need else None


def masked_sum(x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray | None:
    """``y = sum_k m_k x'_k``."""
    if not _few(x, window):
        return None
    grid = _grid(window, x.shape[2:], x.itemsize)
    columns = grid.weighted(grid.columns(x), mask)
    y = np.add.reduce(columns.reshape(*x.shape[:2], window.size, -1), axis=2)
    return y.reshape(*x.shape[:2], *grid.output)


def masked_sum_grad(
    dy: np.ndarray, x: np.ndarray, mask: np.ndarray, window: Window, need: Collection[str]
) -> tuple[Gradient, Gradient] | None:
    """``dm_k = sum_c dy x'_k``, and dx gathers ``m_k dy``."""
    if not (_few(x, window) and np.isfinite(dy).all()):
        return None
    grid, dx, dmask = _grid(window, x.shape[2:], x.itemsize), None, None
    arriving = dy.reshape(*dy.shape[:2], 1, -1)  # (N, C, 1, pixels)
    if "x" in need:
        weights = mask.reshape(len(mask), 1, window.size, -1)
        dx = grid.gathered(arriving * weights, x.shape)
    if "mask" in need:
        columns = grid.columns(x).reshape(*x.shape[:2], window.size, -1)
        columns *= arriving
        dmask = np.add.reduce(columns, axis=1).reshape(mask.shape)
    return dx, dmask


def im2col(x: np.ndarray, window: Window) -> np.ndarray | None:
    """The columns as they stand."""
    if not _few(x, window):
        return None
    grid = _grid(window, x.shape[2:], x.itemsize)
    return grid.columns(x).reshape(*x.shape[:2], window.size, *grid.output)


def col2im(columns: np.ndarray, shape: Pair, window: Window) -> np.ndarray | None:
    """The adjoint of `im2col`."""
    if not 0 < columns.size <= _COLUMNS:
        return None
    return _grid(window, shape, columns.itemsize).gathered(columns, (*columns.shape[:2], *shape))


def distance(embedding: np.ndarray, measure: Measure) -> np.ndarray | None:
    """Half the squares of the differences, or their sizes, summed over channels."""
    window, norm, remove_center, remove_bounds = measure
    difference = _difference(embedding, window)
    if difference is None:
        return None
    if norm == "L1":
        np.abs(difference, out=difference)
    else:
        difference *= difference
    ends = _pairs(window, embedding.shape[2:])
    d = np.add.reduce(difference, axis=1)  # (N, K, pixels)
    if norm == "L2":
        d *= 0.5
    if remove_bounds:
        d[:, ends.centred & ~ends.paired] = np.inf
    if remove_center:
        d[:, window.centre, ends.centred] = np.inf
    return d.reshape(*d.shape[:2], *window.output_shape(embedding.shape[2:]))


def distance_grad(
    d_distance: np.ndarray, embedding: np.ndarray, measure: Measure
) -> np.ndarray | None:
    """Every difference pulls at both of its ends; that of a pixel to itself does not."""
    window, norm, *_ = measure
    pull = _difference(embedding, window)
    if pull is None:
        return None
    ends = _pairs(window, embedding.shape[2:])
    with np.errstate(invalid="ignore"):  # inf * 0 where there is no pair
        if norm == "L1":
            np.sign(pull, out=pull)
        dd = d_distance.reshape(len(pull), 1, *pull.shape[2:])
        pull *= dd
    if not np.isfinite(pull).all():
        np.copyto(pull, 0, where=(dd == 0) | ~ends.paired)
        pull[:, :, window.centre] = 0
    grid = _grid(window, embedding.shape[2:], embedding.itemsize)
    de = grid.gathered(-pull, embedding.shape)
    flat = de.reshape(*de.shape[:2], -1)
    flat[..., ends.here[0, ends.centred]] += np.add.reduce(pull, axis=2)[..., ends.centred]
    return de


def _difference(embedding: np.ndarray, window: Window) -> np.ndarray | None:
    """Centre minus neighbour, (N, E, K, pixels); 0 where one of them is not in the image."""
    if not _few(embedding, window):
        return None
    n, e, height, width = embedding.shape
    ends, flat = _pairs(window, (height, width)), embedding.reshape(n, e, height * width)
    here, there = (flat.take(end, axis=2) for end in (ends.here, ends.there))
    if np.isfinite(embedding).all():
        return here - there
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = here - there
    difference[..., ~ends.paired] = 0
    return difference


class _Grid(NamedTuple):
    """Windows on images of one size, and the padded image that they all lie in."""

    kernel: Pair
    output: Pair  # how many windows there are
    size: Pair  # of the padded image
    inside: Index  # of that: the part that is the image's
    pixels: Index  # of the image: the same part
    strides: tuple[int, ...]  # of that: from tap to tap and from window to window
    outside: np.ndarray  # (K pixels,), bool: this tap of this window sees the padding

    def columns(self, x: np.ndarray) -> np.ndarray:
        """What the windows on images (N, C, H, W) see, (N, C, K pixels)."""
        padded = np.zeros((*x.shape[:2], *self.size), x.dtype)
        padded[self.inside] = x[self.pixels]
        return self._windows(padded).reshape(*x.shape[:2], -1)

    def weighted(self, columns: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """The columns times a mask, in place."""
        if mask is not None:
            columns *= _flat(mask)
            if not np.isfinite(mask).all():
                columns[..., self.outside] = 0
        return columns

    def grouped(self, columns: np.ndarray, groups: int) -> np.ndarray:
        """The columns as (N, groups, C/groups K, pixels)."""
        return columns.reshape(len(columns), groups, -1, self.output[0] * self.output[1])

    def gathered(self, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The images (N, C, H, W) that sum up what columns hold."""
        padded = np.zeros((*shape[:2], *self.size), columns.dtype)
        windows = self._windows(padded)
        columns = columns.reshape(windows.shape)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                windows[:, :, i, j] += columns[:, :, i, j]
        image = np.zeros(shape, columns.dtype)
        image[self.pixels] = padded[self.inside]
        return image

    def _windows(self, padded: np.ndarray) -> np.ndarray:
        """All windows as a view (N, C, kh, kw, Ho, Wo)."""
        shape = *padded.shape[:2], *self.kernel, *self.output
        return np.ndarray(shape, padded.dtype, padded, 0, (*padded.strides[:2], *self.strides))


@lru_cache(maxsize=256)
def _grid(window: Window, shape: Pair, itemsize: int) -> _Grid:
    axes, count = window.axes(shape), window.output_shape(shape)
    size = tuple((n - 1) * a.stride + a.reach for a, n in zip(axes, count, strict=True))
    parts = [min(a.length, max(0, s - a.pad)) for a, s in zip(axes, size, strict=True)]
    inside = (slice(a.pad, a.pad + part) for a, part in zip(axes, parts, strict=True))
    (dh, dw), (sh, sw), row = window.dilation, window.stride, size[1] * itemsize
    strides = dh * row, dw * itemsize, sh * row, sw * itemsize
    pixels = map(slice, parts)
    outside = np.ones((window.size, *count), bool)
    for k, seeing, _ in shifts(shape, window):
        outside[k][seeing] = False
    index = (..., *inside), (..., *pixels)
    return _Grid(window.kernel, count, (size[0], size[1]), *index, strides, outside.reshape(-1))


class _Pairs(NamedTuple):
    """Flat pixels at both ends of every pair; where there is none, the same pixel twice."""

    here: np.ndarray  # (1, windows)
    there: np.ndarray  # (K, windows)
    centred: np.ndarray  # (windows,), bool: the centre lies in the image
    paired: np.ndarray  # (K, windows), bool: so does the neighbour


@lru_cache(maxsize=16)
def _pairs(window: Window, shape: Pair) -> _Pairs:
    count, (inside, middle) = window.output_shape(shape), centres(shape, window)
    pixels = np.arange(shape[0] * shape[1]).reshape(shape)
    here, centred = np.zeros((1, *count), np.intp), np.zeros(count, bool)
    here[inside], centred[inside] = pixels[middle], True
    there, paired = here.repeat(window.size, axis=0), np.zeros((window.size, *count), bool)
    for k, seen, _, neighbour in pairs(shape, window):
        there[k][seen], paired[k][seen] = pixels[neighbour], True
    flat = window.size, count[0] * count[1]
    ends = here.reshape(1, flat[1]), there.reshape(flat)
    return _Pairs(*ends, centred.reshape(flat[1]), paired.reshape(flat))


def _flat(mask: np.ndarray) -> np.ndarray:
    """A mask (N, K, Ho, Wo) as (N, 1, K pixels), to go with the columns of every channel."""
    return mask.reshape(len(mask), 1, -1)


def _matrix(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights (O, C/groups, kh, kw) as (groups, O/groups, C/groups K)."""
    return weight.reshape(groups, len(weight) // groups, -1)
