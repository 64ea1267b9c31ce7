"""Where branches of a network meet: concatenation, sum, product and maximum."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array


@follows
def concat_forward(*xs: Array) -> tuple[Array, list[int]]:
    """Concatenate along channels, ``y = [x_1, x_2, ...]``.

    Parameters
    ----------
    *xs : (N, C_i, H, W) float arrays
        Alike but for their channels.

    Returns
    -------
    y : (N, sum C_i, H, W) array
    cache : list of int
        The C_i.

    Raises
    ------
    TypeError, ValueError
        If there is none, or they do not go together.

    Notes
    -----
    Caffe's Concat layer.

    Examples
    --------
    >>> y, cache = concat_forward(np.ones((1, 2, 4, 4)), np.zeros((1, 1, 4, 4)))
    >>> y.shape, [dx.shape for dx in concat_backward(y, cache)]
    ((1, 3, 4, 4), [(1, 2, 4, 4), (1, 1, 4, 4)])
    """
    _check_some(xs)
    for i, x in enumerate(xs):
        check_array(f"xs[{i}]", x, (xs[0].shape[0], "C", *xs[0].shape[2:]), like=xs[0])
    return array_module(*xs).concatenate(xs, axis=1), [x.shape[1] for x in xs]


def concat_backward(dy: Array, cache: list[int]) -> tuple[Array, ...]:
    """Cut the gradient into the pieces that were joined, ``[dx_1, dx_2, ...] = dy`` (views)."""
    check_array("dy", dy, ("N", sum(cache), *("H", "W")[: dy.ndim - 2]))
    pieces, start = [], 0
    for channels in cache:
        pieces.append(dy[:, start : start + channels])
        start += channels
    return tuple(pieces)


@follows
def add_forward(*xs: Array) -> tuple[Array, int]:
    """Sum of arrays of one shape, ``y = sum_i x_i``.

    Parameters
    ----------
    *xs : float arrays of one shape

    Returns
    -------
    y : array of that shape
    cache : int
        How many there were.

    Raises
    ------
    TypeError, ValueError
        If there is none, or they do not go together.

    Notes
    -----
    Caffe's Eltwise layer, SUM.

    Examples
    --------
    >>> y, cache = add_forward(np.array([1.0]), np.array([2.0]), np.array([4.0]))
    >>> y.tolist(), [dx.tolist() for dx in add_backward(np.array([3.0]), cache)]
    ([7.0], [[3.0], [3.0], [3.0]])
    """
    _check_alike(xs)
    y = xs[0].copy()
    for x in xs[1:]:
        y += x
    return y, len(xs)


@follows
def add_backward(dy: Array, cache: int) -> tuple[Array, ...]:
    """Every summand receives the whole gradient, ``dx_i = dy`` (`dy` itself)."""
    check_array("dy", dy)
    return (dy,) * cache


@follows
def product_forward(*xs: Array) -> tuple[Array, tuple[Array, ...]]:
    """Product of arrays of one shape, ``y = prod_i x_i``.

    Parameters
    ----------
    *xs : float arrays of one shape

    Returns
    -------
    y : array of that shape
    cache : tuple of array
        The factors.

    Raises
    ------
    TypeError, ValueError
        If there is none, or they do not go together.

    Notes
    -----
    Caffe's Eltwise layer, PROD.

    Examples
    --------
    >>> y, cache = product_forward(np.array([2.0]), np.array([3.0]), np.array([0.0]))
    >>> y.tolist(), [dx.tolist() for dx in product_backward(np.ones(1), cache)]
    ([0.0], [[0.0], [0.0], [6.0]])
    """
    _check_alike(xs)
    y = xs[0].copy()
    for x in xs[1:]:
        y *= x
    return y, xs


@follows
def product_backward(dy: Array, cache: tuple[Array, ...]) -> tuple[Array, ...]:
    """``dx_i = dy prod_{j != i} x_j``: multiplied out, so that a factor of 0 does no harm."""
    check_array("dy", dy, cache[0].shape, like=cache[0])
    out = []
    for i in range(len(cache)):
        dx = dy.copy()
        for j, x in enumerate(cache):
            if j != i:
                dx *= x
        out.append(dx)
    return tuple(out)


class MaximumCache(NamedTuple):
    winner: Array  # which of the arrays is the largest
    arrays: int  # how many there were


@follows
def maximum_forward(*xs: Array) -> tuple[Array, MaximumCache]:
    """Maximum over arrays of one shape, ``y = max_i x_i``.

    Ties are Caffe's: one between the first two goes to the second; a later array wins only where
    it is strictly larger than all before.

    Parameters
    ----------
    *xs : float arrays of one shape

    Returns
    -------
    y : array of that shape

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two, or they do not go together.

    Notes
    -----
    Caffe's Eltwise layer, MAX.

    Examples
    --------
    >>> a, b, c = np.array([1.0, 2.0]), np.array([1.0, 0.0]), np.array([1.0, 3.0])
    >>> y, cache = maximum_forward(a, b, c)
    >>> y.tolist(), cache.winner.tolist()
    ([1.0, 3.0], [1, 2])
    >>> [dx.tolist() for dx in maximum_backward(np.array([5.0, 7.0]), cache)]
    [[0.0, 0.0], [5.0, 0.0], [0.0, 7.0]]
    """
    if len(xs) < 2:
        raise ValueError(f"xs: expected at least two arrays, got {len(xs)}")
    _check_alike(xs)
    xp = array_module(*xs)
    winner = xp.asarray(xp.where(xs[0].real > xs[1].real, 0, 1), xp.int16)
    y = xp.asarray(xp.where(winner == 0, xs[0], xs[1]))
    for i, x in enumerate(xs[2:], start=2):
        larger = x.real > y.real
        xp.copyto(y, x, where=larger)
        xp.copyto(winner, xp.int16(i), where=larger)
    return y, MaximumCache(winner, len(xs))


@follows
def maximum_backward(dy: Array, cache: MaximumCache) -> tuple[Array, ...]:
    """Hand each entry's gradient to the array that won it: ``dx_i = dy [x_i won]``."""
    check_array("dy", dy, cache.winner.shape)
    xp = array_module(dy)
    return tuple(xp.asarray(dy * (cache.winner == i)) for i in range(cache.arrays))


def _check_alike(xs: tuple[Array, ...]) -> None:
    _check_some(xs)
    for i, x in enumerate(xs):
        check_array(f"xs[{i}]", x, xs[0].shape, like=xs[0])


def _check_some(xs: tuple[Array, ...]) -> None:
    if not xs:
        raise ValueError("xs: expected at least one array, got none")
