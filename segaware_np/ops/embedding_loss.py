"""The loss that teaches embeddings: near within a segment, far across its boundary."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.xp import Array, array_module, check_array


class EmbeddingLossCache(NamedTuple):
    violation: Array  # h, by how much each pair breaks its rule
    sign: Array  # dh/dd where h > 0: +1 same, -1 different, 0 ignored
    divisor: Array | int  # of the sum over pairs
    hinge: str


def embedding_loss_forward(
    distance: Array,
    parity: Array,
    alpha: float = 0.5,
    beta: float = 2.0,
    hinge: str = "linear",
    ignore_label: int | None = None,
    normalize: str = "all",
) -> tuple[Array, EmbeddingLossCache]:
    """Contrastive hinge loss over pairs of pixels (DistLoss).

    ``h = max(d - alpha, 0)`` for pairs of one label, ``max(beta - d, 0)`` for the others,
    0 for ignored and removed ones. Linear: ``L = sum(h) / count``; squared:
    ``L = 1/2 sum(h^2) / count``.

    Parameters
    ----------
    distance : (N, K, Ho, Wo) float array
        From `distance_forward`; an infinite (removed) entry has no loss.
    parity : (N, K, Ho, Wo) integer array
        From `label_parity_forward`: 1 same, 0 different, or the ignore label.
    alpha, beta : float
        Pairs of one label should be nearer than alpha, the others farther than beta;
        ``0 < alpha < beta``, in units of the distance.
    hinge : {"linear", "squared"}
    ignore_label : int, optional
    normalize : {"all", "valid"}
        Count all entries (the authors' choice) or only those that are neither ignored nor removed.

    Returns
    -------
    loss : 0-d array
    cache : EmbeddingLossCache

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together or an option is out of range.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 1; published setting alpha 0.5, beta 2 with L1
    distances in 3x3 windows of dilation 1, 2 and 5.

    Examples
    --------
    >>> d, same = np.array([1.0, 1.0]).reshape(1, 2, 1, 1), np.array([1, 0]).reshape(1, 2, 1, 1)
    >>> loss, cache = embedding_loss_forward(d, same)
    >>> loss.item()  # (0.5 + 1.0) / 2
    0.75
    >>> embedding_loss_backward(1.0, cache).ravel().tolist()  # nearer, farther
    [0.5, -0.5]
    """
    check_array("distance", distance, ("N", "K", "Ho", "Wo"))
    check_array("parity", parity, distance.shape, kind="integer")
    if not 0 < alpha < beta:
        raise ValueError(f"alpha, beta: expected 0 < alpha < beta, got {alpha} and {beta}")
    if hinge not in ("linear", "squared"):
        raise ValueError(f"hinge: expected 'linear' or 'squared', got {hinge!r}")
    if normalize not in ("all", "valid"):
        raise ValueError(f"normalize: expected 'all' or 'valid', got {normalize!r}")
    xp = array_module(distance, parity)
    valid = ~xp.isinf(distance)
    if ignore_label is not None:
        valid &= parity != ignore_label

    sign = xp.where(parity == 1, 1, -1).astype(distance.dtype) * valid
    margin = xp.where(parity == 1, -alpha, beta).astype(distance.dtype)
    violation = sign * xp.where(valid, distance, 0) + margin * valid
    violation = violation * (violation.real > 0)
    count = xp.maximum(valid.sum(), 1) if normalize == "valid" else max(valid.size, 1)
    each = violation if hinge == "linear" else violation * violation / 2
    wide = "c16" if each.dtype.kind == "c" else "f8"
    loss = (each.sum(dtype=wide) / count).astype(distance.dtype)
    return loss, EmbeddingLossCache(violation, sign, count, hinge)


def embedding_loss_backward(d_loss: Array | float, cache: EmbeddingLossCache) -> Array:
    """``dd = +-[h > 0] / count`` (linear) or ``+-h / count`` (squared): + same, - different."""
    violation, sign, count, hinge = cache
    slope = (violation.real > 0).astype(sign.dtype) if hinge == "linear" else violation
    return slope * sign * array_module(sign).asarray(d_loss / count).astype(sign.dtype)
