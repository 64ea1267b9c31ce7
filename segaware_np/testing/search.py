"""Finding the entry that is to blame in an array too large to try each one."""

from __future__ import annotations

from collections.abc import Callable

from segaware_np.testing.errors import Index
from segaware_np.xp import Array, array_module


def bisect(direction: Array, apart: Callable[[Array], float]) -> Index:
    """Halve the support of ``direction``, keeping the half that is further off.

    Parameters
    ----------
    direction : array
        Non-zero entries everywhere but at those that are not to be looked at.
    apart : callable
        How far claim and truth are apart along a direction. Both are linear in it, so of the two
        halves at least one is off by half the sum: after log2(size) steps an entry is left.

    Returns
    -------
    tuple of int
        The index of an entry that is off.
    """
    flat = direction.reshape(-1)
    start, stop = 0, flat.size
    while stop - start > 1:
        middle = (start + stop) // 2
        start, stop = max(
            ((start, middle), (middle, stop)),
            key=lambda half: apart(_part(flat, *half).reshape(direction.shape)),
        )
    return unravel(start, direction.shape)


def unravel(flat: int, shape: tuple[int, ...]) -> Index:
    """Return the index of the entry at ``flat`` in C order."""
    index: list[int] = []
    for length in reversed(shape):
        flat, rest = divmod(flat, length)
        index.insert(0, rest)
    return tuple(index)


def unit(like: Array, index: Index) -> Array:
    """Return the array of the shape of ``like`` that is 1 at ``index`` and 0 elsewhere."""
    array = array_module(like).zeros_like(like)
    array[index] = 1
    return array


def _part(flat: Array, start: int, stop: int) -> Array:
    part = array_module(flat).zeros_like(flat)
    part[start:stop] = flat[start:stop]
    return part
