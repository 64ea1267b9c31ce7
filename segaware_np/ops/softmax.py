"""Softmax over channels, and its cross-entropy with labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segaware_np.dispatch import device_of, fast
from segaware_np.ranges import warn_of_ignored_class
from segaware_np.xp import Array, array_module, check_array, check_number


def softmax(x: Array) -> Array:
    """Plain formula of `softmax_forward`."""
    p = array_module(x).exp(x - x.real.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p


def softmax_grad(dp: Array, p: Array) -> Array:
    """Plain formula of `softmax_backward`."""
    g = p * dp
    return g - p * g.sum(1, keepdims=True)


def cross_entropy(score: Array, labels: Array) -> tuple[Array, Array]:
    """Plain formula of `softmax_cross_entropy_forward`: ``p`` and ``-log p[label]`` a pixel.

    The latter is NaN where the label is no class.
    """
    xp, probability = array_module(score), softmax(score)
    known = (labels >= 0) & (labels < score.shape[1])
    one_hot = xp.where(known, labels, 0)[:, None]
    chosen = xp.take_along_axis(probability, one_hot, 1)[:, 0]
    tiny = xp.finfo(probability.dtype).tiny
    nll = -xp.log(xp.where(chosen.real < tiny, tiny, chosen))  # as Caffe: no infinite loss
    return probability, xp.where(known, nll, xp.nan)


def cross_entropy_grad(factor: Array, probability: Array, labels: Array) -> Array:
    """Plain formula of `softmax_cross_entropy_backward`; `factor` is what a pixel counts."""
    classes = array_module(probability).arange(probability.shape[1])
    classes = classes.reshape(-1, *(1,) * (labels.ndim - 1))
    dscore = probability - (labels[:, None] == classes)
    dscore *= factor.astype(probability.dtype)[:, None]
    # A softmax with a NaN is NaN in all channels; where the pixel does not count, it must not show.
    lost = (factor == 0) & (probability[:, 0] != probability[:, 0])
    if lost.any():
        array_module(dscore).copyto(dscore, dscore.dtype.type(0), where=lost[:, None])
    return dscore


def softmax_forward(x: Array) -> tuple[Array, Array]:
    """Softmax over channels, ``p[n, c] = exp(x[n, c]) / sum_d exp(x[n, d])``.

    Parameters
    ----------
    x : (N, C, ...) float array

    Returns
    -------
    p : array
        Of the shape of `x`, summing to 1 over channels.
    cache : array
        ``p`` itself.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point array with channels.

    Notes
    -----
    Bridle: *Probabilistic Interpretation of Feedforward Classification Network Outputs* (1990).

    Examples
    --------
    >>> p, cache = softmax_forward(np.log([[1.0, 3.0]]))
    >>> p.round(12).tolist(), softmax_backward(np.array([[1.0, 0.0]]), cache).round(12).tolist()
    ([[0.25, 0.75]], [[0.1875, -0.1875]])
    """
    _check_channels("x", x)
    p = fast(softmax, x)(x)
    return p, p


def softmax_backward(dp: Array, cache: Array) -> Array:
    """``dx = p (dp - sum_c p dp)``."""
    check_array("dp", dp, cache.shape, like=cache)
    return fast(softmax_grad, cache)(dp, cache)


class CrossEntropyCache(NamedTuple):
    probability: Array
    labels: Array
    valid: Array
    divisor: Array | int  # what the sum over pixels is divided by


NORMALIZATIONS = ("valid", "full", "batch", "none")


def softmax_cross_entropy_forward(
    score: Array, labels: Array, ignore_label: int | None = 255, normalize: str = "valid"
) -> tuple[Array, CrossEntropyCache]:
    """Mean cross-entropy of the softmax over channels with labels.

    ``L = -sum over valid p of log softmax(score)[labels[p], p] / count``

    Parameters
    ----------
    score : (N, C, ...) float array
    labels : (N, ...) integer array
        Classes 0 to C - 1, or the ignore label.
    ignore_label : int, optional
        Pixels with this label have no loss, and no gradient whatever their scores, even NaN.
    normalize : {"valid", "full", "batch", "none"}
        The count: valid pixels (at least 1), all pixels, N, or 1.

    Returns
    -------
    loss : 0-d array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or a label is out of range. On a GPU, where looking at
        the labels would stall the stream, a label out of range makes the loss NaN instead.

    Warns
    -----
    UserWarning
        If `ignore_label` is 255, as by default, and that is one of the classes.

    Notes
    -----
    Caffe's SoftmaxWithLoss layer. As there, a probability counts as no less than the smallest
    normal number of its type: the loss of a pixel ends at 87.3 in float32 and at 708.4 in float64,
    while its gradient goes on as the formula says.

    Examples
    --------
    >>> score, labels = np.zeros((1, 4, 1, 2)), np.array([[[2, 255]]])  # the second is ignored
    >>> loss, cache = softmax_cross_entropy_forward(score, labels)
    >>> bool(np.isclose(loss, np.log(4)))
    True
    >>> softmax_cross_entropy_backward(1.0, cache)[0, :, 0].T.tolist()
    [[0.25, 0.25, -0.75, 0.25], [0.0, 0.0, 0.0, 0.0]]
    """
    _check_channels("score", score)
    check_array("labels", labels, (*score.shape[:1], *score.shape[2:]), kind="integer")
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize: expected one of {NORMALIZATIONS}, got {normalize!r}")
    xp, channels = array_module(score, labels), score.shape[1]
    warn_of_ignored_class(ignore_label, channels)
    with device_of(score):
        valid = xp.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label
    if xp is np and (wrong := labels[valid & ((labels < 0) | (labels >= channels))]).size:
        also = "" if ignore_label is None else f" or the ignore label {ignore_label}"
        raise ValueError(f"labels: expected classes 0 to {channels - 1}{also}, got {wrong.flat[0]}")

    probability, nll = fast(cross_entropy, score)(score, labels)
    with device_of(score):
        count = _count(xp, valid, normalize)
        # Summed in double precision: a mean over a million pixels must not drift.
        wide = "c16" if nll.dtype.kind == "c" else "f8"
        loss = xp.asarray(xp.where(valid, nll, 0).sum(dtype=wide) / count, score.dtype)
    return loss, CrossEntropyCache(probability, labels, valid, count)


def softmax_cross_entropy_backward(d_loss: Array | float, cache: CrossEntropyCache) -> Array:
    """``dscore = (p - one_hot(labels)) [valid] dL / count``; 0 where a pixel does not count."""
    probability, labels, valid, count = cache
    check_number("d_loss", d_loss)
    with device_of(probability):
        factor = valid * (d_loss / count)
        return fast(cross_entropy_grad, probability)(factor, probability, labels)


def _check_channels(name: str, x: Array) -> None:
    check_array(name, x)
    if x.ndim < 2 or not x.shape[1]:
        raise ValueError(f"{name}: expected shape (N, C, ...) with C > 0, got {x.shape}")


def _count(xp: object, valid: Array, normalize: str) -> Array | int:
    if normalize == "valid":
        return xp.maximum(valid.sum(), 1)  # type: ignore[attr-defined]
    return {"full": max(valid.size, 1), "batch": max(valid.shape[0], 1), "none": 1}[normalize]
