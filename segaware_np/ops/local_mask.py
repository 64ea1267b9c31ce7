"""Local attention mask of an embedding: distance and mask in one operation."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import fast
from segaware_np.ops.convolution import needed
from segaware_np.ops.distance import check_embedding, distance, distance_grad
from segaware_np.ops.mask import (
    checked_scale,
    exponential_mask,
    exponential_mask_grad,
    normalized_mask,
    normalized_mask_grad,
)
from segaware_np.window import Window
from segaware_np.xp import Array, check_array

ALL = frozenset({"embedding", "scale"})


class LocalMaskCache(NamedTuple):
    embedding: Array
    scale: Array | float
    mask: Array
    distance: Array | None  # None where it is cheaper to measure again than to keep
    window: Window
    normalized: bool
    norm: str
    remove_center: bool
    remove_bounds: bool


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
    cache : LocalMaskCache

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
    how = (window, normalized, norm, remove_center, remove_bounds)
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


def local_mask(
    embedding: Array,
    scale: Array | float,
    window: Window,
    normalized: bool,
    norm: str,
    remove_center: bool,
    remove_bounds: bool,
) -> tuple[Array, Array | None]:
    """Plain formula of `local_mask_forward`; returns the distances, too."""
    d = fast(distance, embedding)(embedding, window, norm, remove_center, remove_bounds)
    return fast(normalized_mask if normalized else exponential_mask, d)(d, scale), d


def local_mask_grad(
    dmask: Array,
    embedding: Array,
    scale: Array | float,
    mask: Array,
    d: Array | None,
    window: Window,
    normalized: bool,
    norm: str,
    remove_center: bool,
    remove_bounds: bool,
    need: Collection[str],
) -> tuple[Array | None, Array | None]:
    """Plain formula of `local_mask_backward`."""
    back = normalized_mask_grad if normalized else exponential_mask_grad
    dd, ds = fast(back, dmask)(dmask, d, scale, mask)
    de = None
    if "embedding" in need:
        how = (window, norm, remove_center, remove_bounds)
        de = fast(distance_grad, embedding)(dd, embedding, *how)
    return de, ds if "scale" in need else None
