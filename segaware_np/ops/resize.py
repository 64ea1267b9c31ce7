"""Bilinear resize with aligned corners."""

from __future__ import annotations

from operator import index
from types import ModuleType
from typing import NamedTuple

import numpy as np

from segaware_np.window import Pair
from segaware_np.xp import Array, array_module, check_array


class ResizeCache(NamedTuple):
    shape: Pair  # of the input
    size: Pair  # of the output


def resize_forward(x: Array, size: Pair) -> tuple[Array, ResizeCache]:
    """Bilinear resize with aligned corners.

    Output pixel i of an axis samples the input at ``i (in - 1) / (out - 1)``: the corners stay
    where they are. ``y = A_h x A_w^T``, with two non-zeros a row in either matrix.

    Parameters
    ----------
    x : (N, C, H, W) float array
    size : (h, w)
        Output size in pixels.

    Returns
    -------
    y : (N, C, h, w) array
    cache : ResizeCache

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point image, or `size` not a pair of positive integers.

    Examples
    --------
    >>> resize_forward(np.array([[[[0.0, 1.0]]]]), (1, 3))[0].ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    try:
        h, w = (index(n) for n in size)
    except (TypeError, ValueError):
        raise TypeError(f"size: expected a pair of integers, got {size!r}") from None
    if min(h, w) < 1:
        raise ValueError(f"size: expected at least one pixel each way, got {(h, w)}")
    if min(x.shape[2:]) < 1:
        raise ValueError(f"x: expected at least one pixel each way, got {x.shape}")
    return _sample(_sample(x, 2, h), 3, w), ResizeCache(x.shape[2:], (h, w))


def resize_backward(dy: Array, cache: ResizeCache) -> Array:
    """Exact adjoint: each input pixel gathers from all outputs that sampled it."""
    check_array("dy", dy, ("N", "C", *cache.size))
    return _gather(_gather(dy, 3, cache.shape[1]), 2, cache.shape[0])


def _taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper neighbour of each output sample, and the weight of the upper one."""
    # Integer arithmetic puts samples that fall on a pixel exactly there.
    position = np.arange(size) * (length - 1)
    below, rest = np.divmod(position, max(size - 1, 1))
    return below, np.minimum(below + 1, length - 1), rest / max(size - 1, 1)


def _sample(x: Array, axis: int, size: int) -> Array:
    """Interpolate along one axis."""
    if x.shape[axis] == size:
        return x
    xp = array_module(x)
    below, above, weight = _taps(x.shape[axis], size)
    w = _along(xp, weight, axis, x.dtype)
    y = x.take(xp.asarray(below), axis)
    y += w * (x.take(xp.asarray(above), axis) - y)
    return y


def _gather(dy: Array, axis: int, length: int) -> Array:
    """Adjoint of `_sample`."""
    size = dy.shape[axis]
    if length == size:
        return dy
    xp = array_module(dy)
    below, above, weight = _taps(length, size)
    w = _along(xp, weight, axis, dy.dtype)
    shape = list(dy.shape)
    shape[axis] = length
    dx = xp.zeros(shape, dy.dtype)
    upper = w * dy
    for share, target in ((dy - upper, below), (upper, above)):
        # Targets ascend, so all shares of one input pixel stand side by side.
        pixels, starts = np.unique(target, return_index=True)
        place = (slice(None),) * axis + (xp.asarray(pixels),)
        dx[place] += xp.add.reduceat(share, xp.asarray(starts), axis=axis)
    return dx


def _along(xp: ModuleType, values: np.ndarray, axis: int, dtype: np.dtype) -> Array:
    return xp.asarray(values, dtype).reshape([-1 if a == axis else 1 for a in range(4)])
