"""The loss of embeddings on the GPU."""

from __future__ import annotations

import numpy as np

from segaware_np.gpu.kernels import label_array, launch, scalar, sum_dtype
from segaware_np.xp import Array, array_module


def hinge_loss(
    distance: Array,
    parity: Array,
    alpha: float,
    beta: float,
    hinge: str,
    ignore_label: int | None,
) -> tuple[Array, Array, Array]:
    """Fast form of `segaware_np.ops.embedding_loss.hinge_loss`."""
    xp, parity = array_module(distance), label_array(parity)
    n, size, *count = distance.shape
    violation = xp.empty(distance.shape, distance.dtype)
    loss = xp.empty((n, *count), sum_dtype(distance.dtype))
    valid = xp.empty((n, *count), np.int32)
    launch(
        "hinge_loss",
        (distance.dtype, parity.dtype),
        loss.size,
        xp.ascontiguousarray(distance),
        parity,
        violation,
        loss,
        valid,
        np.float64(alpha),
        np.float64(beta),
        np.int32(hinge == "squared"),
        np.int32(ignore_label is not None),
        np.int64(ignore_label or 0),
        np.int64(n),
        np.int32(size),
        np.int32(count[0] * count[1]),
    )
    return violation, loss.sum(dtype=np.float64), valid.sum(dtype=np.int64)


def hinge_loss_grad(factor: Array | float, violation: Array, hinge: str) -> Array:
    """Fast form of `segaware_np.ops.embedding_loss.hinge_loss_grad`."""
    xp = array_module(violation)
    dd = xp.empty(violation.shape, violation.dtype)
    launch(
        "hinge_loss_backward",
        (violation.dtype,),
        dd.size,
        xp.ascontiguousarray(violation),
        dd,
        *scalar(factor, sum_dtype(violation.dtype)),
        np.int32(hinge == "squared"),
        np.int64(dd.size),
    )
    return dd
