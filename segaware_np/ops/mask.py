"""Local attention masks: from distances to weights between 0 and 1."""

from __future__ import annotations

from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from segaware_np.dispatch import fast
from segaware_np.xp import Array, array_module, check_array


class MaskCache(NamedTuple):
    distance: Array
    scale: Array | float
    mask: Array


def exponential_mask_forward(distance: Array, scale: Array | float) -> tuple[Array, MaskCache]:
    """Exponential mask, ``m = exp(-s d)``.

    Parameters
    ----------
    distance : (N, K, Ho, Wo) float array
        Infinite where an entry is removed: its weight is 0 whatever the sign or size of `scale`.
    scale : float or 0-d array
        The scale s, learned and not negative in the paper's networks; taken in the precision of
        `distance`.

    Returns
    -------
    mask : (N, K, Ho, Wo) array
        1 at the centre, towards 0 across a boundary.
    cache : MaskCache

    Raises
    ------
    TypeError, ValueError
        If `distance` is not floating point of that rank, or `scale` is not one finite number.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 2.

    Examples
    --------
    >>> d = np.array([0.0, 2.0, np.inf]).reshape(1, 3, 1, 1)
    >>> mask, cache = exponential_mask_forward(d, 0.5)
    >>> mask.ravel().round(3).tolist()
    [1.0, 0.368, 0.0]
    >>> dd, ds = exponential_mask_backward(np.ones((1, 3, 1, 1)), cache)
    >>> dd[0, :2].ravel().round(3).tolist(), round(float(ds), 3)
    ([-0.5, -0.184], -0.736)
    """
    check_array("distance", distance, ("N", "K", "Ho", "Wo"))
    scale = checked_scale(scale, distance)
    mask = fast(exponential_mask, distance)(distance, scale)
    return mask, MaskCache(distance, scale, mask)


def exponential_mask_backward(dmask: Array, cache: MaskCache) -> tuple[Array, Array]:
    """``dd = -s m dm`` and ``ds = -sum(d m dm)``."""
    check_array("dmask", dmask, cache.mask.shape, like=cache.mask)
    return fast(exponential_mask_grad, dmask)(dmask, *cache)


def exponential_mask(distance: Array, scale: Array | float) -> Array:
    """Plain formula of `exponential_mask_forward`."""
    removed, finite = _split(distance)
    mask = array_module(distance).exp(-scale * finite)
    mask[removed] = 0
    return mask


def exponential_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Plain formula of `exponential_mask_backward`."""
    removed, finite = _split(distance)
    g = mask * dmask
    g[removed] = 0  # a removed distance is no variable, not even where dmask is NaN
    return -scale * g, -(finite * g).sum()


def normalized_mask_forward(distance: Array, scale: Array | float) -> tuple[Array, MaskCache]:
    """Normalised mask, ``m = softmax over k of (-s d)``.

    Removed entries have weight exactly 0; a window with every entry removed is uniform, ``1 / K``.
    Parameters, results and errors are those of `exponential_mask_forward`.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 3: the exponential mask divided by its sum.

    Examples
    --------
    >>> d = np.array([[0.0, np.inf], [0.0, np.inf], [np.inf, np.inf]]).reshape(1, 3, 1, 2)
    >>> mask, cache = normalized_mask_forward(d, 1.0)
    >>> mask[0, :, 0].T.round(3).tolist()
    [[0.5, 0.5, 0.0], [0.333, 0.333, 0.333]]
    >>> dmask = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]).reshape(1, 3, 1, 2)
    >>> dd, _ = normalized_mask_backward(dmask, cache)
    >>> dd[0, :2, 0, 0].tolist()  # what one entry gains, the other loses
    [-0.25, 0.25]
    """
    check_array("distance", distance, ("N", "K", "Ho", "Wo"))
    scale = checked_scale(scale, distance)
    mask = fast(normalized_mask, distance)(distance, scale)
    return mask, MaskCache(distance, scale, mask)


def normalized_mask_backward(dmask: Array, cache: MaskCache) -> tuple[Array, Array]:
    """``dd = -s m (dm - sum_k m dm)`` and ``ds = -sum(d m (dm - sum_k m dm))``."""
    check_array("dmask", dmask, cache.mask.shape, like=cache.mask)
    return fast(normalized_mask_grad, dmask)(dmask, *cache)


def normalized_mask(distance: Array, scale: Array | float) -> Array:
    """Plain formula of `normalized_mask_forward`."""
    xp = array_module(distance)
    removed, finite = _split(distance)
    logits = -scale * finite
    top = xp.where(removed, -xp.inf, logits.real).max(1, keepdims=True)
    # Removed entries are out of the maximum: without the 0 here their exponential may overflow.
    mask = xp.exp(xp.where(removed, 0, logits - xp.where(xp.isinf(top), 0, top)))
    mask[removed] = 0
    mask += removed.all(1, keepdims=True)  # the same weight for all, where all are removed
    mask /= mask.sum(1, keepdims=True)
    return mask


def normalized_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Plain formula of `normalized_mask_backward`."""
    removed, finite = _split(distance)
    g = mask * (dmask - (mask * dmask).sum(1, keepdims=True))
    g[removed] = 0  # a removed distance is no variable, not even in a uniform window
    return -scale * g, -(finite * g).sum()


def checked_scale(scale: Any, like: Array) -> Any:
    """Return the scale in the dtype of what it scales, which no mask then leaves."""
    if not isinstance(scale, Number):
        if not hasattr(scale, "dtype"):
            raise TypeError(f"scale: expected a number or a 0-d array, got {scale!r}")
        check_array("scale", scale, ())
        array_module(like, scale)
    on_host = isinstance(scale, (Number, np.ndarray))  # elsewhere a look would stall the stream
    if on_host and not np.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")
    if like.dtype.kind == "f" and np.iscomplexobj(scale):
        return scale  # a complex step through the scale alone
    return like.dtype.type(scale) if isinstance(scale, Number) else scale.astype(like.dtype)


def _split(distance: Array) -> tuple[Array, Array]:
    """Return where entries are removed, and distances with 0 in their place."""
    xp = array_module(distance)
    removed = xp.isinf(distance)
    return removed, xp.where(removed, distance.dtype.type(0), distance)
