"""The geometry of a sliding window: the one description that every windowed operation shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import index

Pair = tuple[int, int]


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

    @cached_property
    def size(self) -> int:
        """Number of offsets, K."""
        return self.kernel[0] * self.kernel[1]

    @cached_property
    def centre(self) -> int:
        """Index of the centre among the K offsets (row by row)."""
        return (self.kernel[0] // 2) * self.kernel[1] + self.kernel[1] // 2

    @cached_property
    def offsets(self) -> tuple[Pair, ...]:
        """The K offsets ``(dy, dx)`` in pixels, relative to the centre, row by row."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return tuple(
            ((i - kh // 2) * dh, (j - kw // 2) * dw) for i in range(kh) for j in range(kw)
        )

    @cached_property
    def origin(self) -> Pair:
        """Pixel ``(y, x)`` on which the centre of the first window lies."""
        oy, ox = (
            d * (k // 2) - p
            for d, k, p in zip(self.dilation, self.kernel, self.pad, strict=True)
        )
        return oy, ox

    def output_shape(self, shape: Pair) -> Pair:
        """Return the number of windows ``(Ho, Wo)`` on an image of shape ``(H, W)``.

        Raises
        ------
        ValueError
            If the dilated kernel is larger than the padded image.
        """
        out = []
        for axis, length, k, s, p, d in zip(
            ("height", "width"),
            shape,
            self.kernel,
            self.stride,
            self.pad,
            self.dilation,
            strict=True,
        ):
            room = length + 2 * p - (d * (k - 1) + 1)
            if room < 0:
                raise ValueError(
                    f"window: kernel {k} with dilation {d} spans {d * (k - 1) + 1} pixels, more "
                    f"than the padded {axis} {length} + 2*{p}"
                )
            out.append(room // s + 1)
        return out[0], out[1]


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
