"""Operations on each entry by itself: absolute value, power, exponential, product, maximum."""

from __future__ import annotations

from math import e, isfinite, log
from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array


@follows
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
    xp = array_module(x)
    return xp.asarray(x * xp.sign(x.real)), x


@follows
def absolute_backward(dy: Array, cache: Array) -> Array:
    """``dx = sign(x) dy``, with sign(0) = 0."""
    check_array("dy", dy, cache.shape, like=cache)
    xp = array_module(cache)
    return xp.asarray(dy * xp.sign(cache.real))


class PowerCache(NamedTuple):
    base: Array | None  # shift + scale x, where the slope depends on it
    power: float
    scale: float


@follows
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
    xp = array_module(x)
    base = xp.asarray(x * x.dtype.type(scale))
    if shift:
        base += x.dtype.type(shift)
    if power == 1:
        return base, PowerCache(None, power, scale)
    return xp.asarray(base ** x.dtype.type(power)), PowerCache(base, power, scale)


@follows
def power_backward(dy: Array, cache: PowerCache) -> Array:
    """``dx = scale power (shift + scale x)^(power - 1) dy``; 0 where power or scale is 0."""
    base, power, scale = cache
    check_array("dy", dy, None if base is None else base.shape, like=base)
    xp, slope = array_module(dy), dy.dtype.type(scale * power)
    if base is None or not slope:
        return xp.asarray(dy * slope)
    return xp.asarray(dy * slope * base ** dy.dtype.type(power - 1))


class ExponentialCache(NamedTuple):
    y: Array
    rate: float


@follows
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
    xp = array_module(x)
    y = xp.asarray(xp.exp(x * x.dtype.type(rate)))
    if shift:
        y *= x.dtype.type(base**shift)
    return y, ExponentialCache(y, rate)


@follows
def exponential_backward(dy: Array, cache: ExponentialCache) -> Array:
    """``dx = scale log(base) y dy``."""
    check_array("dy", dy, cache.y.shape, like=cache.y)
    return array_module(dy).asarray(dy * cache.y * dy.dtype.type(cache.rate))
