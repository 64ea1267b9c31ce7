"""Local attention masks: from distances to weights between 0 and 1."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from segaware_np.dispatch import device_of, fast
from segaware_np.ops.distance import Measure, check_embedding, distance, distance_grad
from segaware_np.window import Window
from segaware_np.xp import Array, array_module, check_array, check_number, needed


def exponential_mask(distance: Array, scale: Array | float) -> Array:
    """Plain formula of `exponential_mask_forward`."""
    removed, finite = _split(distance)
    with np.errstate(over="ignore"):  # to infinity, where the weight is 0
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
    return -scale * g, array_module(g).asarray(-(finite * g).sum())


def normalized_mask(distance: Array, scale: Array | float) -> Array:
    """Plain formula of `normalized_mask_forward`."""
    xp = array_module(distance)
    removed, finite = _split(distance)
    empty = removed.all(1, keepdims=True)
    # Relative to the entry of the largest weight, before the scale: so nothing overflows.
    sign = xp.sign(scale.real)
    nearest = xp.where(removed, xp.inf, sign * finite.real).min(1, keepdims=True)
    nearest = sign * xp.where(empty, 0, nearest).astype(distance.real.dtype)
    with np.errstate(over="ignore"):  # to infinity, where the weight is 0
        mask = xp.exp(-scale * xp.where(removed, 0, finite - nearest))
    mask[removed] = 0
    mask += empty  # the same weight for all, where all are removed
    mask /= mask.sum(1, keepdims=True)
    mask[removed & ~empty] = 0  # even beside a NaN
    return mask


def normalized_mask_grad(
    dmask: Array, distance: Array, scale: Array | float, mask: Array
) -> tuple[Array, Array]:
    """Plain formula of `normalized_mask_backward`."""
    removed, finite = _split(distance)
    g = mask * (dmask - (mask * dmask).sum(1, keepdims=True))
    g[removed] = 0  # a removed distance is no variable, not even in a uniform window
    return -scale * g, array_module(g).asarray(-(finite * g).sum())


def local_mask(
    embedding: Array, scale: Array | float, measure: Measure, normalized: bool
) -> tuple[Array, Array | None]:
    """Plain formula of `local_mask_forward`; returns the distances, too."""
    d = fast(distance, embedding)(embedding, measure)
    return fast(normalized_mask if normalized else exponential_mask, d)(d, scale), d


def local_mask_grad(
    dmask: Array,
    embedding: Array,
    scale: Array | float,
    mask: Array,
    d: Array | None,
    measure: Measure,
    normalized: bool,
    need: Collection[str],
) -> tuple[Array | None, Array | None]:
    """Plain formula of `local_mask_backward`."""
    back = normalized_mask_grad if normalized else exponential_mask_grad
    dd, ds = fast(back, dmask)(dmask, d, scale, mask)
    de = fast(distance_grad, embedding)(dd, embedding, measure) if "embedding" in need else None
    return de, ds if "scale" in need else None


class MaskCache(NamedTuple):
    distance: Array
    scale: Array | float
    mask: Array


def exponential_mask_forward(distance: Array, scale: Array | float) -> tuple[Array, MaskCache]:
    """Exponential mask, ``m = exp(-s d)``.

    Parameters
    ----------
    distance : (N, K, Ho, Wo) float array
        Infinite, of either sign, where an entry is removed: its weight is 0 whatever `scale` is.
    scale : float or 0-d array
        The scale s, learned and not negative in the paper's networks; taken in the precision of
        `distance`.

    Returns
    -------
    mask : (N, K, Ho, Wo) array
        1 at the centre, towards 0 across a boundary.

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


def normalized_mask_forward(distance: Array, scale: Array | float) -> tuple[Array, MaskCache]:
    """Normalised mask, ``m = softmax over k of (-s d)``.

    Removed entries have weight exactly 0; a window with every entry removed is uniform, ``1 / K``.
    Weights are those of the differences to the nearest entry: no finite distance overflows.
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


ALL = frozenset({"embedding", "scale"})


class LocalMaskCache(NamedTuple):
    embedding: Array
    scale: Array | float
    mask: Array
    distance: Array | None  # None where it is cheaper to measure again than to keep
    measure: Measure
    normalized: bool


def local_mask_forward(
    embedding: Array,
    scale: Array | float,
    window: Window,
    *,
    normalized: bool = False,
    norm: str = "L1",
    remove_center: bool = False,
    remove_bounds: bool = False,
) -> tuple[Array, LocalMaskCache]:
    """Mask of an embedding, ``m = exp(-s d)``, where nobody asks for the distances d between.

    `distance_forward`, and behind it `exponential_mask_forward` or `normalized_mask_forward`; the
    fast forms keep no distances: the mask replaces them, or one kernel makes it at once.

    Parameters
    ----------
    embedding : (N, E, H, W) float array
    scale : float or 0-d array
        The scale s of the distances.
    window : Window
    normalized : bool
        Make the softmax ``exp(-s d) / sum_k exp(-s d)`` instead of ``exp(-s d)``.
    norm, remove_center, remove_bounds
        As for `distance_forward`.

    Returns
    -------
    mask : (N, K, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        As `distance_forward` and the masks raise them.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 2.

    Examples
    --------
    >>> e, window = np.array([[[[0.0, 1.0, 99.0]]]]), Window((1, 3), pad=(0, 1))
    >>> mask, cache = local_mask_forward(e, 0.5, window, remove_bounds=True)
    >>> mask[0, :, 0, 1].round(3).tolist()  # around the middle pixel
    [0.607, 1.0, 0.0]
    >>> dembedding, dscale = local_mask_backward(np.ones((1, 3, 1, 3)), cache)
    >>> dembedding[..., :2].ravel().round(3).tolist(), dscale.round(3).item()
    ([0.607, -0.607], -1.213)
    """
    check_embedding(embedding, window, norm)
    scale = checked_scale(scale, embedding)
    how = Measure(window, norm, remove_center, remove_bounds), normalized
    mask, d = fast(local_mask, embedding)(embedding, scale, *how)
    return mask, LocalMaskCache(embedding, scale, mask, d, *how)


def local_mask_backward(
    dmask: Array, cache: LocalMaskCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None]:
    """Gradients ``(dembedding, dscale)``; those not in `need` are None.

    The chain backwards: mask, distance.
    """
    check_array("dmask", dmask, cache.mask.shape, like=cache.mask)
    need = needed(need, ALL, True)
    return fast(local_mask_grad, dmask)(dmask, *cache, need)


def checked_scale(scale: Any, like: Array) -> Any:
    """Return the scale in the dtype of what it scales, which no mask then leaves."""
    check_number("scale", scale)
    number = isinstance(scale, Number)
    if not number:
        xp = array_module(like, scale)
        if xp is not np and scale.device.id != like.device.id:
            raise ValueError(
                f"scale: expected an array on GPU {like.device.id}, got one on GPU "
                f"{scale.device.id}"
            )
    on_host = isinstance(scale, (Number, np.ndarray))  # elsewhere a look would stall the stream
    if on_host and not np.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")
    kind = "c" if isinstance(scale, complex) else "" if number else scale.dtype.kind
    if like.dtype.kind == "f" and kind == "c":
        return scale  # a complex step through the scale alone
    if number:
        return like.dtype.type(scale)
    with device_of(like):
        return scale if scale.dtype == like.dtype else scale.astype(like.dtype)


def _split(distance: Array) -> tuple[Array, Array]:
    """Return where entries are removed, and distances with 0 in their place."""
    xp = array_module(distance)
    removed = xp.isinf(distance)
    return removed, xp.where(removed, distance.dtype.type(0), distance)
