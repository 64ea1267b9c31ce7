"""Windows as shifts: for every offset, which pixels meet which, as slices and without a copy.

All plain formulas of windowed operations are loops over these few offsets, each step of which
handles a whole image at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from segaware_np.window import Pair, Window

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
    count = count or window.output_shape(shape)
    for k, offset in enumerate(window.offsets):
        axes = [_overlap(*axis) for axis in zip(*_axes(shape, window, count), offset, strict=True)]
        if all(stop > start for start, stop in axes):
            inside = tuple(slice(start, stop) for start, stop in axes)
            yield k, (..., *inside), (..., *_pixels(window, inside, offset))


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
    count = window.output_shape(shape)
    centre = [_overlap(*axis, 0) for axis in zip(*_axes(shape, window, count), strict=True)]
    for k, inside, _ in shifts(shape, window, count):
        both = tuple(
            slice(max(axis.start, start), min(axis.stop, stop))
            for axis, (start, stop) in zip(inside[1:], centre, strict=True)
        )
        if all(axis.stop > axis.start for axis in both):
            here = _pixels(window, both, (0, 0))
            there = _pixels(window, both, window.offsets[k])
            yield k, (..., *both), (..., *here), (..., *there)


def centres(shape: Pair, window: Window) -> tuple[Index, Index]:
    """Return the windows whose centre lies in the image, and those centres.

    Parameters
    ----------
    shape : (H, W)
    window : Window
    """
    count = window.output_shape(shape)
    inside = tuple(
        slice(*_overlap(*axis, 0)) for axis in zip(*_axes(shape, window, count), strict=True)
    )
    return (..., *inside), (..., *_pixels(window, inside, (0, 0)))


def _axes(shape: Pair, window: Window, count: Pair) -> tuple[Pair, Pair, Pair, Pair]:
    return window.origin, window.stride, count, shape


def _overlap(origin: int, stride: int, count: int, length: int, delta: int) -> Pair:
    """Range of the i < count with ``0 <= origin + i*stride + delta < length``, maybe empty."""
    first = origin + delta
    start = max(0, -(first // stride))
    return start, max(start, min(count, (length - 1 - first) // stride + 1))


def _pixels(window: Window, inside: tuple[slice, ...], delta: Pair) -> tuple[slice, ...]:
    """The pixels ``p + delta`` of the windows ``inside``."""
    out = []
    for axis, origin, stride, shift in zip(
        inside, window.origin, window.stride, delta, strict=True
    ):
        low, size = origin + axis.start * stride + shift, axis.stop - axis.start
        out.append(slice(low, low + (size - 1) * stride + 1, stride) if size else slice(0, 0))
    return tuple(out)
