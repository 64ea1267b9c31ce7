"""Rectifier."""

from __future__ import annotations

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array


@follows
def relu_forward(x: Array) -> tuple[Array, Array]:
    """Rectifier, ``y = max(x, 0)``.

    Parameters
    ----------
    x : float array

    Returns
    -------
    y : array
        Of the shape of `x`.
    cache : array
        ``y`` itself: it tells where the input was positive.

    Notes
    -----
    Nair, Hinton: *Rectified Linear Units Improve Restricted Boltzmann Machines* (ICML 2010).

    Examples
    --------
    >>> y, cache = relu_forward(np.array([-1.0, 0.0, 2.0]))
    >>> y.tolist(), relu_backward(np.ones(3), cache).tolist()
    ([0.0, 0.0, 2.0], [0.0, 0.0, 1.0])
    """
    check_array("x", x)
    y = x * (x.real > 0) if x.dtype.kind == "c" else x.clip(x.dtype.type(0))
    y = array_module(x).asarray(y)
    return y, y


@follows
def relu_backward(dy: Array, cache: Array) -> Array:
    """``dx = dy [x > 0]``; 0 at the kink."""
    check_array("dy", dy, cache.shape, like=cache)
    return array_module(dy).asarray(dy * (cache.real > 0))
