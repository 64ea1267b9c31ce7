"""Segmentation-aware convolution: `convolution` with a mask."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from segaware_np.cpu.convolution import Gradient, backward, forward
from segaware_np.window import Window


def segaware_convolution(
    x: np.ndarray,
    mask: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    window: Window,
    groups: int,
) -> np.ndarray:
    """Fast form of `segaware_np.ops.segaware_convolution.segaware_convolution`."""
    return forward(x, mask, weight, bias, window, groups)


def segaware_convolution_grad(
    dy: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray,
    weight: np.ndarray,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Gradient, Gradient, Gradient, Gradient]:
    """Fast form of `segaware_np.ops.segaware_convolution.segaware_convolution_grad`."""
    return backward(dy, x, mask, weight, window, groups, need)
