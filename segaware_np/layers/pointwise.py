"""Layers that treat every pixel alike."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from segaware_np.layers.base import Layer, Need
from segaware_np.ops.batch_norm import batch_norm_backward, batch_norm_forward
from segaware_np.ops.dropout import dropout_backward, dropout_forward
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.ops.scale import scale_backward, scale_forward
from segaware_np.parameter import Parameter
from segaware_np.xp import Array


class ReLU(Layer):
    """Rectifier, `relu_forward`.

    Examples
    --------
    >>> layer = ReLU()
    >>> layer.forward(np.array([-1.0, 2.0])).tolist(), layer.backward(np.ones(2))[0].tolist()
    ([0.0, 2.0], [0.0, 1.0])
    """

    formula = "y = max(x, 0)"
    pointwise = True

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = relu_forward(x)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (relu_backward(dy, self.cache),)


class Multiply(Layer):
    """Multiply by a constant, as `scale_forward` does with a learned one.

    Parameters
    ----------
    factor : float

    Examples
    --------
    >>> Multiply(0.5).forward(np.array([3.0])).tolist()
    [1.5]
    """

    formula = "y = a x"
    pointwise = True

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = float(factor)  # a NumPy scalar would change the dtype

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        return x * self.factor

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (dy * self.factor,)


class Scale(Layer):
    """Learned scale, one a channel with a bias, or a single one for all: `scale_forward`.

    Parameters
    ----------
    channels : int or None
        None: one factor for everything, without a bias.
    start : float
        Where the scale starts.
    lr_mult : float
        Learning-rate factor of scale and bias; 0 freezes them.

    Examples
    --------
    >>> layer = Scale(2, start=3.0)
    >>> layer.initialize(np.random.default_rng(0), "float64")
    >>> layer.forward(np.ones((1, 2, 1, 1))).ravel().tolist()
    [3.0, 3.0]
    """

    formula = "y = s x + b"
    pointwise = True

    def __init__(
        self, channels: int | None = None, start: float = 1.0, lr_mult: float = 1.0
    ) -> None:
        super().__init__()
        self.channels, self.start, self.lr_mult = channels, start, lr_mult

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        shape = () if self.channels is None else (self.channels,)
        self.params["scale"] = Parameter(xp.full(shape, self.start, dtype), self.lr_mult)
        if self.channels is not None:
            self.params["bias"] = Parameter(xp.zeros(shape, dtype), self.lr_mult)

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = scale_forward(x, *(p.data for p in self._pair()))
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        (need_x,) = need or (True,)
        wanted = self._wanted({"x": need_x})
        dx, *gradients = scale_backward(dy, self.cache, wanted)
        for parameter, gradient in zip(self._pair(), gradients, strict=False):
            parameter.accumulate(gradient)
        return (dx,)

    def _pair(self) -> list[Parameter]:
        return list(self.params.values())


class BatchNorm(Layer):
    """Batch normalisation with stored statistics, which do not learn: `batch_norm_forward`.

    Parameters
    ----------
    channels : int
    eps : float

    Examples
    --------
    >>> layer = BatchNorm(1, eps=0.0)
    >>> layer.initialize(np.random.default_rng(0), "float64")
    >>> layer.params["mean"].data[:], layer.params["variance"].data[:] = 5.0, 4.0
    >>> layer.forward(np.array([[[5.0, 9.0]]])).tolist()
    [[[0.0, 2.0]]]
    """

    formula = "y = (x - mean) / sqrt(variance + eps)"
    pointwise = True

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        self.params["mean"] = Parameter(xp.zeros(self.channels, dtype), lr_mult=0.0)
        self.params["variance"] = Parameter(xp.ones(self.channels, dtype), lr_mult=0.0)

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        mean, variance = (p.data for p in self.params.values())
        y, self.cache = batch_norm_forward(x, mean, variance, self.eps)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (batch_norm_backward(dy, self.cache),)


class Dropout(Layer):
    """Inverted dropout in training, `dropout_forward`; in use the output is the input itself.

    Parameters
    ----------
    ratio : float
        Probability that an entry is dropped, in [0, 1).

    Raises
    ------
    ValueError
        If `ratio` is out of range.

    Examples
    --------
    >>> layer, x = Dropout(0.5), np.ones(1000)
    >>> layer.forward(x) is x
    True
    >>> layer.training = True
    >>> np.unique(layer.forward(x)).tolist()
    [0.0, 2.0]
    """

    formula = "y = x keep / (1 - r)"
    pointwise = True

    def __init__(self, ratio: float = 0.5) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio: expected a number in [0, 1), got {ratio}")
        self.ratio = ratio
        self.rng = np.random.default_rng(0)

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        self.rng = rng  # the network's own: its state is saved with the weights

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        self.cache = None
        if not self.training:
            return x
        y, self.cache = dropout_forward(
            x, self.ratio, int(self.rng.integers(2**63)), self.first
        )
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (dy if self.cache is None else dropout_backward(dy, self.cache),)
