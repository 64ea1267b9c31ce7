"""Where branches of a network meet."""

from __future__ import annotations

from segaware_np.layers.base import Layer, Need
from segaware_np.ops.elementwise import maximum_backward, maximum_forward
from segaware_np.ops.join import add_backward, add_forward, concat_backward, concat_forward
from segaware_np.xp import Array


class Concat(Layer):
    """Concatenation of any number of inputs along channels."""

    formula = "y = [x_1, x_2, ...]"

    def forward(self, *xs: Array) -> Array:
        y, self.cache = concat_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return concat_backward(dy, self.cache)


class Add(Layer):
    """Sum of any number of inputs."""

    formula = "y = x_1 + x_2 + ..."

    def forward(self, *xs: Array) -> Array:
        y, self.cache = add_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return add_backward(dy, self.cache)


class Maximum(Layer):
    """Maximum of any number of inputs."""

    formula = "y = max(x_1, x_2, ...)"

    def forward(self, *xs: Array) -> Array:
        y, self.cache = maximum_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return maximum_backward(dy, self.cache)
