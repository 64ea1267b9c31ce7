"""The loss that teaches embeddings: near within a segment, far across its boundary."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import device_of, fast
from segaware_np.xp import Array, array_module, check_array, check_number


def hinge_loss(
    distance: Array,
    parity: Array,
    alpha: float,
    beta: float,
    hinge: str,
    ignore_label: int | None,
) -> tuple[Array, Array, Array]:
    """Plain formula of `embedding_loss_forward`.

    Returns h with the sign of its gradient, its sum in double precision (linear or squared), and
    the number of entries that are neither ignored nor removed.
    """
    xp = array_module(distance)
    valid = ~xp.isinf(distance)
    if ignore_label is not None:
        valid &= parity != ignore_label
    same = parity == 1
    sign = xp.where(same, 1, -1).astype(distance.dtype) * valid
    margin = xp.where(same, -alpha, beta).astype(distance.dtype)
    h = sign * xp.where(valid, distance, 0) + margin * valid
    h = h * (h.real > 0)
    each = h if hinge == "linear" else h * h / 2
    wide = "c16" if each.dtype.kind == "c" else "f8"
    return sign * h, each.sum(dtype=wide), valid.sum()


def hinge_loss_grad(factor: Array | float, violation: Array, hinge: str) -> Array:
    """Plain formula of `embedding_loss_backward`: `factor` is what an entry counts."""
    xp = array_module(violation)
    slope = xp.sign(violation) if hinge == "linear" else violation
    return slope * xp.asarray(factor).astype(violation.dtype)


class EmbeddingLossCache(NamedTuple):
    violation: Array  # h, by how much each pair breaks its rule; its sign is that of dL/dd
    divisor: Array | int  # of the sum over pairs
    hinge: str
    pairs: Array | int  # those that count: the divisor before its floor of 1


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
    check_hinge(alpha, beta, hinge, normalize)
    xp, options = array_module(distance, parity), (alpha, beta, hinge, ignore_label)
    violation, total, valid = fast(hinge_loss, distance)(distance, parity, *options)
    with device_of(distance):
        pairs = valid if normalize == "valid" else distance.size
        count = xp.maximum(pairs, 1) if normalize == "valid" else max(distance.size, 1)
        loss = xp.asarray(total / count, distance.dtype)
    return loss, EmbeddingLossCache(violation, count, hinge, pairs)


def embedding_loss_backward(d_loss: Array | float, cache: EmbeddingLossCache) -> Array:
    """``dd = +-[h > 0] / count`` (linear) or ``+-h / count`` (squared): + same, - different."""
    violation, count, hinge, _ = cache
    check_number("d_loss", d_loss)
    with device_of(violation):
        return fast(hinge_loss_grad, violation)(d_loss / count, violation, hinge)


def check_hinge(alpha: float, beta: float, hinge: str, normalize: str) -> None:
    """Raise TypeError or ValueError unless these are options of the loss."""
    if not 0 < alpha < beta:
        raise ValueError(f"alpha, beta: expected 0 < alpha < beta, got {alpha} and {beta}")
    if hinge not in ("linear", "squared"):
        raise ValueError(f"hinge: expected 'linear' or 'squared', got {hinge!r}")
    if normalize not in ("all", "valid"):
        raise ValueError(f"normalize: expected 'all' or 'valid', got {normalize!r}")
