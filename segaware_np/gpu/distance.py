"""Embedding distance and label parity on the GPU."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.geometry import window_struct
from segaware_np.kernels import launch
from segaware_np.window import Window
from segaware_np.xp import Array, array_module

ORDER = {"L1": 1, "L2": 2}
OFFSETS = 9  # distances that a thread measures, as in distance.cu


def distance(
    embedding: Array, window: Window, norm: str, remove_center: bool, remove_bounds: bool
) -> Array:
    """Fast form of `segaware_np.ops.distance.distance`."""
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


def distance_grad(
    d_distance: Array,
    embedding: Array,
    window: Window,
    norm: str,
    remove_center: bool,
    remove_bounds: bool,
) -> Array:
    """Fast form of `segaware_np.ops.distance.distance_grad`.

    The flags change nothing: what they remove has a constant distance, and is passed over.
    """
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


def label_parity(labels: Array, window: Window, ignore_label: int | None) -> Array:
    """Fast form of `segaware_np.ops.parity.label_parity`."""
    xp = array_module(labels)
    n, *shape = labels.shape
    same = xp.empty((n, window.size, *window.output_shape(shape)), labels.dtype)
    launch(
        "label_parity",
        (labels.dtype,),
        same.size,
        xp.ascontiguousarray(labels),
        same,
        window_struct(window, shape),
        np.int64(n),
        np.int32(ignore_label is not None),
        labels.dtype.type(ignore_label or 0),
    )
    return same
