"""Layer types that treat every entry by itself: rectifiers, powers, squashes, dropout."""

from __future__ import annotations

from collections.abc import Sequence
from math import e, inf, log
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Declaration, Grads, Layer, layer_type
from segaware_np.ops import elementwise as ops
from segaware_np.ops.dropout import dropout_backward, dropout_forward
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.xp import Array, array_module, long_sum


@layer_type("AbsVal")
class AbsVal(Layer):
    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        y, cache = ops.absolute_forward(bottoms[0])
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [ops.absolute_backward(dtops[0], cache)], []


@layer_type("Exp")
class Exp(Layer):
    def configure(self) -> None:
        self.base = _base(self, self.spec.exp_param)
        if self.spec.exp_param.shift * log(self.base) > 700:
            raise self.error("base to the power of shift is beyond all numbers")

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        param = self.spec.exp_param
        y, cache = ops.exponential_forward(bottoms[0], self.base, param.scale, param.shift)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [ops.exponential_backward(dtops[0], cache)], []


@layer_type("Log")
class Log(Layer):
    """``y = log_base(shift + scale x)``"""

    def configure(self) -> None:
        base = _base(self, self.spec.log_param)
        if base == 1:
            raise self.error("base: there is no logarithm to the base 1")
        self.rate = 1 / log(base)

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        param = self.spec.log_param
        inner = param.shift + param.scale * bottoms[0]
        return [self.rate * array_module(inner).log(inner)], inner

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] * (self.rate * self.spec.log_param.scale / cache)], []


@layer_type("Power")
class Power(Layer):
    cheap = True

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        param = self.spec.power_param
        y, cache = ops.power_forward(bottoms[0], param.power, param.scale, param.shift)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [ops.power_backward(dtops[0], cache)], []


@layer_type("ReLU")
class ReLU(Layer):
    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, slope = bottoms[0], self.spec.relu_param.negative_slope
        if not slope:
            y, cache = relu_forward(x)
            return [y], cache
        positive = x > 0
        return [array_module(x).where(positive, x, x * x.dtype.type(slope))], positive

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dy, slope = dtops[0], self.spec.relu_param.negative_slope
        if not slope:
            return [relu_backward(dy, cache)], []
        return [array_module(dy).where(cache, dy, dy * dy.dtype.type(slope))], []  # type: ignore[union-attr]


@layer_type("PReLU")
class PReLU(Layer):
    """``y = x`` where positive, else ``a x``: a learned slope for each channel, or for all."""

    def configure(self) -> None:
        self.shared = self.spec.prelu_param.channel_shared

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        if len(bottoms[0]) < 2:
            raise self.error(f"expected a bottom with channels, got {bottoms[0]}")
        param = self.spec.prelu_param
        initial = param.filler if "filler" in param else _quarter
        return [Declaration(() if self.shared else bottoms[0][1:2], initial)]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, slope = bottoms[0], self.params[0].data
        along = slope if self.shared else slope.reshape(-1, *(1,) * (x.ndim - 2))
        factor = array_module(x).where(x.real > 0, x.dtype.type(1), along)
        return [x * factor], (x, factor)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (x, factor), dy = cache, dtops[0]
        axes = None if self.shared else (0, *range(2, x.ndim))
        return [dy * factor], [long_sum(dy * x * (x.real <= 0), axes).astype(x.dtype)]


@layer_type("ELU")
class ELU(Layer):
    """``y = x`` where positive, else ``alpha (exp(x) - 1)``"""

    def configure(self) -> None:
        self.alpha = self.spec.elu_param.alpha

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        positive = x.real > 0
        y = xp.where(positive, x, self.alpha * xp.expm1(x * ~positive))
        return [y], (positive, y)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        positive, y = cache
        return [dtops[0] * (positive + ~positive * (y + self.alpha))], []


@layer_type("BNLL")
class BNLL(Layer):
    """``y = log(1 + exp(x))``"""

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        away = x * xp.sign(x.real)
        return [x * (x.real > 0) + xp.log1p(xp.exp(-away))], x  # cannot overflow

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] * sigmoid(cache)], []


@layer_type("Sigmoid")
class Sigmoid(Layer):
    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        y = sigmoid(bottoms[0])
        return [y], y

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] * cache * (1 - cache)], []


@layer_type("TanH")
class TanH(Layer):
    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        y = array_module(bottoms[0]).tanh(bottoms[0])
        return [y], y

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] * (1 - cache * cache)], []


@layer_type("Threshold")
class Threshold(Layer):
    """``y = [x > threshold]``"""

    stops = True

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x = bottoms[0]
        return [(x > self.spec.threshold_param.threshold).astype(x.dtype)], None


@layer_type("Dropout")
class Dropout(Layer):
    """With ``sample_weights_test``, Bayesian SegNet's, in phase TEST too."""

    def configure(self) -> None:
        self.ratio = self.spec.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.error(f"dropout_ratio: expected a number in [0, 1), got {self.ratio}")

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        if self.phase == "TEST" and not self.spec.dropout_param.sample_weights_test:
            return bottoms, None
        rng = self.context.rng(self.index, self.context.passes)
        y, cache = dropout_forward(bottoms[0], self.ratio, int(rng.integers(2**63)))
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] if cache is None else dropout_backward(dtops[0], cache)], []


def _quarter(shape: Shape) -> np.ndarray:
    return np.full(shape, 0.25)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow."""
    return (array_module(x).tanh(x / 2) + 1) / 2


def _base(layer: Layer, param: Message) -> float:
    """The base of a logarithm or of a power; -1 stands for e."""
    base = e if param.base == -1 else param.base
    if not 0 < base < inf:
        raise layer.error(f"base: expected a positive number or -1 for e, got {base}")
    return base
