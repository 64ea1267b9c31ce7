"""Embedding distance on the GPU."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import launch, window_struct
from segaware_np.ops.distance import Measure
from segaware_np.xp import Array, array_module

ORDER = {"L1": 1, "L2": 2}
OFFSETS = 9  # distances that a thread measures, as in distance.cu


def distance(embedding: Array, measure: Measure) -> Array:
    """Fast form of `segaware_np.ops.distance.distance`."""
    window, norm, remove_center, remove_bounds = measure
    xp = array_module(embedding)
    n, channels, *shape = embedding.shape
    d = xp.empty((n, window.size, *window.output_shape(shape)), embedding.dtype)
    launch(
        "distance",
        (embedding.dtype, ORDER[norm]),
        n * -(-window.size // OFFSETS) * d.shape[2] * d.shape[3],
        xp.ascontiguousarray(embedding),
        d,
        window_struct(window, shape),
        np.int64(n),
        np.int32(channels),
        np.int32(remove_center),
        np.int32(remove_bounds),
    )
    return d


def distance_grad(d_distance: Array, embedding: Array, measure: Measure) -> Array:
    """Fast form of `segaware_np.ops.distance.distance_grad`.

    The flags change nothing: what they remove has a constant distance, and is passed over.
    """
    window, norm, *_ = measure
    xp = array_module(embedding)
    n, channels, *shape = embedding.shape
    de = xp.empty(embedding.shape, embedding.dtype)
    launch(
        "distance_backward",
        (embedding.dtype, ORDER[norm]),
        n * -(-channels // 8) * shape[0] * shape[1],
        xp.ascontiguousarray(d_distance),
        xp.ascontiguousarray(embedding),
        de,
        window_struct(window, shape),
        np.int64(n),
        np.int32(channels),
    )
    return de
