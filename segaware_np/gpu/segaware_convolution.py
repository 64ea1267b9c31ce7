"""Segmentation-aware convolution on the GPU: `convolution` with a mask."""

from __future__ import annotations

from collections.abc import Collection

from segaware_np.gpu.convolution import backward, forward
from segaware_np.window import Window
from segaware_np.xp import Array


def segaware_convolution(
    x: Array, mask: Array, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    """Fast form of `segaware_np.ops.segaware_convolution.segaware_convolution`."""
    return forward(x, mask, weight, bias, window, groups)


def segaware_convolution_grad(
    dy: Array,
    x: Array,
    mask: Array,
    weight: Array,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """Fast form of `segaware_np.ops.segaware_convolution.segaware_convolution_grad`."""
    return backward(dy, x, mask, weight, window, groups, need)
