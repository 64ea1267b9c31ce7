"""Layers that change the resolution, or make images of a given one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

from segaware_np.layers.base import Layer, Need, Span, WindowedLayer
from segaware_np.ops.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
    pooled_shape,
)
from segaware_np.ops.position import position_image
from segaware_np.ops.resize import resize_backward, resize_forward
from segaware_np.window import Pair, Window, check_window
from segaware_np.xp import Array, array_module


class MaxPool(WindowedLayer):
    """Maximum over windows, `max_pool_forward`.

    Parameters
    ----------
    window : Window

    Raises
    ------
    TypeError
        If `window` is no `Window`.

    Examples
    --------
    >>> layer = MaxPool(Window(2, stride=2))
    >>> layer.forward(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[3.0]]]]
    >>> layer.backward(np.ones((1, 1, 1, 1)))[0].tolist()
    [[[[0.0, 0.0], [0.0, 1.0]]]]
    """

    formula = "y = max_k shift_k(x)"

    def __init__(self, window: Window) -> None:
        super().__init__()
        check_window(window)
        self.window = window

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the number of windows, by Caffe's rounding."""
        return pooled_shape((lengths[0], lengths[0]), self.window)[axis]

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = max_pool_forward(x, self.window)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (max_pool_backward(dy, self.cache),)


class AveragePool(MaxPool):
    """Mean over windows, `average_pool_forward`. Parameters are those of `MaxPool`.

    Examples
    --------
    >>> AveragePool(Window(2, stride=2)).forward(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[1.5]]]]
    """

    formula = "y = sum_k shift_k(x) / area"

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = average_pool_forward(x, self.window)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (average_pool_backward(dy, self.cache),)


class ResizeLike(Layer):
    """Resize ``(x, other)`` bilinearly to the other's height and width: `resize_forward`.

    Examples
    --------
    >>> ResizeLike().forward(np.array([[[[0.0, 1.0]]]]), np.empty((1, 7, 1, 3))).ravel().tolist()
    [0.0, 0.5, 1.0]
    """

    formula = "y = A_h x A_w^T"

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the other's length."""
        return lengths[1]

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return the pixels between which these are interpolated; the other gives its size."""
        return [_between(span, lengths[0], lengths[1]), None]

    def forward(self, x: Array, other: Array) -> Array:  # type: ignore[override]
        y, self.cache = resize_forward(x, other.shape[-2:])
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return resize_backward(dy, self.cache), None


class Shrink(Layer):
    """Resize bilinearly to ``(size - 1) * factor + 1``, so that corners align: `resize_forward`.

    Parameters
    ----------
    factor : float
        Above 0, at most 1.

    Raises
    ------
    ValueError
        If `factor` is out of range.

    Examples
    --------
    >>> Shrink(0.5).forward(np.arange(5.0).reshape(1, 1, 1, 5)).ravel().tolist()
    [0.0, 2.0, 4.0]
    """

    formula = "y = A_h x A_w^T"

    def __init__(self, factor: float) -> None:
        super().__init__()
        if not 0 < factor <= 1:
            raise ValueError(f"factor: expected a number in (0, 1], got {factor}")
        self.factor = factor

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the shrunk length."""
        return round((lengths[0] - 1) * self.factor) + 1

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return the pixels between which these are interpolated."""
        return [_between(span, lengths[0], self.length(lengths, axis))]

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        h, w = (self.length(x.shape[2 + axis :], axis) for axis in (0, 1))
        y, self.cache = resize_forward(x, (h, w))
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (resize_backward(dy, self.cache),)


class LabelsLike(Layer):
    """Sample ``(labels, scores)`` at the pixels of the scores: nearest, with aligned corners.

    The pixels are those at which `resize_forward` samples.

    Examples
    --------
    >>> LabelsLike().forward(np.array([[[1, 2, 3, 4, 5]]]), np.empty((1, 9, 1, 3))).tolist()
    [[[1, 3, 5]]]
    """

    formula = "y[i] = x[round(i (in - 1) / (out - 1))]"

    def forward(self, labels: Array, scores: Array) -> Array:  # type: ignore[override]
        xp = array_module(labels)
        rows, columns = (
            (xp.arange(n) * (m - 1) * 2 + max(n - 1, 1)) // (2 * max(n - 1, 1))
            for m, n in zip(labels.shape[1:], scores.shape[2:], strict=True)
        )
        return labels[:, rows[:, None], columns]

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return None, None


class PositionLike(Layer):
    """Position of every pixel of another image, (x, y): `position_image`.

    Examples
    --------
    >>> PositionLike().forward(np.empty((1, 9, 1, 3)))[0, :, 0].tolist()
    [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    """

    formula = "y = (x, y)"

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the other's length."""
        return lengths[0]

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return nothing: the other gives its size alone."""
        return [None]

    def forward(self, other: Array) -> Array:  # type: ignore[override]
        shape: Pair = other.shape[2:]
        return position_image(shape, other.shape[0], other.dtype, array_module(other))

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (None,)


def _between(span: Span, length: int, resized: int) -> Span:
    """The pixels of an axis between which a resize with aligned corners interpolates."""
    step = Fraction(length - 1, max(resized - 1, 1))
    return floor(span[0] * step), min(ceil(span[1] * step), length - 1)
