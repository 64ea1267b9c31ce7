"""Label parity on the GPU."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import launch, window_struct
from segaware_np.window import Window
from segaware_np.xp import Array, array_module


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
