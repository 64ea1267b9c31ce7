"""Softmax over channels, and its cross-entropy, on the GPU."""

from __future__ import annotations

from math import prod

import numpy as np

from segaware_np.gpu.kernels import label_array, launch, sum_dtype
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
    xp, labels = array_module(score), label_array(labels)
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
    xp, labels = array_module(probability), label_array(labels)
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


def _pixels(x: Array) -> int:
    return x.shape[0] * prod(x.shape[2:])


def _counts(x: Array) -> tuple[np.generic, ...]:
    """Batch, channels, pixels of an array (N, C, ...)."""
    return np.int64(x.shape[0]), np.int32(x.shape[1]), np.int32(prod(x.shape[2:]))
