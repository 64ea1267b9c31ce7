"""Embedding distance: how far each pixel's embedding is from its neighbours' (im2dist)."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import fast
from segaware_np.window import Window, centres, check_window, pairs
from segaware_np.xp import Array, array_module, check_array


def distance(embedding: Array, measure: Measure) -> Array:
    """Plain formula of `distance_forward`: one offset at a time."""
    window, norm, remove_center, remove_bounds = measure
    xp = array_module(embedding)
    n, _, *shape = embedding.shape
    count = window.output_shape(shape)
    d = xp.zeros((n, window.size, *count), embedding.dtype)
    inside, _ = centres(shape, window)
    if remove_bounds:
        d[inside] = xp.inf
    for k, inside_k, here, there in pairs(shape, window):
        difference = embedding[here] - embedding[there]
        if norm == "L1":
            d[:, k][inside_k] = (difference * _sign(difference)).sum(1)
        else:
            d[:, k][inside_k] = (difference * difference).sum(1) / 2
    if remove_center:
        d[:, window.centre][inside] = xp.inf
    return d


def distance_grad(d_distance: Array, embedding: Array, measure: Measure) -> Array:
    """Plain formula of `distance_backward`."""
    window, norm, *_ = measure
    de = array_module(embedding).zeros_like(embedding)
    for k, inside, here, there in pairs(embedding.shape[2:], window):
        if k == window.centre:
            continue  # the distance to oneself is constant
        difference = embedding[here] - embedding[there]
        slope = _sign(difference) if norm == "L1" else difference
        dd = d_distance[:, k : k + 1][inside]
        g = array_module(dd).where(dd == 0, dd, dd * slope)
        de[here] += g
        de[there] -= g
    return de


class Measure(NamedTuple):
    """How embeddings are compared: within which window, by which norm, and what is removed."""

    window: Window
    norm: str
    remove_center: bool
    remove_bounds: bool


class DistanceCache(NamedTuple):
    embedding: Array
    measure: Measure


def distance_forward(
    embedding: Array,
    window: Window,
    norm: str = "L1",
    remove_center: bool = False,
    remove_bounds: bool = False,
) -> tuple[Array, DistanceCache]:
    """Distance between the embedding at a window's centre and at each of its neighbours.

    * L1: ``d[n, k, p] = sum_c |e[n, c, p] - e[n, c, p + delta_k]|``
    * L2: ``d[n, k, p] = 1/2 sum_c (e[n, c, p] - e[n, c, p + delta_k])^2``

    with three rules, in this order: a window whose centre lies outside the image (over-padding)
    is all 0; with `remove_center` the centre itself is infinitely far; a neighbour outside the
    image is infinitely far with `remove_bounds`, else at distance 0.

    Parameters
    ----------
    embedding : (N, E, H, W) float array
    window : Window
    norm : {"L1", "L2"}
    remove_center, remove_bounds : bool
        Give the centre, or neighbours outside the image, an infinite distance: a mask made of it
        has weight 0 there.

    Returns
    -------
    distance : (N, K, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If `embedding` is not a floating-point image at least as large as the window, or `norm`
        is unknown.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.1.

    Examples
    --------
    >>> e, window = np.array([[[[0.0, 1.0, 5.0]]]]), Window((1, 3), pad=(0, 1))
    >>> d, cache = distance_forward(e, window)
    >>> d[0, :, 0, 1].tolist()  # around the middle pixel
    [1.0, 0.0, 4.0]

    To bring the middle pixel nearer to its right neighbour, raise the one and lower the other:

    >>> dd = np.zeros((1, 3, 1, 3))
    >>> dd[0, 2, 0, 1] = 1.0
    >>> distance_backward(dd, cache).ravel().tolist()
    [0.0, -1.0, 1.0]
    """
    check_embedding(embedding, window, norm)
    cache = DistanceCache(embedding, Measure(window, norm, remove_center, remove_bounds))
    return fast(distance, embedding)(*cache), cache


def distance_backward(d_distance: Array, cache: DistanceCache) -> Array:
    """Pull both ends of every pair: plus to the centre, minus to the neighbour.

    ``de[p] += g`` and ``de[p + delta_k] -= g``, with ``g = dd * sign(diff)`` (L1, sign(0) = 0) or
    ``g = dd * diff`` (L2). Entries that one of the three rules has set pass nothing, nor do those
    whose gradient is 0, even beside a NaN: what a loss ignores stays where it is.
    """
    embedding, (window, *_) = cache
    shape = (embedding.shape[0], window.size, *window.output_shape(embedding.shape[2:]))
    check_array("d_distance", d_distance, shape, like=embedding)
    return fast(distance_grad, embedding)(d_distance, *cache)


def check_embedding(embedding: Array, window: Window, norm: str) -> None:
    """Raise unless distances can be measured."""
    check_array("embedding", embedding, ("N", "E", "H", "W"))
    check_window(window)
    if norm not in ("L1", "L2"):
        raise ValueError(f"norm: expected 'L1' or 'L2', got {norm!r}")
    window.output_shape(embedding.shape[2:])


def _sign(x: Array) -> Array:
    """sign(x) with sign(0) = 0; of the real part where a complex step passes through."""
    return array_module(x).sign(x.real)
