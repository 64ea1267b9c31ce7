"""Numbers on their way to a kernel: in which precision, and as a pointer or a value."""

from __future__ import annotations

import numpy as np

from segaware_np.xp import Array


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision in which sums of this type are kept."""
    return np.promote_types(dtype, np.float32)


def scalar(value: Array | float, dtype: np.dtype) -> tuple[Array | None, np.float64]:
    """Return a number as pointer and value for `scalar` in common.cuh: arrays stay on the GPU."""
    if isinstance(value, (int, float, np.generic)):
        return None, np.float64(value)
    return value.astype(dtype, copy=False), np.float64(0)
