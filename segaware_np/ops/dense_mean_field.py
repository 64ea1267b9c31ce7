"""Mean-field inference of a conditional random field in which all pixels see each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segaware_np.dispatch import fast
from segaware_np.ops.gaussian_filter import (
    GaussianFilterCache,
    Lattice,
    check_host,
    check_lattice,
    gaussian_filter_backward,
    gaussian_filter_forward,
)
from segaware_np.ops.mean_field import mean_field_update, mean_field_update_grad
from segaware_np.ops.softmax import softmax_backward, softmax_forward
from segaware_np.ranges import COUNT, check
from segaware_np.xp import Array, check_array


def dense_mean_field(
    unary: Array, p: Array, lattices: Sequence[Lattice], mixers: Sequence[Array]
) -> Array:
    """Plain formula of an iteration: ``Q = U - sum of mixer K P`` over the Gaussians K."""
    filtered = [gaussian_filter_forward(p, lattice)[0] for lattice in lattices]
    return fast(mean_field_update, unary)(unary, filtered, mixers)


def dense_mean_field_grad(
    dq: Array, p: Array, lattices: Sequence[Lattice], mixers: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """Plain formula of its way back: gradients of P and of the mixers.

    Mixers act on classes and Gaussians on pixels: they commute. With ``t = K' dQ`` both gradients
    follow, and K P need not be kept: ``dP = -mixer' t`` and ``dmixer = -t P'``.
    """
    dp, dmixers = np.zeros_like(p), []
    for lattice, mixer in zip(lattices, mixers, strict=True):
        t = gaussian_filter_backward(dq, GaussianFilterCache(lattice, p.shape))
        (part,), (dmixer,) = fast(mean_field_update_grad, dq)(t, [p], [mixer])
        dp += part
        dmixers.append(dmixer)
    return dp, dmixers


class DenseMeanFieldCache(NamedTuple):
    lattices: tuple[Lattice, ...]
    weights: Array
    compatibility: Array
    probabilities: list[Array]  # of each iteration


def dense_mean_field_forward(
    unary: Array,
    first_q: Array,
    weights: Array,
    wc: Array,
    *,
    lattices: Sequence[Lattice],
    iterations: int,
) -> tuple[Array, DenseMeanFieldCache]:
    """Refine scores by the opinions of all pixels, the more the nearer their features are.

    Each iteration computes, with a Gaussian ``Kk`` for each lattice::

        P = softmax over classes of Q
        M = sum over k of Wk (Kk P)
        Q = U - Wc M

    Parameters
    ----------
    unary, first_q : (N, C, H, W) float array
        Of NumPy: scores U, and the logits that the first iteration starts from (often U itself).
    weights : (K, C, C) array
        Weights Wk of the Gaussians (start: multiples of the identity).
    wc : (C, C) array
        Compatibility of classes (start: minus identity, the Potts model).
    lattices : sequence of K Lattice
        By `permutohedral_lattice`: of position and colour (appearance), and of position
        (smoothness).
    iterations : int
        At least 1.

    Returns
    -------
    q : (N, C, H, W) array
        The last Q, not normalised.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `iterations` is not a positive integer.

    Notes
    -----
    Krähenbühl, Koltun: *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials*
    (NIPS 2011); learned as by Zheng et al.: *Conditional Random Fields as Recurrent Neural
    Networks* (ICCV 2015). As in the code of both, a pixel hears itself, too.

    The cache holds P of each iteration, nothing else of that size.

    Examples
    --------
    >>> from segaware_np.ops import permutohedral_lattice

    The doubtful pixel of three that look alike joins the others:

    >>> unary, one = np.array([[[[2.0, -0.1, 2.0]], [[0.0, 0.0, 0.0]]]]), np.eye(2)
    >>> alike = permutohedral_lattice(np.zeros((1, 1, 1, 3)))
    >>> q, cache = dense_mean_field_forward(
    ...     unary, unary, one[None], -one, lattices=[alike], iterations=1
    ... )
    >>> unary.argmax(1).ravel().tolist(), q.argmax(1).ravel().tolist()
    ([0, 1, 0], [0, 0, 0])
    >>> dunary, *_ = dense_mean_field_backward(np.ones((1, 2, 1, 3)), cache)
    >>> dunary.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if isinstance(lattices, Lattice) or not isinstance(lattices, (list, tuple)):
        raise TypeError(f"lattices: expected a list of Lattice, got {type(lattices).__name__}")
    for number, lattice in enumerate(lattices):
        check_lattice(f"lattices[{number}]", lattice)
        if lattice.shape != lattices[0].shape:
            raise ValueError(f"lattices[{number}]: expected one of images {lattices[0].shape}, "
                             f"got {lattice.shape}")
    if not lattices:
        raise ValueError("lattices: expected at least one, got none")
    n, *size = lattices[0].shape
    check_array("unary", unary, (n, "C", *size))
    check_host("unary", unary)
    check_array("first_q", first_q, unary.shape, like=unary)
    classes = unary.shape[1]
    check_array("weights", weights, (len(lattices), classes, classes), like=unary)
    check_array("wc", wc, (classes, classes), like=unary)
    check("iterations", iterations, COUNT)
    cache = DenseMeanFieldCache(tuple(lattices), weights, wc, [])
    q = first_q
    for _ in range(iterations):
        cache.probabilities.append(softmax_forward(q)[0])
        q = dense_mean_field(unary, cache.probabilities[-1], lattices, wc @ weights)
    return q, cache


def dense_mean_field_backward(dq: Array, cache: DenseMeanFieldCache) -> tuple[Array, ...]:
    """Gradients ``(dunary, dfirst_q, dweights, dwc)``; the lattices have none."""
    lattices, weights, wc, probabilities = cache
    check_array("dq", dq, probabilities[0].shape, like=wc)
    mixers, dunary, total = wc @ weights, dq.copy(), np.zeros_like(weights)
    for number, p in reversed([*enumerate(probabilities)]):
        dp, dmixers = dense_mean_field_grad(dq, p, lattices, mixers)
        total += dmixers
        dq = softmax_backward(dp, p)
        if number:  # the Q that this iteration started from is U - Wc M as well
            dunary += dq
    dwc = (total @ weights.swapaxes(1, 2)).sum(0)
    return dunary, dq, wc.T @ total, dwc
