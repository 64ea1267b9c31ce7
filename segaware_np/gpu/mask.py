"""Attention masks on the GPU, forward and backward in one pass each: of distances or embeddings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from segaware_np.gpu.distance import OFFSETS, ORDER, distance_grad
from segaware_np.gpu.kernels import launch, scalar, sum_dtype, window_struct
from segaware_np.ops.distance import Measure
from segaware_np.window import Window
from segaware_np.xp import Array, array_module


def exponential_mask(distance: Array, scale: Array | float) -> Array:
    """Fast form of `segaware_np.ops.mask.exponential_mask`."""
    return _mask(distance, scale, distance.shape, normalized=False, how=_stored(distance))


def exponential_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Fast form of `segaware_np.ops.mask.exponential_mask_grad`."""
    return _mask_grad(dmask, distance, scale, mask, normalized=False, how=_stored(distance))


def normalized_mask(distance: Array, scale: Array | float) -> Array:
    """Fast form of `segaware_np.ops.mask.normalized_mask`."""
    return _mask(distance, scale, distance.shape, normalized=True, how=_stored(distance))


def normalized_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Fast form of `segaware_np.ops.mask.normalized_mask_grad`."""
    return _mask_grad(dmask, distance, scale, mask, normalized=True, how=_stored(distance))


def local_mask(
    embedding: Array, scale: Array | float, measure: Measure, normalized: bool
) -> tuple[Array, Array | None]:
    """Fast form of `segaware_np.ops.mask.local_mask`: stores no distances."""
    n, _, *image = embedding.shape
    shape = (n, measure.window.size, *measure.window.output_shape(image))
    how = _measured(embedding, measure)
    return _mask(embedding, scale, shape, normalized=normalized, how=how), None


def local_mask_grad(
    dmask: Array,
    embedding: Array,
    scale: Array | float,
    mask: Array,
    d: Array | None,
    measure: Measure,
    normalized: bool,
    need: Collection[str],
) -> tuple[Array | None, Array | None]:
    """Fast form of `segaware_np.ops.mask.local_mask_grad`.

    The scale's gradient measures the distances again; the embedding's needs none. What goes on
    to the embedding is written out: the gather behind it reads an entry twice for each eight
    channels.
    """
    how = _measured(embedding, measure)
    dd, ds = _mask_grad(dmask, embedding, scale, mask, normalized=normalized, how=how, need=need)
    return None if dd is None else distance_grad(dd, embedding, measure), ds


How = tuple[int, tuple[Any, ...]]  # the kernels' NORM, and their arguments from the window on


def _stored(distance: Array) -> How:
    """Distances that are there: entry k of a window is row k of a single column."""
    n, size, *count = distance.shape
    struct = window_struct(Window((max(size, 1), 1)), (count[0] + size - 1, count[1]), tuple(count))
    return 0, (struct, np.int64(n), np.int32(0), np.int32(0), np.int32(0))


def _measured(embedding: Array, measure: Measure) -> How:
    window, norm, remove_center, remove_bounds = measure
    n, channels, *shape = embedding.shape
    counts = np.int64(n), np.int32(channels), np.int32(remove_center), np.int32(remove_bounds)
    return ORDER[norm], (window_struct(window, shape), *counts)


def _mask(
    source: Array, scale: Array | float, shape: tuple[int, ...], *, normalized: bool, how: How
) -> Array:
    xp = array_module(source)
    mask = xp.empty(shape, source.dtype)
    n, size, *count = shape
    together = OFFSETS if how[0] else 1
    shares = min(size, 1) if normalized else -(-size // together)
    launch(
        "attention_mask",
        (source.dtype, how[0], normalized),
        n * shares * count[0] * count[1],
        xp.ascontiguousarray(source),
        mask,
        *scalar(scale, source.dtype),
        *how[1],
    )
    return mask


def _mask_grad(
    dmask: Array,
    source: Array,
    scale: Array | float,
    mask: Array,
    *,
    normalized: bool,
    how: How,
    need: Collection[str] = frozenset({"embedding", "scale"}),
) -> tuple[Any, Any]:
    xp = array_module(source)
    n, _, *count = mask.shape
    dd = xp.empty(mask.shape, source.dtype) if "embedding" in need else None
    ds = xp.empty((n, *count), sum_dtype(source.dtype)) if "scale" in need else None
    launch(
        "attention_mask_backward",
        (source.dtype, how[0], normalized),
        n * count[0] * count[1] if need else 0,
        xp.ascontiguousarray(dmask),
        xp.ascontiguousarray(source),
        xp.ascontiguousarray(mask),
        dd,
        ds,
        *scalar(scale, source.dtype),
        *how[1],
    )
    return dd, None if ds is None else ds.sum().astype(source.dtype)
