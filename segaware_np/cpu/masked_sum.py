"""Masked sums and their gradients as matrix products, see `band_matrices`.

With X what a block of windows sees, D the banded matrix of its weights and Y its sums,
``Y = X D^T``, and as for any matrix product ``dD = dY^T X`` and ``dX = dY D``. Of dD the bands are
kept; in dX a pixel gathers from all blocks that see it.

The zeros of D, and those around an image, would carry a NaN or an infinity to windows that do not
see it: such sums are left to the plain formula. Images of a few channels, for which no matrix is
worth writing, take another road.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from segaware_np.cpu import small
from segaware_np.cpu.band_matrices import Banded, Index, Rows
from segaware_np.cpu.threads import parallel, scratch
from segaware_np.cpu.views import WindowViews, finite
from segaware_np.ops import masked_sum as plain
from segaware_np.window import Pair, Window

_FEW = 8  # channels

Job = tuple[int, Rows]


def masked_sum(x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.masked_sum.masked_sum`."""
    found = small.masked_sum(x, mask, window)
    if found is not None:
        return found
    few = x.shape[1] < _FEW and window.dilation[1] > window.stride[1]
    with np.errstate(over="ignore", invalid="ignore"):
        y = (_strided_sum if few else _banded_sum)(x, mask, window)
    return y if finite(y) else plain.masked_sum(x, mask, window)


def masked_sum_grad(
    dy: np.ndarray, x: np.ndarray, mask: np.ndarray, window: Window, need: Collection[str]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Fast form of `segaware_np.ops.masked_sum.masked_sum_grad`."""
    found = small.masked_sum_grad(dy, x, mask, window, need)
    if found is not None:
        return found
    if not finite(dy, x):
        return plain.masked_sum_grad(dy, x, mask, window, need)
    banded = Banded(window, x.shape[2:], x.dtype)
    dx = _x_grad(dy, mask, banded, x.shape) if "x" in need else None
    return dx, _mask_grad(dy, x, banded, mask.shape) if "mask" in need else None


def _banded_sum(x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray:
    banded = Banded(window, x.shape[2:], x.dtype)
    y = np.empty((*x.shape[:2], *mask.shape[2:]), x.dtype)

    def work(job: Job) -> None:
        n, rows = job
        seen = banded.seen(banded.cut(x[n], rows))
        matrices = banded.matrices(rows)
        for part, place in banded.steps(rows):
            weights = banded.spread(mask[n], part, matrices)
            banded.join(_product(seen[place], weights.swapaxes(2, 3)), y[n], part)

    parallel(work, _jobs(banded, x))
    return y


def _x_grad(dy: np.ndarray, mask: np.ndarray, banded: Banded, shape: tuple[int, ...]) -> np.ndarray:
    dx = np.zeros(shape, dy.dtype)

    def work(job: Job) -> tuple[Index, np.ndarray]:
        n, rows = job
        tiles = banded.empty_tiles(dx.shape[1], rows)
        tiles[:] = 0
        seen, matrices = banded.seen(tiles), banded.matrices(rows)
        for part, place in banded.steps(rows):
            weights = banded.spread(mask[n], part, matrices)
            arrived = _product(banded.split(dy[n], part), weights)
            for row, values in zip(seen[place], arrived, strict=True):  # some see the same pixels
                row += values
        return banded.paste(tiles, dx[n], rows)

    jobs = _jobs(banded, dx)
    for (n, _), (index, strip) in zip(jobs, parallel(work, jobs), strict=True):
        dx[n][index] += strip
    return dx


def _mask_grad(dy: np.ndarray, x: np.ndarray, banded: Banded, shape: tuple[int, ...]) -> np.ndarray:
    dmask = np.empty(shape, x.dtype)

    def work(job: Job) -> None:
        n, rows = job
        seen = banded.seen(banded.cut(x[n], rows))
        for part, place in banded.steps(rows):
            arrived = banded.split(dy[n], part)
            banded.collect(_product(arrived.swapaxes(2, 3), seen[place]), dmask[n], part)

    parallel(work, _jobs(banded, x))
    return dmask


def _strided_sum(x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray:
    """The sums as they stand, by `einsum` on a strided view of an image with zeros around it."""
    n, c, h, w = x.shape
    count, (top, left) = mask.shape[2:], window.pad
    bare = Window(window.kernel, window.stride, 0, window.dilation)
    canvas = np.zeros((n, c, h + 2 * top, w + 2 * left), x.dtype)
    canvas[:, :, top : top + h, left : left + w] = x
    windows = WindowViews(bare, canvas.shape[2:])
    images = canvas.reshape(n, c, windows.pixels)
    weights = mask.reshape(n, *window.kernel, *count)
    y = np.empty((n, c, *count), x.dtype)

    def work(job: tuple[int, Pair]) -> None:
        image, (first, stop) = job
        seen = windows.look(images[image], (first, stop))
        out = y[image, :, first:stop]
        np.einsum("cijyx,ijyx->cyx", seen, weights[image, :, :, first:stop], out=out)

    parallel(work, [(image, band) for image in range(n) for band in windows.bands()])
    return y


def _jobs(banded: Banded, x: np.ndarray) -> list[Job]:
    return [(n, rows) for n in range(len(x)) for rows in banded.parts()]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = scratch("product", (*a.shape[:-1], b.shape[-1]), a.dtype)
    return np.matmul(a, b, out=out)
