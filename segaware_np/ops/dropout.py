"""Inverted dropout whose mask is a pure function of a seed, the same on CPU and GPU."""

from __future__ import annotations

from segaware_np.dispatch import follows
from segaware_np.ranges import WHOLE, check
from segaware_np.xp import Array, array_module, check_array


@follows
def dropout_forward(x: Array, ratio: float, seed: int, first: int = 0) -> tuple[Array, Array]:
    """Inverted dropout, ``y = x * keep / (1 - ratio)``.

    Parameters
    ----------
    x : float array
    ratio : float
        Probability that an entry is dropped, in [0, 1).
    seed : int
        Entry i is kept if ``hash(seed, i)`` says so: no state, and no random numbers that would
        have to cross from the host to a device.
    first : int
        Number of the first sample, where `x` is a part of a batch: it drops what the whole drops.

    Returns
    -------
    y : array
        Of the shape of `x`.
    cache : array
        The factors, 0 or ``1 / (1 - ratio)``.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point array or `ratio` is out of range.

    Notes
    -----
    Srivastava et al.: *Dropout* (JMLR 15, 2014).

    Examples
    --------
    >>> y, cache = dropout_forward(np.ones(1000), 0.25, seed=3)
    >>> np.unique(y.round(3)).tolist(), bool(0.7 < (y > 0).mean() < 0.8)
    ([0.0, 1.333], True)
    >>> bool((dropout_backward(np.ones(1000), cache) == y).all())  # what is dropped learns nothing
    True
    """
    check_array("x", x)
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio: expected a number in [0, 1), got {ratio}")
    check("first", first, WHOLE)
    start = first * (x.size // max(1, x.shape[0] if x.ndim else 1))
    keep = (_hash(x, seed, start) >= int(ratio * 2**32)).reshape(x.shape)
    factor = array_module(x).asarray(keep * x.dtype.type(1 / (1 - ratio)))
    return array_module(x).asarray(x * factor), factor


@follows
def dropout_backward(dy: Array, cache: Array) -> Array:
    """``dx = dy * keep / (1 - ratio)``."""
    check_array("dy", dy, cache.shape, like=cache)
    return array_module(dy).asarray(dy * cache)


def _hash(x: Array, seed: int, start: int) -> Array:
    """One well-mixed 32-bit number an entry (the finaliser of MurmurHash3, applied twice)."""
    xp = array_module(x)
    low, high = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    h = xp.arange(start, start + x.size, dtype=xp.int64).astype(xp.uint32)
    for key in (low, high):
        h ^= xp.uint32(key)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h ^= h >> xp.uint32(shift)
            h *= xp.uint32(factor)
        h ^= h >> xp.uint32(16)
    return h
