"""Neighbourhood attention: a softmax over the window of dot products weighs the neighbours."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.ops.dot_product import DotProductCache, dot_product_backward, dot_product_forward
from segaware_np.ops.mask import MaskCache, normalized_mask_backward, normalized_mask_forward
from segaware_np.ops.masked_sum import MaskedSumCache, masked_sum_backward, masked_sum_forward
from segaware_np.ops.pieces import PiecesCache, backward_in_pieces, forward_in_pieces
from segaware_np.ranges import COUNT, check
from segaware_np.window import Window, centres, check_window
from segaware_np.xp import Array, array_module, check_array, long_sum, needed

ALL = frozenset({"query", "key", "value", "bias"})


class HeadsCache(NamedTuple):
    """Of the three steps, with heads as images of a batch."""

    product: DotProductCache
    mask: MaskCache
    sum: MaskedSumCache
    heads: int
    has_bias: bool


class NeighborhoodAttentionCache(NamedTuple):
    """`inner` has all windows, of which those centred on a pixel make the output."""

    inner: HeadsCache | PiecesCache
    shape: tuple[int, ...]
    window: Window
    has_bias: bool


@follows
def neighborhood_attention_forward(
    query: Array,
    key: Array,
    value: Array,
    window: Window,
    heads: int = 1,
    bias: Array | None = None,
) -> tuple[Array, NeighborhoodAttentionCache]:
    """Average the values of a pixel's neighbours, weighted by how well their keys fit its query.

    For each head, with its C channels of query and key and its share of the value's:

    * ``m[k, p] = softmax over k of (q[p] . k[p + delta_k] / sqrt(C) + b[k])``
    * ``y[p] = sum_k m[k, p] v[p + delta_k]``

    Neighbours outside the image have no weight. `bilateral_filter_forward` is the same with a
    distance in the place of the dot product.

    Parameters
    ----------
    query, key : (N, heads * C, H, W) float array
    value : (N, heads * D, H, W) array
    window : Window
        Its centre lies at ``kernel // 2``, of even kernels too. There is one output for each window
        that is centred on a pixel: as many as pixels for a `Window.same` of any kernel.
    heads : int
        They share the window; channels are divided among them in order.
    bias : (heads, kh, kw) array, optional
        Added to the logits: what a relative position is worth.

    Returns
    -------
    y : (N, heads * D, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, `window` is no `Window`, or `heads` does not divide the
        channels.

    Notes
    -----
    Masks take ``heads * K * Ho * Wo`` numbers for each image; above the limit of
    `memory.set_mask_memory` the work is done in pieces, to the same result.

    Hassani et al.: *Neighborhood Attention Transformer* (CVPR 2023), where windows are moved at an
    image's edge instead of losing neighbours; Ramachandran et al.: *Stand-Alone Self-Attention in
    Vision Models* (NeurIPS 2019) lets them lose neighbours, as here.

    Examples
    --------
    >>> e = np.array([[[[9.0, 9.0, -9.0]]]])  # the third pixel is of another kind
    >>> v, window = np.array([[[[0.0, 2.0, 8.0]]]]), Window((1, 3), pad=(0, 1))
    >>> y, cache = neighborhood_attention_forward(e, e, v, window)
    >>> y.ravel().round(6).tolist()
    [1.0, 1.0, 8.0]
    >>> _, _, dvalue, _ = neighborhood_attention_backward(np.ones((1, 1, 1, 3)), cache)
    >>> dvalue.ravel().round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    check_array("query", query, ("N", "C", "H", "W"))
    check_array("key", key, query.shape, like=query)
    check_array("value", value, (len(query), "D", *query.shape[2:]), like=query)
    check_window(window)
    check("heads", heads, COUNT)
    for name, channels in (("query", query.shape[1]), ("value", value.shape[1])):
        if channels % heads:
            raise ValueError(
                f"heads: expected a divisor of the {channels} channels of {name}, got {heads}"
            )
    if bias is not None:
        check_array("bias", bias, (heads, *window.kernel), like=query)
    run = partial(_attention, heads=heads, bias=bias)
    y, inner = forward_in_pieces(run, (query, key, value), (window,) * heads)  # a mask for each
    cache = NeighborhoodAttentionCache(inner, y.shape, window, bias is not None)
    return _centred(y, query.shape, window), cache


@follows
def neighborhood_attention_backward(
    dy: Array, cache: NeighborhoodAttentionCache, need: Collection[str] = ALL
) -> tuple[Array | None, ...]:
    """Gradients ``(dquery, dkey, dvalue, dbias)``; those not in `need` are None.

    The chain backwards: masked sum, softmax, dot product.
    """
    inner, shape, window, has_bias = cache
    need = needed(need, ALL, has_bias)
    image = inner.images[0] if isinstance(inner, PiecesCache) else inner.product.key
    assert image is not None
    inside, _ = centres(image.shape[2:], window)
    rows, columns = (axis.stop - axis.start for axis in inside[1:])
    check_array("dy", dy, (*shape[:2], rows, columns), like=image)
    if dy.shape != shape:
        every = array_module(dy).zeros(shape, dy.dtype)
        every[inside] = dy
        dy = every
    back = partial(_attention_grad, need=need)
    if isinstance(inner, PiecesCache):
        return backward_in_pieces(dy, inner, back)
    return back(dy, inner)


def _attention(
    query: Array, key: Array, value: Array, window: Window, *_: Window,
    heads: int, bias: Array | None,
) -> tuple[Array, HeadsCache]:  # fmt: skip
    n, channels = query.shape[:2]
    q, k, v = (_split(x, heads) for x in (query, key, value))
    logits, product = dot_product_forward(q * _factor(channels, heads), k, window, True)
    if bias is not None:
        by_head = logits.reshape(n, heads, *logits.shape[1:])
        by_head += bias.reshape(heads, window.size, 1, 1)
    m, mask = normalized_mask_forward(logits, -1.0)
    y, total = masked_sum_forward(v, m, window)
    y = y.reshape(n, value.shape[1], *y.shape[2:])
    return y, HeadsCache(product, mask, total, heads, bias is not None)


def _attention_grad(
    dy: Array, cache: HeadsCache, need: frozenset[str]
) -> tuple[Array | None, ...]:
    product, mask, total, heads, _ = cache
    logical = need & {"query", "key", "bias"}
    wanted = ({"x"} if "value" in need else set()) | ({"mask"} if logical else set())
    dvalue, dmask = masked_sum_backward(_split(dy, heads), total, wanted)
    dvalue = None if dvalue is None else _joined(dvalue, heads)
    if dmask is None:
        return None, None, dvalue, None
    dlogits, _ = normalized_mask_backward(dmask, mask)
    dquery, dkey = dot_product_backward(dlogits, product, need & {"query", "key"})
    if dquery is not None:
        dquery = _joined(dquery, heads)
        dquery *= _factor(dquery.shape[1], heads)
    dkey = None if dkey is None else _joined(dkey, heads)
    dbias = _bias_grad(dlogits, heads, product.window) if "bias" in need else None
    return dquery, dkey, dvalue, dbias


def _bias_grad(dlogits: Array, heads: int, window: Window) -> Array:
    images, size, *count = dlogits.shape
    by_head = dlogits.reshape(images // heads, heads, size, *count)
    total = long_sum(by_head, (0, 3, 4)).astype(dlogits.dtype, copy=False)
    return total.reshape(heads, *window.kernel)


def _factor(channels: int, heads: int) -> float:
    """What dot products are scaled by: their standard deviation becomes that of one product."""
    return max(channels // heads, 1) ** -0.5


def _split(x: Array, heads: int) -> Array:
    """Make every head an image of its own."""
    n, channels, *size = x.shape
    return x.reshape(n * heads, channels // heads, *size)


def _joined(x: Array, heads: int) -> Array:
    n, channels, *size = x.shape
    return x.reshape(n // heads, channels * heads, *size)


def _centred(y: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The outputs of the windows that are centred on a pixel."""
    inside, _ = centres((shape[2], shape[3]), window)
    return array_module(y).ascontiguousarray(y[inside])
