"""Softmax and the losses on the GPU."""

from __future__ import annotations

from math import prod

import numpy as np

from segaware_np.gpu.numbers import scalar, sum_dtype
from segaware_np.kernels import launch
from segaware_np.xp import Array, array_module


def softmax(x: Array) -> Array:
    """Fast form of `segaware_np.ops.softmax.softmax`."""
    xp = array_module(x)
    p = xp.empty(x.shape, x.dtype)
    launch("softmax", (x.dtype,), _pixels(x), xp.ascontiguousarray(x), p, *_counts(x))
    return p


def softmax_grad(dp: Array, p: Array) -> Array:
    """Fast form of `segaware_np.ops.softmax.softmax_grad`."""
    xp = array_module(p)
    dx = xp.empty(p.shape, p.dtype)
    launch(
        "softmax_backward",
        (p.dtype,),
        _pixels(p),
        xp.ascontiguousarray(dp),
        xp.ascontiguousarray(p),
        dx,
        *_counts(p),
    )
    return dx


def cross_entropy(score: Array, labels: Array) -> tuple[Array, Array]:
    """Fast form of `segaware_np.ops.softmax.cross_entropy`."""
    xp, labels = array_module(score), _labels(labels)
    probability = xp.empty(score.shape, score.dtype)
    nll = xp.empty(labels.shape, sum_dtype(score.dtype))
    launch(
        "cross_entropy",
        (score.dtype, labels.dtype),
        labels.size,
        xp.ascontiguousarray(score),
        labels,
        probability,
        nll,
        np.float64(np.finfo(nll.dtype).tiny),
        *_counts(score),
    )
    return probability, nll


def cross_entropy_grad(factor: Array, probability: Array, labels: Array) -> Array:
    """Fast form of `segaware_np.ops.softmax.cross_entropy_grad`."""
    xp, labels = array_module(probability), _labels(labels)
    dscore = xp.empty(probability.shape, probability.dtype)
    launch(
        "cross_entropy_backward",
        (probability.dtype, labels.dtype),
        labels.size,
        xp.ascontiguousarray(probability),
        labels,
        xp.ascontiguousarray(factor, sum_dtype(probability.dtype)),
        dscore,
        *_counts(probability),
    )
    return dscore


def hinge_loss(
    distance: Array,
    parity: Array,
    alpha: float,
    beta: float,
    hinge: str,
    ignore_label: int | None,
) -> tuple[Array, Array, Array]:
    """Fast form of `segaware_np.ops.embedding_loss.hinge_loss`."""
    xp, parity = array_module(distance), _labels(parity)
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


def _labels(labels: Array) -> Array:
    """Labels of a type that the kernels are made for: their own, or int64."""
    dtype = labels.dtype if labels.dtype in (np.uint8, np.int32, np.int64) else np.int64
    return array_module(labels).ascontiguousarray(labels, dtype)


def _pixels(x: Array) -> int:
    return x.shape[0] * prod(x.shape[2:])


def _counts(x: Array) -> tuple[np.generic, ...]:
    """Batch, channels, pixels of an array (N, C, ...)."""
    return np.int64(x.shape[0]), np.int32(x.shape[1]), np.int32(prod(x.shape[2:]))
