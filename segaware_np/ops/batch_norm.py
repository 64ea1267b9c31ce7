"""Batch normalisation, with stored statistics or with those of the batch."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array, long_sum


class BatchNormCache(NamedTuple):
    y: Array | None  # None where the statistics were given: then they are constants
    deviation: Array  # sqrt(variance + eps), one a channel


class Statistics(NamedTuple):
    """Statistics that a batch was normalised with."""

    mean: Array
    variance: Array


@follows
def batch_norm_forward(
    x: Array, mean: Array | None = None, variance: Array | None = None, eps: float = 1e-5
) -> tuple[Array, BatchNormCache]:
    """Normalise every channel, ``y = (x - mean) / sqrt(variance + eps)``.

    Parameters
    ----------
    x : (N, C, ...) float array
    mean, variance : (C,) array, optional
        Stored statistics. Both None: those of the batch, over samples and pixels.
    eps : float

    Returns
    -------
    y : array
        Of the shape of `x`.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or only one statistic is given.

    Notes
    -----
    Ioffe, Szegedy: *Batch Normalization* (ICML 2015).

    Examples
    --------
    >>> y, cache = batch_norm_forward(np.array([[[1.0, 3.0]]]), eps=0.0)
    >>> y.tolist()
    [[[-1.0, 1.0]]]

    Two entries are always normalised to -1 and 1, so there is nothing to gain:

    >>> batch_norm_backward(np.array([[[0.0, 1.0]]]), cache).tolist()
    [[[0.0, 0.0]]]
    """
    check_array("x", x)
    if x.ndim < 2:
        raise ValueError(f"x: expected shape (N, C, ...), got {x.shape}")
    if (mean is None) != (variance is None):
        raise ValueError("mean, variance: expected both or neither")
    stored = mean is not None
    if mean is None or variance is None:
        mean, variance = batch_statistics(x)
    for name, array in (("mean", mean), ("variance", variance)):
        check_array(name, array, (x.shape[1],), like=x)
    deviation = array_module(x).sqrt(variance + x.dtype.type(eps))
    y = x - _channels(mean, x)
    y /= _channels(deviation, x)
    return y, BatchNormCache(None if stored else y, deviation)


@follows
def batch_norm_backward(dy: Array, cache: BatchNormCache) -> Array:
    """``dx = dy / deviation`` with stored statistics; with those of the batch, less its means:

    ``dx = (dy - mean(dy) - y mean(dy y)) / deviation``
    """
    y, deviation = cache
    check_array("dy", dy, None if y is None else y.shape, like=deviation)
    if dy.shape[1:2] != deviation.shape:
        raise ValueError(f"dy: expected {deviation.size} channels, got shape {dy.shape}")
    if y is not None:
        dy = dy - _mean(dy) - y * _mean(dy * y)
    return dy / _channels(deviation, dy)


def batch_statistics(x: Array) -> Statistics:
    """Mean and (biased) variance of every channel over samples and pixels."""
    mean = _mean(x)
    centred = x - mean
    return Statistics(mean.reshape(-1), _mean(centred * centred).reshape(-1))


def _mean(x: Array) -> Array:
    """Mean of every channel, (1, C, 1 ...)."""
    total = long_sum(x, (0, *range(2, x.ndim)), keepdims=True)
    return (total / (x.size // max(1, x.shape[1]))).astype(x.dtype)


def _channels(values: Array, x: Array) -> Array:
    return values.reshape(-1, *(1,) * (x.ndim - 2))
