"""Tile: copies of an array side by side along one axis."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import follows
from segaware_np.xp import Array, array_module, check_array


class TileCache(NamedTuple):
    tiles: int
    axis: int
    shape: tuple[int, ...]  # of x


@follows
def tile_forward(x: Array, tiles: int, axis: int = 1) -> tuple[Array, TileCache]:
    """Put copies of `x` side by side along an axis, ``y = [x, x, ...]``.

    Parameters
    ----------
    x : float array
    tiles : int
        Number of copies, at least 1.
    axis : int

    Returns
    -------
    y : array
        `tiles` times as long along that axis.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point array with that axis, or `tiles` less than 1.

    Notes
    -----
    Caffe's Tile layer.

    Examples
    --------
    >>> y, cache = tile_forward(np.array([[1.0, 2.0]]), 2)
    >>> y.tolist(), tile_backward(np.array([[1.0, 2.0, 3.0, 4.0]]), cache).tolist()
    ([[1.0, 2.0, 1.0, 2.0]], [[4.0, 6.0]])
    """
    check_array("x", x)
    if tiles < 1:
        raise ValueError(f"tiles: expected at least 1, got {tiles}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis: expected one of the {x.ndim} axes of x, got {axis}")
    axis %= x.ndim
    return array_module(x).concatenate([x] * tiles, axis), TileCache(tiles, axis, x.shape)


@follows
def tile_backward(dy: Array, cache: TileCache) -> Array:
    """``dx = sum over the copies of dy``."""
    tiles, axis, shape = cache
    before, (length, *after) = shape[:axis], shape[axis:]
    check_array("dy", dy, (*before, tiles * length, *after))
    return dy.reshape(*before, tiles, length, *after).sum(axis)
