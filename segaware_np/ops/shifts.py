"""Windows as shifts: for every offset, which pixels meet which, as slices and without a copy.

All plain formulas of windowed operations are loops over these few offsets, each step of which
handles a whole image at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TypeAlias

from segaware_np.window import Axis, Pair, Window

Index: TypeAlias = tuple  # an ellipsis and two slices: rows and columns behind any leading axes


def shifts(
    shape: Pair, window: Window, count: Pair | None = None
) -> Iterator[tuple[int, Index, Index]]:
    """For each offset k, the windows that see a pixel of the image through it, and that pixel.

    Parameters
    ----------
    shape : (H, W)
        Size of the image.
    window : Window
    count : (Ho, Wo), optional
        Number of windows, if not ``window.output_shape(shape)``.

    Yields
    ------
    k : int
    inside : index
        Of the windows ``(..., Ho, Wo)`` whose neighbour ``p + delta_k`` lies inside the image.
    seen : index
        Of those neighbours in the image ``(..., H, W)``, in the same order.

    Examples
    --------
    >>> [k for k, *_ in shifts((1, 1), Window(3, pad=1))]
    [4]
    """
    axes, count = window.axes(shape), count or window.output_shape(shape)
    for k, taps in enumerate(product(*map(range, window.kernel))):
        inside = _each(Axis.seeing, axes, taps, (0, 0), count)
        if all(axis.stop > axis.start for axis in inside):
            yield k, (..., *inside), (..., *_each(Axis.seen, axes, taps, inside))


def pairs(shape: Pair, window: Window) -> Iterator[tuple[int, Index, Index, Index]]:
    """Like `shifts`, for the windows whose centre lies in the image as well.

    Parameters
    ----------
    shape : (H, W)
    window : Window

    Yields
    ------
    k : int
    inside, here, there : index
        Of the windows, of their centres ``p`` and of their neighbours ``p + delta_k``.
    """
    axes, centre = window.axes(shape), (window.kernel[0] // 2, window.kernel[1] // 2)
    whole = centres(shape, window)[0]
    for k, taps in enumerate(product(*map(range, window.kernel))):
        ends = zip(*((axis.start, axis.stop) for axis in whole[1:]), strict=True)
        inside = _each(Axis.seeing, axes, taps, *ends)
        if all(axis.stop > axis.start for axis in inside):
            here, there = (_each(Axis.seen, axes, at, inside) for at in (centre, taps))
            yield k, (..., *inside), (..., *here), (..., *there)


def centres(shape: Pair, window: Window) -> tuple[Index, Index]:
    """Return the windows whose centre lies in the image, and those centres.

    Parameters
    ----------
    shape : (H, W)
    window : Window
    """
    axes, centre = window.axes(shape), (window.kernel[0] // 2, window.kernel[1] // 2)
    inside = _each(Axis.seeing, axes, centre, (0, 0), window.output_shape(shape))
    return (..., *inside), (..., *_each(Axis.seen, axes, centre, inside))


def _each(of: Callable[..., slice], *arguments: tuple) -> tuple[slice, ...]:
    """Rows and columns: one method of both axes, with the arguments of each."""
    return tuple(map(of, *arguments))
