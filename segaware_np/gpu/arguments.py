"""Arguments of kernels: windows as structs, numbers as pointers or values, in which precision."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from segaware_np.window import Pair, Window
from segaware_np.xp import Array, array_module

_FIELDS = ("kernel", "stride", "pad", "dilation", "image", "output")
WINDOW = np.dtype([(f"{name}_{axis}", np.int32) for name in _FIELDS for axis in "hw"])


def window_struct(window: Window, shape: Pair, count: Pair | None = None) -> np.ndarray:
    """Return a window on an image as a 0-d structured array, to be passed to a kernel by value.

    Parameters
    ----------
    window : Window
    shape : (H, W)
        Size of the image.
    count : (Ho, Wo), optional
        Number of windows, if not ``window.output_shape(shape)``.

    Raises
    ------
    ValueError
        If one plane of the image or of the output holds 2**31 elements or more: kernels name a
        pixel by 32 bits (and an element of an array by 64).
    """
    return _struct(window, tuple(shape), tuple(count or window.output_shape(shape)))


@lru_cache(maxsize=1024)
def _struct(window: Window, shape: Pair, count: Pair) -> np.ndarray:
    for name, (height, width) in (("image", shape), ("output", count)):
        if height * width >= 2**31:
            raise ValueError(f"{name}: expected planes below 2**31 pixels, got {height}x{width}")
    pairs = (window.kernel, window.stride, window.pad, window.dilation, shape, count)
    return np.array(tuple(length for pair in pairs for length in pair), WINDOW)


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision in which sums of this type are kept."""
    return np.promote_types(dtype, np.float32)


def scalar(value: Array | float, dtype: np.dtype) -> tuple[Array | None, np.float64]:
    """Return a number as pointer and value for `scalar` in common.cuh: arrays stay on the GPU."""
    if isinstance(value, (int, float, np.generic)):
        return None, np.float64(value)
    return value.astype(dtype, copy=False), np.float64(0)


def label_array(labels: Array) -> Array:
    """Labels of a type that the kernels are made for: their own, or int64."""
    dtype = labels.dtype if labels.dtype in (np.uint8, np.int32, np.int64) else np.int64
    return array_module(labels).ascontiguousarray(labels, dtype)
