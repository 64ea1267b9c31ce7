"""Layer types that bring many entries to few: sums, maxima, inner products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Declaration, Grads, Layer, layer_type
from segaware_np.xp import Array, array_module, long_sum


@layer_type("InnerProduct")
class InnerProduct(Layer):
    def configure(self) -> None:
        self.param = self.spec.inner_product_param
        if self.param.num_output < 1:
            raise self.error(f"num_output: expected at least 1, got {self.param.num_output}")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x = bottoms[0]
        return [(*x[: self.axis(self.param.axis, len(x))], self.param.num_output)]

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        x, outputs = bottoms[0], self.param.num_output
        inputs = prod(x[self.axis(self.param.axis, len(x)) :])
        shape = (inputs, outputs) if self.param.transpose else (outputs, inputs)
        out = [Declaration(shape, self.param.weight_filler)]
        return out + [Declaration((outputs,), self.param.bias_filler)] * self.param.bias_term

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x = bottoms[0]
        shape = self.shapes(x.shape)[0]
        weight = self.params[0].data
        matrix = weight if self.param.transpose else weight.T
        rows = x.reshape(prod(shape[:-1]), len(matrix))
        y = rows @ matrix
        if self.param.bias_term:
            y += self.params[1].data
        return [y.reshape(shape)], (rows, matrix, x.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        rows, matrix, shape = cache
        dy = dtops[0].reshape(len(rows), matrix.shape[1])  # type: ignore[union-attr]
        dweight = rows.T @ dy if self.param.transpose else dy.T @ rows
        dbias = long_sum(dy, (0,)).astype(dy.dtype)
        return [(dy @ matrix.T).reshape(shape)], [dweight, dbias][: len(self.params)]


@layer_type("ChannelReduce")
class ChannelReduce(Layer):
    """Sum or maximum over groups of neighbouring channels."""

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, h, w = self.image(bottoms[0])
        left = self.spec.channel_reduce_param.num_channels
        if left < 1 or c < 1 or c % left:
            raise self.error(f"{c} channels cannot be reduced to {left}")
        return [(n, left, h, w)]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        n, c, h, w = bottoms[0].shape
        left = self.spec.channel_reduce_param.num_channels
        x = bottoms[0].reshape(n, left, c // left, h, w)
        if self.spec.channel_reduce_param.operation == "SUM":
            return [x.sum(2)], (x.shape, None)
        return [x.max(2)], (x.shape, x.argmax(2))  # the first of several maxima

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dy: Any = dtops[0]
        (n, left, members, h, w), winner = cache
        xp = array_module(dy)
        dx = xp.broadcast_to(dy[:, :, None], (n, left, members, h, w))
        if winner is not None:
            dx = dx * (winner[:, :, None] == xp.arange(members)[:, None, None])
        return [dx.reshape(n, left * members, h, w)], []


@layer_type("Reduction")
class Reduction(Layer):
    """Sum, sum of magnitudes or squares, or mean over the last axes, times a factor."""

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x = bottoms[0]
        return [x[: self._axis(len(x))]]

    def _axis(self, ndim: int) -> int:
        return self.axis(self.spec.reduction_param.axis, ndim) if ndim else 0

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, param = bottoms[0], self.spec.reduction_param
        axis, terms = self._axis(x.ndim), x
        if param.operation == "ASUM":
            terms = x * array_module(x).sign(x.real)
        elif param.operation == "SUMSQ":
            terms = x * x
        divisor = max(prod(x.shape[axis:]), 1) if param.operation == "MEAN" else 1
        factor = x.dtype.type(param.coeff / divisor)
        return [long_sum(terms, tuple(range(axis, x.ndim))).astype(x.dtype) * factor], (x, factor)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (x, factor), dy = cache, dtops[0]
        xp, operation = array_module(x), self.spec.reduction_param.operation
        dx = xp.empty_like(x)
        dx[...] = (dy * factor).reshape(*dy.shape, *(1,) * (x.ndim - dy.ndim))  # type: ignore[union-attr]
        if operation == "ASUM":
            dx *= xp.sign(x.real)
        elif operation == "SUMSQ":
            dx *= 2 * x
        return [dx], []


@layer_type("ArgMax")
class ArgMax(Layer):
    """Indices, or values, of the largest entries; of equal ones the last comes first.

    Along an axis, which then has ``top_k`` entries; without one over all that belongs to a sample,
    with the result (N, 1, top_k), or (N, 2, top_k) of indices and values.
    """

    stops = True

    def configure(self) -> None:
        self.param = self.spec.argmax_param
        self.along = "axis" in self.param

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x, k = bottoms[0], self.param.top_k
        axis = self.axis(self.param.axis, len(x)) if self.along else 0
        count = x[axis] if self.along else prod(x[1:])
        if not 1 <= k <= count or not x:
            raise self.error(f"top_k: expected 1 to {count}, got {k}")
        if self.along:
            return [(*x[:axis], k, *x[axis + 1 :])]
        return [(x[0], 1 + self.param.out_max_val, k, *(1,) * (len(x) - 3))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        axis = self.axis(self.param.axis, x.ndim) if self.along else -1
        rows = xp.moveaxis(x, axis, -1) if self.along else x.reshape(len(x), prod(x.shape[1:]))
        places = _largest(rows, self.param.top_k)
        values = xp.take_along_axis(rows, places, -1)
        places = places.astype(x.dtype)
        if self.along:
            return [xp.moveaxis(values if self.param.out_max_val else places, -1, axis)], None
        both = [places, values] if self.param.out_max_val else [places]
        return [xp.stack(both, 1).reshape(self.shapes(x.shape)[0])], None


def _largest(x: Array, count: int) -> Array:
    """Where along the last axis the largest entries are; of equal ones the last is first."""
    if count == 1:
        return x.shape[-1] - 1 - x[..., ::-1].argmax(-1)[..., None]
    return array_module(x).argsort(x, -1, kind="stable")[..., ::-1][..., :count]
