"""Operations that treat every pixel on its own: the channels of some pixels at a time.

Their many passes then find these pixels in the cache, and one thread has them to itself.
"""

from __future__ import annotations

from math import prod

import numpy as np

_VALUES = 1 << 16  # of one array: a quarter of a megabyte in float32
_PIXELS = 1 << 14  # at most: a longer sum over them in single precision would drift

Part = tuple[slice, slice, slice]  # images, all channels, pixels


def flat(array: np.ndarray) -> np.ndarray:
    """An array (N, C, ...) as (N, C, pixels), without a copy if it is contiguous."""
    return np.ascontiguousarray(array).reshape(*array.shape[:2], prod(array.shape[2:]))


def parts(array: np.ndarray) -> list[Part]:
    """Some pixels of an image, or all those of several images."""
    n, c, pixels = array.shape
    length = min(_PIXELS, max(1, _VALUES // max(1, c)))
    images = max(1, length // max(1, pixels))
    return [
        (slice(first, min(first + images, n)), slice(None), slice(start, start + length))
        for first in range(0, n, images)
        for start in range(0, pixels, length)
    ]
