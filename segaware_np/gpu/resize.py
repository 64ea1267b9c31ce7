"""Bilinear resize on the GPU, without the matrices of the plain form."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import launch
from segaware_np.window import Pair
from segaware_np.xp import Array, array_module


def resize(x: Array, size: Pair) -> Array:
    """Return an image (N, C, H, W) resized to `size`, corners aligned."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    _launch("resize", y.size, x, y, x.shape, size)
    return y


def resize_grad(dy: Array, shape: Pair) -> Array:
    """Return the gradient for an input of ``shape = (H, W)``: the adjoint of `resize`."""
    xp = array_module(dy)
    dx = xp.empty((*dy.shape[:2], *shape), dy.dtype)
    _launch("resize_backward", dx.size, dy, dx, dx.shape, dy.shape[2:])
    return dx


def _launch(
    kernel: str, work: int, source: Array, target: Array, shape: tuple[int, ...], size: Pair
) -> None:
    source = array_module(source).ascontiguousarray(source)
    lengths = (np.int32(length) for length in (*shape[2:], *size))
    planes = np.int64(shape[0] * shape[1])
    launch(kernel, (source.dtype,), work, source, target, planes, *lengths)
