"""Operations that treat every channel on its own: the plain formulas, a few planes at a time.

What they need is that their many passes over a plane find it in the cache, and one thread a plane.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segaware_np.ops import pooling
from segaware_np.ops import resize as resizing
from segaware_np.threads import parallel
from segaware_np.window import Pair, Window

_BYTES = 1 << 20  # of the planes that are worked on together


def max_pool(x: np.ndarray, window: Window, count: Pair) -> np.ndarray:
    """Fast form of `segaware_np.ops.pooling.max_pool`."""
    return _planewise(lambda x: pooling.max_pool(x, window, count), count, x)


def max_pool_grad(dy: np.ndarray, x: np.ndarray, y: np.ndarray, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.pooling.max_pool_grad`."""

    def plain(dy: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return pooling.max_pool_grad(dy, x, y, window)

    return _planewise(plain, x.shape[2:], dy, x, y)


def average_pool(x: np.ndarray, window: Window, count: Pair) -> np.ndarray:
    """Fast form of `segaware_np.ops.pooling.average_pool`."""
    return _planewise(lambda x: pooling.average_pool(x, window, count), count, x)


def average_pool_grad(dy: np.ndarray, shape: Pair, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.pooling.average_pool_grad`."""
    return _planewise(lambda dy: pooling.average_pool_grad(dy, shape, window), shape, dy)


def resize(x: np.ndarray, size: Pair) -> np.ndarray:
    """Fast form of `segaware_np.ops.resize.resize`."""
    return _planewise(lambda x: resizing.resize(x, size), size, x)


def resize_grad(dy: np.ndarray, shape: Pair) -> np.ndarray:
    """Fast form of `segaware_np.ops.resize.resize_grad`."""
    return _planewise(lambda dy: resizing.resize_grad(dy, shape), shape, dy)


def _planewise(
    plain: Callable[..., np.ndarray], shape: tuple[int, ...], *arrays: np.ndarray
) -> np.ndarray:
    """Apply a formula to blocks of planes of the arrays (N, C, ...); the result's planes have
    the given shape."""
    n, c = arrays[0].shape[:2]
    out = np.empty((n, c, *shape), arrays[0].dtype)
    plane = max(array[:1, :1].nbytes for array in (out, *arrays))
    step = max(1, _BYTES // max(1, plane))

    def work(job: tuple[int, slice]) -> None:
        image, block = job
        parts = [array[image : image + 1, block] for array in arrays]
        out[image : image + 1, block] = plain(*parts)

    blocks = [slice(start, start + step) for start in range(0, c, step)]
    parallel(work, [(image, block) for image in range(n) for block in blocks])
    return out
