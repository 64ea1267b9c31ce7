"""Columns on the GPU, with or without a mask, and their adjoints."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import launch, window_struct
from segaware_np.window import Pair, Window
from segaware_np.xp import Array, array_module


def im2col(x: Array, window: Window) -> Array:
    """Fast form of `segaware_np.ops.columns.im2col`."""
    n, c, *shape = x.shape
    count = window.output_shape(shape)
    cols = masked_columns(x.reshape(1, n * c, *shape), None, window, 0, count[0] * count[1])
    return cols.reshape(n, c, window.size, *count)


def col2im(cols: Array, shape: Pair, window: Window) -> Array:
    """Fast form of `segaware_np.ops.columns.col2im`."""
    n, c, *_ = cols.shape
    x = array_module(cols).empty((1, n * c, *shape), cols.dtype)
    gather_columns(cols, x, window)
    return x.reshape(n, c, *shape)


def gather_columns(cols: Array, x: Array, window: Window) -> None:
    """Write the adjoint of `masked_columns` without a mask, of all windows, to `x`, contiguous."""
    n, c, *shape = x.shape
    launch(
        "col2im",
        (cols.dtype,),
        x.size,
        array_module(cols).ascontiguousarray(cols),
        x,
        window_struct(window, shape),
        np.int64(n),
        np.int64(c),
    )


def masked_columns(x: Array, mask: Array | None, window: Window, first: int, count: int) -> Array:
    """Return columns, times the mask, of the windows `first` to ``first + count`` of each sample.

    x (N, C, H, W), mask (N, K, Ho, Wo) or None -> (C, K, N, count)
    """
    xp = array_module(x)
    n, c, *shape = x.shape
    cols = xp.empty((c, window.size, n, count), x.dtype)
    launch(
        "im2col",
        (x.dtype, mask is not None),
        n * c * count,
        xp.ascontiguousarray(x),
        None if mask is None else xp.ascontiguousarray(mask),
        cols,
        window_struct(window, shape),
        np.int64(n),
        np.int64(c),
        np.int32(first),
        np.int32(count),
    )
    return cols


def sum_offsets(x: Array, mask: Array, window: Window) -> Array:
    """Return masked sums, also of images (N, C, K, H, W) that differ from offset to offset."""
    xp = array_module(x)
    n, c, *_ = x.shape
    y = xp.empty((n, c, *mask.shape[2:]), x.dtype)
    launch(
        "masked_sum",
        (x.dtype, x.ndim == 5),
        n * -(-c // 8) * mask.shape[2] * mask.shape[3],
        xp.ascontiguousarray(x),
        xp.ascontiguousarray(mask),
        y,
        window_struct(window, x.shape[-2:]),
        np.int64(n),
        np.int32(c),
    )
    return y


def masked_columns_grad(
    dcols: Array,
    x: Array,
    mask: Array,
    dx: Array | None,
    dmask: Array | None,
    window: Window,
    spread: bool = False,
) -> None:
    """Write the gradient of x into `dx`, and add that of the mask to `dmask`; None: not needed.

    dcols (C, K, N, Ho, Wo), or with `spread` (N, C, Ho, Wo) standing for every k; x and dx
    (N, C, H, W); dmask (N, K, Ho, Wo) in the precision of sums (`sum_dtype`). Both contiguous.
    """
    xp = array_module(x)
    n, c, *shape = x.shape
    block = 32 * min(8, max(1, -(-c // 8)))  # a warp for eight channels, as in columns.cu
    launch(
        "masked_columns_backward",
        (x.dtype, spread),
        n * -(-(shape[0] * shape[1]) // 32) * block,
        xp.ascontiguousarray(dcols),
        xp.ascontiguousarray(x),
        xp.ascontiguousarray(mask),
        dx,
        dmask,
        window_struct(window, shape),
        np.int64(n),
        np.int32(c),
        block=block,
    )
