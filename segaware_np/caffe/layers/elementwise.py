"""Layer types that combine blobs entry by entry: sums, products, scales, biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segaware_np import ops
from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Declaration, Grads, Layer, layer_type
from segaware_np.ops.scale import scale_backward, scale_forward
from segaware_np.xp import Array, array_module


@layer_type("Eltwise")
class Eltwise(Layer):
    bottoms = (2, 1000)

    def configure(self) -> None:
        param = self.spec.eltwise_param
        self.operation, self.coeff = param.operation, param.coeff
        if self.coeff and self.operation != "SUM":
            raise self.error("coeff goes with SUM alone")
        if self.coeff and len(self.coeff) != len(self.spec.bottom):
            raise self.error(f"expected a coeff for each of {len(self.spec.bottom)} bottoms")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if len(set(bottoms)) > 1:
            raise self.error(f"the bottoms differ in shape: {', '.join(map(str, bottoms))}")
        return [bottoms[0]]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        cache: Any
        if self.operation == "MAX":
            y, cache = ops.maximum_forward(*bottoms)
        elif self.operation == "PROD":
            y, cache = ops.product_forward(*bottoms)
            if not self.spec.eltwise_param.stable_prod_grad:
                return [y], (y, bottoms)
        else:
            y, cache = self._scaled(bottoms[0], 0), None
            y = y.copy() if y is bottoms[0] else y
            for i, x in enumerate(bottoms[1:], start=1):
                y += self._scaled(x, i)
        return [y], cache

    def _scaled(self, x: Array, i: int) -> Array:
        return x * x.dtype.type(self.coeff[i]) if self.coeff and self.coeff[i] != 1 else x

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dy: Any = dtops[0]
        if self.operation == "SUM":
            return [self._scaled(dy, i) for i in range(len(need))], []
        if self.operation == "MAX":
            return ops.maximum_backward(dy, cache), []
        if self.spec.eltwise_param.stable_prod_grad:
            return ops.product_backward(dy, cache), []
        y, factors = cache
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN at 0, as it was asked for
            return [dy * (y / x) for x in factors], []


@layer_type("SpatialProduct")
class SpatialProduct(Layer):
    """Every channel of the first bottom times the one channel of the second."""

    bottoms = (2, 2)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        a, b = bottoms
        if b != (*a[:1], 1, *a[2:]):
            raise self.error(f"expected a second bottom {(*a[:1], 1, *a[2:])}, got {b}")
        return [a]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        return [bottoms[0] * bottoms[1]], bottoms

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        a, b = cache
        return [dtops[0] * b, (dtops[0] * a).sum(1, keepdims=True)], []


@layer_type("Axpy")
class Axpy(Layer):
    """SENet's ``y = a x + b``: a factor for each channel of each sample, (N, C, 1, 1)."""

    bottoms = (3, 3)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        a, x, b = bottoms
        if x != b or a not in ((*self.image(x, "second bottom")[:2], 1, 1), x[:2]):
            raise self.error(f"expected bottoms (N, C, 1, 1), (N, C, H, W) twice, got {a}, {x} "
                             f"and {b}")
        return [x]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        a, x, b = bottoms
        return [a.reshape(*x.shape[:2], 1, 1) * x + b], (a, x)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (a, x), dy = cache, dtops[0]
        da = (dy * x).sum((2, 3)).reshape(a.shape)
        return [da, dy * a.reshape(*x.shape[:2], 1, 1), dy], []


@layer_type("Scale")
class Scale(Layer):
    """A learned factor and perhaps a summand; with two bottoms the second is the factor."""

    bottoms = (1, 2)

    def configure(self) -> None:
        self.param = self.spec.scale_param
        self.learns_factor = len(self.spec.bottom) == 1
        self.bias = self.param.bias_term

    def _place(self, bottoms: Sequence[Shape]) -> tuple[int, Shape]:
        """First axis, and shape, of the factor."""
        x = bottoms[0]
        if len(bottoms) == 2:
            shape = bottoms[1]
        elif self.param.num_axes == 0:
            shape = ()
        else:
            start = self.axis(self.param.axis, len(x))
            stop = len(x) if self.param.num_axes == -1 else start + self.param.num_axes
            shape = x[start:stop]
        axis = self.axis(self.param.axis, len(x)) if shape else 0
        if x[axis : axis + len(shape)] != shape:
            raise self.error(f"a factor of shape {shape} does not fit {x} from axis {axis} on")
        return axis, shape

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        self._place(bottoms)
        return [bottoms[0]]

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        _, shape = self._place(bottoms)
        one = self.param.filler if "filler" in self.param else np.ones
        out = [Declaration(shape, one)] if self.learns_factor else []
        return out + [Declaration(shape, self.param.bias_filler)] * self.bias

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        arrays = [p.data for p in self.params]
        factor = arrays[0] if self.learns_factor else bottoms[1]
        axis, _ = self._place([b.shape for b in bottoms])
        y, cache = scale_forward(bottoms[0], factor, arrays[-1] if self.bias else None, axis)
        learned = not self.learns_factor or self.params[0].wanted
        return [y], cache if learned else cache._replace(x=None)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        names = ["scale"] * self.learns_factor + ["bias"] * self.bias
        wanted = self.wanted(*names) | ({"x"} if need[0] else set())
        if not self.learns_factor and need[1]:
            wanted.add("scale")
        dx, dscale, dbias = scale_backward(dtops[0], cache, wanted)
        dparams = [dscale] * self.learns_factor + [dbias] * self.bias
        return ([dx] if self.learns_factor else [dx, dscale]), dparams


@layer_type("Bias")
class Bias(Scale):
    """A learned summand; with two bottoms the second is the summand."""

    def configure(self) -> None:
        self.param = self.spec.bias_param
        self.learns_factor = False
        self.bias = len(self.spec.bottom) == 1

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        return [Declaration(self._place(bottoms)[1], self.param.filler)] * self.bias

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        summand = self.params[0].data if self.bias else bottoms[1]
        axis, _ = self._place([b.shape for b in bottoms])
        y, cache = scale_forward(bottoms[0], None, summand, axis)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dx, _, dbias = scale_backward(dtops[0], cache, {"x", "bias"})
        return ([dx], [dbias]) if self.bias else ([dx, dbias], [])


@layer_type("BiasChannel")
class BiasChannel(Layer):
    """DeepLab's help for labelled classes: their scores gain ``fg_bias``, class 0 ``bg_bias``.

    The second bottom holds the labels of an image, (N, K, 1, 1), and their classes gain in all
    pixels; with ``label_type: PIXEL`` one for each pixel, (N, 1, H, W), whose class gains there.
    """

    bottoms = (2, 2)

    def configure(self) -> None:
        self.param = self.spec.bias_channel_param
        if min(self.param.bg_bias, self.param.fg_bias) < 0:
            raise self.error("bg_bias and fg_bias: expected at least 0")
        self.pixels = self.param.label_type == "PIXEL"

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, classes, h, w = self.image(bottoms[0])
        labels = bottoms[1]
        if not classes:
            raise self.error(f"there are no classes in {bottoms[0]}")
        fits = labels == (n, 1, h, w) if self.pixels else (
            len(labels) > 1 and labels[0] == n and all(side == 1 for side in labels[2:]))
        if not fits:
            raise self.error(f"labels {labels} do not match scores {bottoms[0]}")
        return [bottoms[0]]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(*bottoms)
        labels, classes = bottoms[1].real.astype(np.int64), x.shape[1]
        valid = ~xp.isin(labels, xp.asarray([-1, *self.param.ignore_label]))
        if not bool((~valid | ((labels >= 0) & (labels < classes))).all()):
            raise ValueError(f"layer {self.name!r}: a label is not one of {classes} classes")
        bias = xp.where(labels == 0, self.param.bg_bias, self.param.fg_bias) * valid
        if self.pixels:
            chosen = xp.arange(classes).reshape(1, -1, 1, 1) == labels
            return [x + (chosen * bias).astype(x.dtype)], None
        each = (len(x), labels.shape[1], 1)
        chosen = xp.arange(classes) == labels.reshape(each)
        gain = (chosen * bias.reshape(each)).sum(1)
        return [x + gain.astype(x.dtype).reshape(len(x), classes, 1, 1)], None

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0], None], []
