"""Bilinear resize with aligned corners."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from segaware_np.dispatch import fast
from segaware_np.window import Pair, image_shape
from segaware_np.xp import Array, array_module, check_array


def resize(x: Array, size: Pair) -> Array:
    """Plain formula of `resize_forward`: rows, then columns."""
    return _linear(lambda x: _sample(_sample(x, 2, size[0]), 3, size[1]), x)


def resize_grad(dy: Array, shape: Pair) -> Array:
    """Plain formula of `resize_backward`: columns, then rows."""
    return _linear(lambda dy: _gather(_gather(dy, 3, shape[1]), 2, shape[0]), dy)


def _linear(apply: Callable[[Array], Array], x: Array) -> Array:
    """Apply products with matrices whose zeros let nothing pass, not even a NaN."""
    xp = array_module(x)
    with np.errstate(over="ignore", invalid="ignore"):
        y = apply(x)
        sound = xp.isfinite(y.sum())
    if y is x:
        return x.copy()
    if not sound:
        bad = ~xp.isfinite(x)
        y = apply(xp.where(bad, x.dtype.type(0), x))
        y[apply(bad.astype(x.dtype)) != 0] = xp.nan
    return y


_BLOCK = 128  # output pixels that share one dense block of the banded matrix


class ResizeCache(NamedTuple):
    shape: Pair  # of the input
    size: Pair  # of the output


def resize_forward(x: Array, size: Pair) -> tuple[Array, ResizeCache]:
    """Bilinear resize with aligned corners.

    Output pixel i of an axis samples the input at ``i (in - 1) / (out - 1)``: the corners stay
    where they are. ``y = A_h x A_w^T``, with at most two non-zeros a row in either matrix.

    Parameters
    ----------
    x : (N, C, H, W) float array
    size : (h, w)
        Output size in pixels.

    Returns
    -------
    y : (N, C, h, w) array

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point image, or `size` not a pair of positive integers.

    Notes
    -----
    The banded matrices are applied as blocks of dense products, which is what BLAS is fastest at.
    A NaN or an infinity in `x` makes NaN of the samples between it and its neighbours.

    Caffe's Interp layer, as in DeepLab and in the authors' networks.

    Examples
    --------
    >>> y, cache = resize_forward(np.array([[[[0.0, 1.0]]]]), (1, 3))
    >>> y.ravel().tolist()
    [0.0, 0.5, 1.0]

    The sample in the middle hands half of its gradient to either side:

    >>> resize_backward(np.array([[[[0.0, 1.0, 0.0]]]]), cache).ravel().tolist()
    [0.5, 0.5]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    size = image_shape("size", size)
    if min(size) < 1:
        raise ValueError(f"size: expected at least one pixel each way, got {size}")
    if min(x.shape[2:]) < 1:
        raise ValueError(f"x: expected at least one pixel each way, got {x.shape}")
    return fast(resize, x)(x, size), ResizeCache(x.shape[2:], size)


def resize_backward(dy: Array, cache: ResizeCache) -> Array:
    """Exact adjoint, ``dx = A_h^T dy A_w``: each input pixel gathers from all that sampled it."""
    check_array("dy", dy, ("N", "C", *cache.size))
    return fast(resize_grad, dy)(dy, cache.shape)


@lru_cache(maxsize=64)
def _blocks(length: int, size: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Cut the matrix of one axis into blocks: output pixels, the inputs they sample, weights."""
    # Integer arithmetic puts samples that fall on a pixel exactly there.
    below, rest = np.divmod(np.arange(size) * (length - 1), max(size - 1, 1))
    above, weight = np.minimum(below + 1, length - 1), rest / max(size - 1, 1)
    blocks = []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        first, last = below[start], above[stop - 1] + 1
        matrix = np.zeros((stop - start, last - first))
        row = np.arange(stop - start)
        matrix[row, below[start:stop] - first] = 1 - weight[start:stop]
        matrix[row, above[start:stop] - first] += weight[start:stop]
        blocks.append((slice(start, stop), slice(first, last), matrix))
    return blocks


def _sample(x: Array, axis: int, size: int) -> Array:
    """Interpolate along one axis: ``A x`` (axis 2) or ``x A^T`` (axis 3); `x` if A is 1."""
    if x.shape[axis] == size:
        return x
    xp = array_module(x)
    y = xp.empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    for outputs, inputs, matrix in _blocks(x.shape[axis], size):
        a = xp.asarray(matrix, x.dtype)
        if axis == 2:
            xp.matmul(a, x[:, :, inputs], out=y[:, :, outputs])
        else:
            xp.matmul(x[..., inputs], a.T, out=y[..., outputs])
    return y


def _gather(dy: Array, axis: int, length: int) -> Array:
    """Adjoint of `_sample`: ``A^T dy`` or ``dy A``."""
    size = dy.shape[axis]
    if length == size:
        return dy
    xp = array_module(dy)
    dx = xp.zeros((*dy.shape[:axis], length, *dy.shape[axis + 1 :]), dy.dtype)
    for outputs, inputs, matrix in _blocks(length, size):
        a = xp.asarray(matrix, dy.dtype)
        if axis == 2:
            dx[:, :, inputs] += xp.matmul(a.T, dy[:, :, outputs])
        else:
            dx[..., inputs] += xp.matmul(dy[..., outputs], a)
    return dx
