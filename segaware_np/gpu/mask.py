"""Attention masks on the GPU, forward and backward in one pass each."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.columns import sum_dtype
from segaware_np.kernels import launch
from segaware_np.xp import Array, array_module


def exponential_mask(distance: Array, scale: Array | float) -> Array:
    """Return ``exp(-s d)``, exactly 0 where the distance is infinite.

    distance (N, K, Ho, Wo), scale a number or a 0-d array -> mask of the shape of `distance`
    """
    return _mask(distance, scale, normalized=False)


def exponential_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Return ``dd = -s m dm`` and ``ds = -sum(d m dm)``."""
    return _mask_grad(dmask, distance, scale, mask, normalized=False)


def normalized_mask(distance: Array, scale: Array | float) -> Array:
    """Return the softmax over k of ``-s d``; uniform in windows with every distance infinite."""
    return _mask(distance, scale, normalized=True)


def normalized_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Return ``dd = -s g`` and ``ds = -sum(d g)``, where ``g = m (dm - sum_k m dm)``."""
    return _mask_grad(dmask, distance, scale, mask, normalized=True)


def _mask(distance: Array, scale: Array | float, normalized: bool) -> Array:
    xp = array_module(distance)
    n, size, *shape = distance.shape
    mask = xp.empty(distance.shape, distance.dtype)
    launch(
        "attention_mask",
        (distance.dtype, normalized),
        n * shape[0] * shape[1] if size else 0,
        xp.ascontiguousarray(distance),
        mask,
        *_scale(distance, scale),
        np.int64(n),
        np.int32(size),
        np.int32(shape[0] * shape[1]),
    )
    return mask


def _mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array, normalized: bool
) -> tuple[Array, Array]:
    xp = array_module(distance)
    n, size, *shape = distance.shape
    dd = xp.empty(distance.shape, distance.dtype)
    ds = xp.empty((n, *shape), sum_dtype(distance.dtype))
    launch(
        "attention_mask_backward",
        (distance.dtype, normalized),
        ds.size,
        xp.ascontiguousarray(dmask),
        xp.ascontiguousarray(distance),
        xp.ascontiguousarray(mask),
        dd,
        ds,
        *_scale(distance, scale),
        np.int64(n),
        np.int32(size),
        np.int32(shape[0] * shape[1]),
    )
    return dd, ds.sum().astype(distance.dtype)


def _scale(distance: Array, scale: Array | float) -> tuple[Array | None, np.float64]:
    """Return the scale as a pointer or a value: an array stays on its device."""
    if isinstance(scale, (int, float, np.generic)):
        return None, np.float64(scale)
    return scale.astype(distance.dtype, copy=False), np.float64(0)
