"""Masked sums on the GPU."""

from __future__ import annotations

from collections.abc import Collection

from segaware_np.gpu.columns import masked_columns_grad, sum_offsets
from segaware_np.gpu.kernels import sum_dtype
from segaware_np.window import Window
from segaware_np.xp import Array, array_module


def masked_sum(x: Array, mask: Array, window: Window) -> Array:
    """Return ``y[n, c, p] = sum_k mask[n, k, p] x[n, c, p + delta_k]``."""
    return sum_offsets(x, mask, window)


def masked_sum_grad(
    dy: Array, x: Array, mask: Array, window: Window, need: Collection[str]
) -> tuple[Array | None, Array | None]:
    """Return the gradients ``(dx, dmask)`` of `masked_sum`, None where not needed."""
    xp = array_module(x)
    dx = xp.empty(x.shape, x.dtype) if "x" in need else None
    dmask = xp.zeros(mask.shape, sum_dtype(x.dtype)) if "mask" in need else None
    if need:
        masked_columns_grad(dy, x, mask, dx, dmask, window, spread=True)
    return dx, None if dmask is None else dmask.astype(x.dtype, copy=False)
