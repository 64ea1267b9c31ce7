"""Where branches of a network meet."""

from __future__ import annotations

from segaware_np.layers.base import Layer, Need
from segaware_np.ops.join import (
    add_backward,
    add_forward,
    concat_backward,
    concat_forward,
    maximum_backward,
    maximum_forward,
)
from segaware_np.xp import Array


class Concat(Layer):
    """Concatenation of any number of inputs along channels, `concat_forward`.

    Examples
    --------
    >>> Concat().forward(np.ones((1, 2, 4, 4)), np.ones((1, 1, 4, 4))).shape
    (1, 3, 4, 4)
    """

    formula = "y = [x_1, x_2, ...]"
    pointwise = True

    def forward(self, *xs: Array) -> Array:
        y, self.cache = concat_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return concat_backward(dy, self.cache)


class Add(Layer):
    """Sum of any number of inputs, `add_forward`.

    Examples
    --------
    >>> Add().forward(np.array([1.0]), np.array([2.0])).tolist()
    [3.0]
    """

    formula = "y = x_1 + x_2 + ..."
    pointwise = True

    def forward(self, *xs: Array) -> Array:
        y, self.cache = add_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return add_backward(dy, self.cache)


class Maximum(Layer):
    """Maximum of any number of inputs, `maximum_forward`.

    Examples
    --------
    >>> layer = Maximum()
    >>> layer.forward(np.array([1.0, 5.0]), np.array([2.0, 3.0])).tolist()
    [2.0, 5.0]
    >>> [dx.tolist() for dx in layer.backward(np.array([10.0, 20.0]))]
    [[0.0, 20.0], [10.0, 0.0]]
    """

    formula = "y = max(x_1, x_2, ...)"
    pointwise = True

    def forward(self, *xs: Array) -> Array:
        y, self.cache = maximum_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return maximum_backward(dy, self.cache)
