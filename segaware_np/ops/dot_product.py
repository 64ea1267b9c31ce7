"""Dot products of a pixel with its neighbours: a third similarity, beside the two distances."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from types import ModuleType
from typing import NamedTuple

from segaware_np.dispatch import fast, follows
from segaware_np.ops.masked_sum import masked_sum, masked_sum_grad
from segaware_np.window import Axis, Pair, Window, centres, check_window
from segaware_np.xp import Array, array_module, check_array, needed


def dot_product(query: Array, key: Array, window: Window) -> Array:
    """Formula of `dot_product_forward`: what a masked sum of keys sends back to its mask."""
    mask = array_module(key).empty((len(key), window.size, *query.shape[2:]), key.dtype)
    return fast(masked_sum_grad, key)(query, key, mask, window, {"mask"})[1]


def dot_product_grad(
    ds: Array, query: Array, key: Array, window: Window, need: Collection[str]
) -> tuple[Array | None, Array | None]:
    """Formula of `dot_product_backward`: a masked sum of keys, and its adjoint on queries."""
    dquery = fast(masked_sum, key)(key, ds, window) if "query" in need else None
    if "key" not in need:
        return dquery, None
    return dquery, fast(masked_sum_grad, key)(query, key, ds, window, {"x"})[0]


ALL = frozenset({"query", "key"})


class DotProductCache(NamedTuple):
    """The arguments; `query` stands at the windows' centres, (N, C, Ho, Wo)."""

    query: Array
    key: Array
    window: Window
    removed: Array | None


@follows
def dot_product_forward(
    query: Array, key: Array, window: Window, remove_bounds: bool = False
) -> tuple[Array, DotProductCache]:
    """Dot product of the query at a window's centre with the key at each of its neighbours.

    ``s[n, k, p] = sum_c q[n, c, p] k[n, c, p + delta_k]``

    0 where the centre or the neighbour lies outside the image; a neighbour outside is minus
    infinity with `remove_bounds`: a mask made of it has weight 0 there.

    Parameters
    ----------
    query, key : (N, C, H, W) float array
    window : Window
    remove_bounds : bool

    Returns
    -------
    similarity : (N, K, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `window` is no `Window`.

    Notes
    -----
    The linear form of `distance_forward`: ``1/2 |q - k|^2 = 1/2 |q|^2 + 1/2 |k|^2 - q.k``. A masked
    sum is ``<s, dot_product(dy, x)>`` in its mask s, so that all fast forms are the masked sum's.

    Vaswani et al.: *Attention Is All You Need* (NeurIPS 2017), eq. 1.

    Examples
    --------
    >>> e, window = np.array([[[[1.0, 2.0, 5.0]]]]), Window((1, 3), pad=(0, 1))
    >>> s, cache = dot_product_forward(e, e, window)
    >>> s[0, :, 0, 1].tolist()  # around the middle pixel
    [2.0, 4.0, 10.0]
    >>> dquery, dkey = dot_product_backward(np.ones((1, 3, 1, 3)), cache)
    >>> dquery.ravel().tolist(), dkey.ravel().tolist()
    ([3.0, 8.0, 7.0], [3.0, 8.0, 7.0])
    """
    check_array("query", query, ("N", "C", "H", "W"))
    check_array("key", key, query.shape, like=query)
    check_window(window)
    window.output_shape(key.shape[2:])
    removed = outside(key.shape[2:], window, array_module(key)) if remove_bounds else None
    cache = DotProductCache(_at_centres(query, window), key, window, removed)
    similarity = dot_product(cache.query, key, window)
    if removed is not None:
        similarity[:, removed] = -inf
    return similarity, cache


@follows
def dot_product_backward(
    d_similarity: Array, cache: DotProductCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None]:
    """Gradients ``(dquery, dkey)``; those not in `need` are None.

    ``dq[p] = sum_k ds_k[p] k[p + delta_k]``, ``dk = sum_k shift_k^T (ds_k q)``; what was set
    to 0 or removed passes nothing.
    """
    query, key, window, _ = cache
    shape = (len(key), window.size, *query.shape[2:])
    check_array("d_similarity", d_similarity, shape, like=key)
    dquery, dkey = dot_product_grad(d_similarity, query, key, window, needed(need, ALL, True))
    return None if dquery is None else _from_centres(dquery, key.shape, window), dkey


def outside(shape: Pair, window: Window, xp: ModuleType) -> Array:
    """Return which neighbours lie outside an image of this shape: (K, Ho, Wo) bool."""
    rows, columns = (_inside(axis, xp) for axis in window.axes(shape))
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return ~both.reshape(window.size, *window.output_shape(shape))


def _inside(axis: Axis, xp: ModuleType) -> Array:
    """Whether a tap of a window sees the image, (taps, windows)."""
    taps = xp.arange(axis.kernel)[:, None] * axis.dilation - axis.pad
    at = taps + xp.arange(axis.windows) * axis.stride
    return (at >= 0) & (at < axis.length)


def _at_centres(query: Array, window: Window) -> Array:
    """The query of each window, 0 where the centre is outside: (N, C, Ho, Wo)."""
    inside, here = centres(query.shape[2:], window)
    count = window.output_shape(query.shape[2:])
    if query[here].shape[2:] == count:
        return query[here]
    found = array_module(query).zeros((*query.shape[:2], *count), query.dtype)
    found[inside] = query[here]
    return found


def _from_centres(dquery: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of `_at_centres`."""
    inside, here = centres((shape[2], shape[3]), window)
    if dquery.shape == shape and dquery[inside].shape == shape:
        return dquery
    found = array_module(dquery).zeros(shape, dquery.dtype)
    found[here] = dquery[inside]
    return found
