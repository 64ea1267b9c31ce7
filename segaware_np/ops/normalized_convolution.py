"""Normalised convolution: a cross-bilateral filter with learned weights (NormConv)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from segaware_np.ops.convolution import check_filter
from segaware_np.ops.mask import LocalMaskCache, local_mask_backward, local_mask_forward
from segaware_np.ops.pieces import PiecesCache, backward_in_pieces, forward_in_pieces
from segaware_np.ops.segaware_convolution import (
    SegawareConvolutionCache,
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, check_array, needed

ALL = frozenset({"x", "embedding", "weight", "bias", "scale"})


class NormalizedConvolutionCache(NamedTuple):
    mask: LocalMaskCache
    convolution: SegawareConvolutionCache


def normalized_convolution_forward(
    x: Array,
    embedding: Array,
    weight: Array,
    bias: Array | None = None,
    scale: Array | float = 1.0,
    *,
    window: Window,
    groups: int = 1,
    norm: str = "L2",
    remove_center: bool = False,
    remove_bounds: bool = False,
) -> tuple[Array, NormalizedConvolutionCache | PiecesCache]:
    """Convolution whose windows are weighted by a softmax over embedding distances.

    ``y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] m[n, k, p] x[n, c, p + delta_k]`` with
    ``m = softmax over k of (-s d)``: two operations, `local_mask_forward` and
    `segaware_convolution_forward`, one behind the other.

    Parameters
    ----------
    x : (N, C, H, W) float array
    embedding : (N, E, H, W) array
    weight : (O, C/groups, kh, kw) array
    bias : (O,) array, optional
    scale : float or 0-d array
        The scale s of the distances.
    window : Window
    groups : int
        They share the mask.
    norm, remove_center, remove_bounds
        As for `distance_forward`.

    Returns
    -------
    y : (N, O, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `window` is no `Window`.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 3.

    Examples
    --------
    With a constant embedding and weights of 1 it averages:

    >>> x, e = np.arange(9.0).reshape(1, 1, 3, 3), np.zeros((1, 2, 3, 3))
    >>> weight, window = np.ones((1, 1, 3, 3)), Window(3)
    >>> y, cache = normalized_convolution_forward(x, e, weight, window=window)
    >>> y.item()
    4.0
    >>> dx, *_ = normalized_convolution_backward(np.full((1, 1, 1, 1), 9.0), cache, {"x"})
    >>> dx[0, 0].round(12).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    check_array("embedding", embedding, (x.shape[0], "E", *x.shape[2:]), like=x)
    check_filter(x.shape[1], x, weight, bias, window.kernel, groups)
    measure = {"norm": norm, "remove_center": remove_center, "remove_bounds": remove_bounds}
    filters = {"weight": weight, "bias": bias, "groups": groups}
    run = partial(_normalized_convolution, scale=scale, measure=measure, filters=filters)
    return forward_in_pieces(run, (x, embedding), (window,))


def normalized_convolution_backward(
    dy: Array, cache: NormalizedConvolutionCache | PiecesCache, need: Collection[str] = ALL
) -> tuple[Array | None, ...]:
    """Gradients ``(dx, dembedding, dweight, dbias, dscale)``; those not in `need` are None.

    The chain backwards: convolution, mask.
    """
    if isinstance(cache, PiecesCache):
        return backward_in_pieces(dy, cache, partial(normalized_convolution_backward, need=need))
    need = needed(need, ALL, cache.convolution.has_bias)
    inner, outer = need & {"x", "weight", "bias"}, need & {"embedding", "scale"}
    dx, dmask, dweight, dbias = segaware_convolution_backward(
        dy, cache.convolution, inner | ({"mask"} if outer else set())
    )
    if not outer:
        return dx, None, dweight, dbias, None
    dembedding, dscale = local_mask_backward(dmask, cache.mask, outer)
    return dx, dembedding, dweight, dbias, dscale


def _normalized_convolution(
    x: Array,
    embedding: Array,
    window: Window,
    *,
    scale: Array | float,
    measure: dict[str, Any],
    filters: dict[str, Any],
) -> tuple[Array, NormalizedConvolutionCache]:
    m, mask = local_mask_forward(embedding, scale, window, normalized=True, **measure)
    y, convolution = segaware_convolution_forward(x, m, window=window, **filters)
    return y, NormalizedConvolutionCache(mask, convolution)
