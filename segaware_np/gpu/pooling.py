"""Pooling on the GPU."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import launch, window_struct
from segaware_np.window import Pair, Window
from segaware_np.xp import Array, array_module


def max_pool(x: Array, window: Window, count: Pair) -> Array:
    """Return the maximum of each of ``count = (Ho, Wo)`` windows; a NaN is a maximum."""
    return _pool("max_pool", x, window, count)


def average_pool(x: Array, window: Window, count: Pair) -> Array:
    """Return the sum of each window over the number of its pixels in the padded image."""
    return _pool("average_pool", x, window, count)


def max_pool_grad(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """Return dx: the gradient of each window goes to the first of its maxima."""
    xp = array_module(x)
    maxima = (xp.ascontiguousarray(x), xp.ascontiguousarray(y))
    return _pool_grad("max_pool_backward", dy, maxima, window, x.shape[2:])


def average_pool_grad(dy: Array, shape: Pair, window: Window) -> Array:
    """Return dx for an input of ``shape = (H, W)``."""
    return _pool_grad("average_pool_backward", dy, (), window, shape)


def _pool(kernel: str, x: Array, window: Window, count: Pair) -> Array:
    xp = array_module(x)
    n, c, *shape = x.shape
    y = xp.empty((n, c, *count), x.dtype)
    struct = window_struct(window, shape, count)
    launch(kernel, (x.dtype,), y.size, xp.ascontiguousarray(x), y, struct, np.int64(n * c))
    return y


def _pool_grad(
    kernel: str, dy: Array, maxima: tuple[Array, ...], window: Window, shape: Pair
) -> Array:
    xp = array_module(dy)
    n, c, *count = dy.shape
    dx = xp.empty((n, c, *shape), dy.dtype)
    struct = window_struct(window, shape, count)
    dy = xp.ascontiguousarray(dy)
    launch(kernel, (dy.dtype,), dx.size, dy, *maxima, dx, struct, np.int64(n * c))
    return dx
