"""Segmentation-aware bilateral filter: smoothing that stops where the embedding changes."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from segaware_np.ops.mask import LocalMaskCache, local_mask_backward, local_mask_forward
from segaware_np.ops.masked_sum import MaskedSumCache, masked_sum_backward, masked_sum_forward
from segaware_np.ops.pieces import PiecesCache, backward_in_pieces, forward_in_pieces
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, check_array, needed

ALL = frozenset({"x", "embedding", "scale"})


class BilateralCache(NamedTuple):
    mask: LocalMaskCache
    sum: MaskedSumCache


def bilateral_filter_forward(
    x: Array,
    embedding: Array,
    scale: Array | float = 1.0,
    *,
    window: Window,
    norm: str = "L2",
    remove_center: bool = False,
    remove_bounds: bool = True,
) -> tuple[Array, BilateralCache | PiecesCache]:
    """Average every pixel with the neighbours whose embedding is like its own.

    ``y[n, c, p] = sum_k m[n, k, p] x[n, c, p + delta_k]``, ``m = softmax over k of (-s d)``:
    normalised convolution with depthwise weights of 1. With colour and position as the embedding
    and L2 distances it is the (joint) bilateral filter.

    Parameters
    ----------
    x : (N, C, H, W) float array
        What is filtered: an image, scores, features.
    embedding : (N, E, H, W) array
        What guides the filter.
    scale : float or 0-d array
        The scale s of the distances: larger keeps finer differences.
    window : Window
    norm, remove_center, remove_bounds
        As for `distance_forward`. By default neighbours outside the image have no weight.

    Returns
    -------
    y : (N, C, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `window` is no `Window`.

    Notes
    -----
    Tomasi, Manduchi: *Bilateral Filtering for Gray and Color Images* (ICCV 1998).

    Examples
    --------
    >>> x = np.array([[[[0.0, 2.0, 8.0]]]])
    >>> e = np.array([[[[0.0, 0.0, 99.0]]]])  # the third pixel is of another region
    >>> y, cache = bilateral_filter_forward(x, e, window=Window((1, 3), pad=(0, 1)))
    >>> y.ravel().tolist()
    [1.0, 1.0, 8.0]
    >>> dx, _, _ = bilateral_filter_backward(np.ones((1, 1, 1, 3)), cache, {"x"})
    >>> dx.ravel().tolist()
    [1.0, 1.0, 1.0]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    check_array("embedding", embedding, (x.shape[0], "E", *x.shape[2:]), like=x)
    measure = {"norm": norm, "remove_center": remove_center, "remove_bounds": remove_bounds}
    run = partial(_bilateral, scale=scale, measure=measure)
    return forward_in_pieces(run, (x, embedding), (window,))


def bilateral_filter_backward(
    dy: Array, cache: BilateralCache | PiecesCache, need: Collection[str] = ALL
) -> tuple[Array | None, ...]:
    """Gradients ``(dx, dembedding, dscale)``; those not in `need` are None."""
    need = needed(need, ALL, True)
    if isinstance(cache, PiecesCache):
        return backward_in_pieces(dy, cache, partial(bilateral_filter_backward, need=need))
    outer = need & {"embedding", "scale"}
    dx, dmask = masked_sum_backward(dy, cache.sum, (need & {"x"}) | ({"mask"} if outer else set()))
    if dmask is None:
        return dx, None, None
    return dx, *local_mask_backward(dmask, cache.mask, outer)


def _bilateral(
    x: Array, embedding: Array, window: Window, *, scale: Array | float, measure: dict[str, Any]
) -> tuple[Array, BilateralCache]:
    m, mask = local_mask_forward(embedding, scale, window, normalized=True, **measure)
    y, total = masked_sum_forward(x, m, window)
    return y, BilateralCache(mask, total)
