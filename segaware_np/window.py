"""The geometry of a sliding window: the one description that every windowed operation shares.

All plain formulas of windowed operations are loops over a window's few offsets (`shifts`, `pairs`),
each step of which handles a whole image at once: which pixels meet which, as slices, no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, wraps
from itertools import product
from operator import index
from typing import NamedTuple, TypeAlias, TypeVar

from segaware_np.lazy import lazy

Pair = tuple[int, int]
Geometry = TypeVar("Geometry", bound=Callable)
Index: TypeAlias = tuple  # an ellipsis and two slices: rows and columns behind any leading axes


class Axis(NamedTuple):
    """A window along one axis of an image: all arithmetic of windows is that of two axes.

    Attributes
    ----------
    kernel, stride, pad, dilation : int
        As of the `Window`.
    length : int
        Of the image, in pixels.

    Examples
    --------
    >>> axis = Axis(kernel=3, stride=2, pad=1, dilation=1, length=8)
    >>> axis.reach, axis.room
    (3, 7)
    >>> axis.seeing(0, 0, 4), axis.seen(0, slice(1, 4))  # the first window begins in the padding
    (slice(1, 4, None), slice(1, 6, 2))
    """

    kernel: int
    stride: int
    pad: int
    dilation: int
    length: int

    @property
    def reach(self) -> int:
        """Pixels that a window spans."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def room(self) -> int:
        """How far the first window can move to the right, pixels; negative: it does not fit."""
        return self.length + 2 * self.pad - self.reach

    @property
    def windows(self) -> int:
        """Number of windows, if they fit."""
        return self.room // self.stride + 1

    def covered(self, first: int, last: int) -> Pair:
        """First and last pixel of the image that the windows ``first`` to ``last`` cover."""
        start = first * self.stride - self.pad
        stop = last * self.stride - self.pad + self.reach
        return max(start, 0), min(stop, self.length) - 1

    def seeing(self, tap: int, first: int, stop: int) -> slice:
        """Which of the windows ``first <= i < stop`` see a pixel of the image through a tap."""
        start = tap * self.dilation - self.pad
        low = min(max(-(start // self.stride), first), stop)
        return slice(low, max(min((self.length - 1 - start) // self.stride + 1, stop), low))

    def seen(self, tap: int, windows: slice) -> slice:
        """The pixels that these windows see through it."""
        start, size = tap * self.dilation - self.pad, windows.stop - windows.start
        low = start + windows.start * self.stride
        return slice(low, low + (size - 1) * self.stride + 1, self.stride) if size else slice(0, 0)


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding and dilation of a sliding window, each an ``(h, w)`` pair.

    Parameters
    ----------
    kernel, stride, pad, dilation : int or (int, int)
        A single integer stands for both axes. Kernel, stride and dilation are at least 1,
        padding at least 0 pixels.

    Raises
    ------
    TypeError
        If a value is neither an integer nor a pair of integers.
    ValueError
        If a value is too small.

    Notes
    -----
    The output size is ``floor((in + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1``. The
    centre of a window lies at offset ``kernel // 2``: for even kernels, the lower right of the
    middle pair.

    Examples
    --------
    >>> window = Window.same(3, dilation=2)
    >>> window.output_shape((5, 7))
    (5, 7)
    >>> window.offsets[window.centre]
    (0, 0)
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def __init__(
        self,
        kernel: int | Pair,
        stride: int | Pair = 1,
        pad: int | Pair = 0,
        dilation: int | Pair = 1,
    ) -> None:
        object.__setattr__(self, "kernel", _pair("kernel", kernel, 1))
        object.__setattr__(self, "stride", _pair("stride", stride, 1))
        object.__setattr__(self, "pad", _pair("pad", pad, 0))
        object.__setattr__(self, "dilation", _pair("dilation", dilation, 1))

    @classmethod
    def same(cls, kernel: int | Pair, dilation: int | Pair = 1) -> Window:
        """Return the window of stride 1 whose output is as large as its input (odd kernels)."""
        k, d = _pair("kernel", kernel, 1), _pair("dilation", dilation, 1)
        return cls(k, 1, (d[0] * (k[0] // 2), d[1] * (k[1] // 2)), d)

    @lazy
    def size(self) -> int:
        """Number of offsets, K."""
        return self.kernel[0] * self.kernel[1]

    @lazy
    def centre(self) -> int:
        """Index of the centre among the K offsets (row by row)."""
        return (self.kernel[0] // 2) * self.kernel[1] + self.kernel[1] // 2

    @lazy
    def offsets(self) -> tuple[Pair, ...]:
        """The K offsets ``(dy, dx)`` in pixels, relative to the centre, row by row."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return tuple(((i - kh // 2) * dh, (j - kw // 2) * dw) for i in range(kh) for j in range(kw))

    @lazy
    def origin(self) -> Pair:
        """Pixel ``(y, x)`` on which the centre of the first window lies."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh // 2) - self.pad[0], dw * (kw // 2) - self.pad[1]

    def axes(self, shape: Pair) -> tuple[Axis, Axis]:
        """Return the window along each axis of an image of shape ``(H, W)``."""
        parts = self.kernel, self.stride, self.pad, self.dilation, shape
        rows, columns = (Axis(*axis) for axis in zip(*parts, strict=True))
        return rows, columns

    def output_shape(self, shape: Pair) -> Pair:
        """Return the number of windows ``(Ho, Wo)`` on an image of shape ``(H, W)``.

        Raises
        ------
        ValueError
            If the dilated kernel is larger than the padded image.
        """
        return _output_shape(self, *shape)


@lru_cache(maxsize=1024)
def _output_shape(window: Window, height: int, width: int) -> Pair:
    axes = window.axes((height, width))
    for name, axis in zip(("height", "width"), axes, strict=True):
        if axis.room < 0:
            raise ValueError(
                f"window: kernel {axis.kernel} with dilation {axis.dilation} spans "
                f"{axis.reach} pixels, more than the padded {name} {axis.length} + 2*{axis.pad}"
            )
    return axes[0].windows, axes[1].windows


def check_window(window: object, name: str = "window") -> None:
    """Raise unless it is a `Window`: a bare 3 would leave open whether there is padding.

    Parameters
    ----------
    window : object
        What the caller passed.
    name : str
        What the message calls it.

    Raises
    ------
    TypeError
        If it is none.

    Examples
    --------
    >>> check_window(3)
    Traceback (most recent call last):
    TypeError: window: expected a Window: Window(3), or Window.same(3) to keep the size, got 3
    """
    if not isinstance(window, Window):
        raise TypeError(
            f"{name}: expected a Window: Window(3), or Window.same(3) to keep the size, "
            f"got {window!r}"
        )


def _kept(function: Geometry) -> Geometry:
    """Let a generator keep what it yields, for the geometries that it was asked for last."""
    known = lru_cache(maxsize=64)(lambda *geometry: tuple(function(*geometry)))

    @wraps(function)
    def iterate(shape: Pair, window: Window, *count: Pair) -> Iterator[tuple]:
        return iter(known(tuple(shape), window, *count))

    return iterate  # type: ignore[return-value]


@_kept
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


@_kept
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

    Examples
    --------
    >>> [k for k, *_ in pairs((1, 2), Window(3, pad=1))]
    [3, 4, 5]
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

    Examples
    --------
    >>> centres((5, 7), Window.same(3))
    ((Ellipsis, slice(0, 5, None), slice(0, 7, None)), (Ellipsis, slice(0, 5, 1), slice(0, 7, 1)))
    """
    axes, centre = window.axes(shape), (window.kernel[0] // 2, window.kernel[1] // 2)
    inside = _each(Axis.seeing, axes, centre, (0, 0), window.output_shape(shape))
    return (..., *inside), (..., *_each(Axis.seen, axes, centre, inside))


def _each(of: Callable[..., slice], *arguments: tuple) -> tuple[slice, ...]:
    """Rows and columns: one method of both axes, with the arguments of each."""
    return tuple(map(of, *arguments))


def image_shape(name: str, value: Pair) -> Pair:
    """Return a pair of integers as a tuple: ``(H, W)``.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : (int, int)

    Raises
    ------
    TypeError
        If it is no pair of integers.

    Examples
    --------
    >>> image_shape("shape", [np.int64(4), 5])
    (4, 5)
    """
    try:
        h, w = value
        return index(h), index(w)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a pair of integers, got {value!r}") from None


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    try:
        pair = (index(value), index(value))  # type: ignore[arg-type]
    except TypeError:
        try:
            first, second = value  # type: ignore[misc]
            pair = (index(first), index(second))
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}: expected an integer or a pair of integers, got {value!r}"
            ) from None
    if min(pair) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    return pair
