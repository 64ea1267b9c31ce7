"""Scale and bias: a learned factor and a learned summand, broadcast over the other axes."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array, long_sum, needed

ALL = frozenset({"x", "scale", "bias"})


class ScaleCache(NamedTuple):
    x: Array | None  # kept only where a factor is there to learn
    scale: Array | None
    has_bias: bool
    axis: int
    shape: tuple[int, ...]  # of scale and bias


@follows
def scale_forward(
    x: Array, scale: Array | None, bias: Array | None = None, axis: int = 1
) -> tuple[Array, ScaleCache]:
    """Scale and shift, ``y = scale x + bias``.

    Parameters
    ----------
    x : float array
    scale : array or None
        Its shape is that of the axes of `x` from `axis` on, as many as it has: ``(C,)`` for one
        factor a channel, ``()`` for one factor in all. None: no factor.
    bias : array, optional
        Of the same shape.
    axis : int
        Where they lie; counted from the end if negative.

    Returns
    -------
    y : array
        Of the shape of `x`.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or neither scale nor bias is given.

    Notes
    -----
    Caffe's Scale and Bias layers.

    Examples
    --------
    >>> x, scale, bias = np.ones((1, 2, 2)), np.array([2.0, 3.0]), np.array([0.0, 1.0])
    >>> y, cache = scale_forward(x, scale, bias)
    >>> y.tolist()
    [[[2.0, 2.0], [4.0, 4.0]]]
    >>> dx, dscale, dbias = scale_backward(np.ones((1, 2, 2)), cache)
    >>> dx.tolist(), dscale.tolist(), dbias.tolist()
    ([[[2.0, 2.0], [3.0, 3.0]]], [2.0, 2.0], [2.0, 2.0])
    """
    check_array("x", x)
    given = scale if scale is not None else bias
    if given is None:
        raise ValueError("scale, bias: expected at least one of them")
    if not -x.ndim <= axis < max(x.ndim, 1):
        raise ValueError(f"axis: expected one of the {x.ndim} axes of x, got {axis}")
    axis %= max(x.ndim, 1)
    shape = x.shape[axis : axis + given.ndim] if given.ndim else ()
    for name, array in (("scale", scale), ("bias", bias)):
        if array is not None:
            check_array(name, array, shape, like=x)
    xp = array_module(x)
    y = xp.asarray(x * _along(scale, x.ndim, axis)) if scale is not None else x.copy()
    if bias is not None:
        y += _along(bias, x.ndim, axis)
    kept = x if scale is not None else None
    return y, ScaleCache(kept, scale, bias is not None, axis, shape)


@follows
def scale_backward(
    dy: Array, cache: ScaleCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None, Array | None]:
    """``dx = scale dy``, ``dscale = sum dy x``, ``dbias = sum dy``; None if not in `need`."""
    x, scale, has_bias, axis, shape = cache
    check_array("dy", dy, None if x is None else x.shape, like=x)
    xp, need = array_module(dy), needed(need, ALL, has_bias)
    first, last = (axis, axis + len(shape)) if shape else (0, 0)
    others = (*range(first), *range(last, dy.ndim))
    dx = dscale = dbias = None
    if "x" in need:
        dx = xp.asarray(dy * _along(scale, dy.ndim, axis)) if scale is not None else dy
    if "scale" in need and x is not None:
        dscale = xp.asarray(long_sum(dy * x, others), dy.dtype).reshape(shape)
    if "bias" in need:
        dbias = xp.asarray(long_sum(dy, others), dy.dtype).reshape(shape)
    return dx, dscale, dbias


def _along(factor: Array, ndim: int, axis: int) -> Array:
    if not factor.ndim:
        return factor
    return factor.reshape(*factor.shape, *(1,) * (ndim - axis - factor.ndim))
