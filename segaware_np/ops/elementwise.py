"""Operations on each entry by itself: absolute value, power, exponential, product, maximum."""

from __future__ import annotations

from math import e, isfinite, log
from typing import NamedTuple

from segaware_np.xp import Array, array_module, check_array


def absolute_forward(x: Array) -> tuple[Array, Array]:
    """Absolute value, ``y = |x|``.

    Parameters
    ----------
    x : float array

    Returns
    -------
    y : array
        Of the shape of `x`.
    cache : array
        `x` itself.

    Raises
    ------
    TypeError
        If `x` is not a floating-point array.

    Notes
    -----
    Caffe's AbsVal layer.

    Examples
    --------
    >>> y, cache = absolute_forward(np.array([-2.0, 0.0, 3.0]))
    >>> y.tolist(), absolute_backward(np.ones(3), cache).tolist()
    ([2.0, 0.0, 3.0], [-1.0, 0.0, 1.0])
    """
    check_array("x", x)
    return x * array_module(x).sign(x.real), x


def absolute_backward(dy: Array, cache: Array) -> Array:
    """``dx = sign(x) dy``, with sign(0) = 0."""
    check_array("dy", dy, cache.shape, like=cache)
    return dy * array_module(cache).sign(cache.real)


class PowerCache(NamedTuple):
    base: Array | None  # shift + scale x, where the slope depends on it
    power: float
    scale: float


def power_forward(
    x: Array, power: float = 1.0, scale: float = 1.0, shift: float = 0.0
) -> tuple[Array, PowerCache]:
    """Power, ``y = (shift + scale x)^power``.

    A negative base under a fractional power is NaN, as in NumPy.

    Parameters
    ----------
    x : float array
    power, scale, shift : float

    Returns
    -------
    y : array
        Of the shape of `x`.
    cache : PowerCache

    Raises
    ------
    TypeError
        If `x` is not a floating-point array.

    Notes
    -----
    Caffe's Power layer.

    Examples
    --------
    >>> y, cache = power_forward(np.array([1.0, 2.0]), power=2, scale=3, shift=1)
    >>> y.tolist(), power_backward(np.ones(2), cache).tolist()
    ([16.0, 49.0], [24.0, 42.0])
    """
    check_array("x", x)
    base = x * x.dtype.type(scale)
    if shift:
        base += x.dtype.type(shift)
    if power == 1:
        return base, PowerCache(None, power, scale)
    return base ** x.dtype.type(power), PowerCache(base, power, scale)


def power_backward(dy: Array, cache: PowerCache) -> Array:
    """``dx = scale power (shift + scale x)^(power - 1) dy``; 0 where power or scale is 0."""
    base, power, scale = cache
    slope = dy.dtype.type(scale * power)
    if base is None or not slope:
        return dy * slope
    return dy * slope * base ** dy.dtype.type(power - 1)


class ExponentialCache(NamedTuple):
    y: Array
    rate: float


def exponential_forward(
    x: Array, base: float = e, scale: float = 1.0, shift: float = 0.0
) -> tuple[Array, ExponentialCache]:
    """Exponential, ``y = base^(shift + scale x)``.

    Parameters
    ----------
    x : float array
    base, scale, shift : float

    Returns
    -------
    y : array
        Of the shape of `x`.
    cache : ExponentialCache

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point array or `base` not positive and finite.

    Notes
    -----
    Caffe's Exp layer.

    Examples
    --------
    >>> y, cache = exponential_forward(np.array([0.0, 3.0]), base=2)
    >>> y.round(3).tolist(), exponential_backward(np.ones(2), cache).round(3).tolist()
    ([1.0, 8.0], [0.693, 5.545])
    """
    check_array("x", x)
    if not (base > 0 and isfinite(base)):
        raise ValueError(f"base: expected a positive number, got {base}")
    rate = scale if base == e else scale * log(base)
    y = array_module(x).exp(x * x.dtype.type(rate))
    if shift:
        y *= x.dtype.type(base**shift)
    return y, ExponentialCache(y, rate)


def exponential_backward(dy: Array, cache: ExponentialCache) -> Array:
    """``dx = scale log(base) y dy``."""
    check_array("dy", dy, cache.y.shape, like=cache.y)
    return dy * cache.y * dy.dtype.type(cache.rate)


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
    cache : MaximumCache

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
    winner = xp.where(xs[0].real > xs[1].real, 0, 1).astype(xp.int16)
    y = xp.where(winner == 0, xs[0], xs[1])
    for i, x in enumerate(xs[2:], start=2):
        larger = x.real > y.real
        xp.copyto(y, x, where=larger)
        xp.copyto(winner, xp.int16(i), where=larger)
    return y, MaximumCache(winner, len(xs))


def maximum_backward(dy: Array, cache: MaximumCache) -> tuple[Array, ...]:
    """Hand each entry's gradient to the array that won it: ``dx_i = dy [x_i won]``."""
    check_array("dy", dy, cache.winner.shape)
    return tuple(dy * (cache.winner == i) for i in range(cache.arrays))


def _check_alike(xs: tuple[Array, ...]) -> None:
    if not xs:
        raise ValueError("xs: expected at least one array, got none")
    for i, x in enumerate(xs):
        check_array(f"xs[{i}]", x, xs[0].shape, like=xs[0])
