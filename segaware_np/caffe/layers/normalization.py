"""Layer types that normalise: by statistics of a batch, by the neighbourhood of an entry."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Declaration, Grads, Layer, fitted, layer_type, make_window
from segaware_np.ops.batch_norm import batch_norm_backward, batch_norm_forward, batch_statistics
from segaware_np.ops.pooling import average_pool_backward, average_pool_forward
from segaware_np.xp import Array, array_module


@layer_type("BatchNorm")
class BatchNorm(Layer):
    """Statistics come as sums with a common divisor: mean sum, variance sum, divisor."""

    def configure(self) -> None:
        param = self.spec.batch_norm_param
        stored = self.phase == "TEST"
        self.stored = param.use_global_stats if "use_global_stats" in param else stored
        if param.update_global_stats and self.stored:
            raise self.error("update_global_stats with use_global_stats is not supported")
        if not (0 <= param.moving_average_fraction <= 1 and param.eps >= 0):
            raise self.error("moving_average_fraction and eps: expected 0 to 1 and at least 0")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise self.error(f"expected a bottom with channels, got {bottoms[0]}")
        if not (self.stored or prod(bottoms[0])):
            raise self.error(f"there are no statistics of a batch {bottoms[0]}")
        return [bottoms[0]]

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        channels = bottoms[0][1]
        return [Declaration(shape, np.zeros) for shape in ((channels,), (channels,), (1,))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, param = bottoms[0], self.spec.batch_norm_param
        mean_sum, variance_sum, divisor = (p.data for p in self.params)
        if self.stored:
            factor = array_module(x).where(divisor == 0, 0, 1 / (divisor + (divisor == 0)))
            factor = factor.astype(x.dtype)
            y, cache = batch_norm_forward(x, mean_sum * factor, variance_sum * factor, param.eps)
            return [y], cache
        mean, variance = batch_statistics(x)
        if self.phase == "TRAIN":
            keep = x.dtype.type(param.moving_average_fraction)
            count = x.size // x.shape[1]
            unbiased = variance * x.dtype.type(count / max(count - 1, 1))
            for total, value in zip((mean_sum, variance_sum, divisor), (mean, unbiased, 1),
                                    strict=True):
                total *= keep
                total += value
        y, cache = batch_norm_forward(x, eps=param.eps)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [batch_norm_backward(dtops[0], cache)], [None, None, None]


@layer_type("LRN")
class LRN(Layer):
    """``y = x s^-beta``, ``s`` growing with the mean square of the entries around.

    Across channels ``s = k + alpha mean x^2`` over ``local_size`` of them; within a channel
    ``s = 1 + alpha mean x^2`` over a square of that side (beyond the image are zeros).
    """

    def configure(self) -> None:
        param = self.param = self.spec.lrn_param
        if param.local_size < 1 or param.local_size % 2 == 0:
            raise self.error(f"local_size: expected an odd number, got {param.local_size}")
        self.across = param.norm_region == "ACROSS_CHANNELS"
        self.window = make_window(self, kernel=param.local_size, pad=param.local_size // 2)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if not self.across:
            fitted(self, self.window, bottoms[0])
        return [self.image(bottoms[0])]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, param = bottoms[0], self.param
        mean, pooling = self._mean(x * x)
        s = (param.k if self.across else 1) + param.alpha * mean
        return [x * s**-param.beta], (x, s, pooling)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        """``dx = s^-beta dy - 2 alpha beta x mean'(dy x s^(-beta - 1))``, mean' the adjoint."""
        x, s, pooling = cache
        dy, beta = dtops[0], self.param.beta
        inner = dy * x * s ** (-beta - 1)
        spread = self._mean(inner)[0] if self.across else average_pool_backward(inner, pooling)
        return [dy * s**-beta - 2 * self.param.alpha * beta * x * spread], []

    def _mean(self, x: Array) -> tuple[Array, Any]:
        """Mean over the neighbourhood, and what its adjoint needs (across channels: itself)."""
        if not self.across:
            return average_pool_forward(x, self.window)
        total = x.copy()
        for step in range(1, min(self.param.local_size // 2 + 1, x.shape[1])):
            total[:, step:] += x[:, :-step]
            total[:, :-step] += x[:, step:]
        return total / self.param.local_size, None
