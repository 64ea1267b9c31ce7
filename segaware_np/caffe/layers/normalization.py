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
from segaware_np.ops.scale import scale_backward, scale_forward
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
        shapes: list[Shape] = [(channels,), (channels,), (1,)]
        return [Declaration(shape, np.zeros, learned=False) for shape in shapes]

    def draw(self, rng: np.random.Generator) -> None:
        """Statistics as of entries that need no normalisation."""
        for blob, value in zip(self.params, (0, 1, 1), strict=True):
            blob.data[...] = value

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


@layer_type("BN")
class BN(Layer):
    """Normalisation with a learned factor and summand, of two kinds under one name.

    SegNet's and DeconvNet's (``scale_filler``, ``shift_filler``, ``bn_mode``) has those two
    parameters. LEARN normalises with the statistics of the batch, in both phases, and gives mean
    and variance as further tops; INFERENCE does not normalise: the statistics of training are
    folded into factor and summand.

    PSPNet's (``slope_filler``, ``bias_filler``, ``momentum``, ``eps``, ``frozen``) has running
    mean and variance as a third and fourth parameter, used in phase TEST and where it is frozen.
    """

    tops = (1, 3)

    def configure(self) -> None:
        param = self.param = self.spec.bn_param
        segnet, pspnet = (any(name in param for name in names) for names in _BN_FIELDS)
        if segnet == pspnet:
            segnet = self._by_number(segnet)
        self.running = not segnet
        self.note("PSPNet's: slope, bias, running mean and variance" if self.running
                  else "SegNet's: scale and shift; in mode LEARN the statistics of the batch")
        if self.running and len(self.spec.top) > 1:
            raise self.error("statistics as tops go with SegNet's BN")
        self.stored = self.running and (param.frozen or self.phase == "TEST")
        self.plain = not self.running and param.bn_mode == "INFERENCE"
        self.eps = param.eps if self.running else 1e-9
        if not (0 <= param.momentum <= 1 and self.eps >= 0):
            raise self.error("momentum and eps: expected 0 to 1 and at least 0")

    def _by_number(self, both: bool) -> bool:
        """Whether it is SegNet's where the fields do not tell, by how many param there are."""
        count = len(self.spec.param)
        if both or count in (0, 1):
            raise self.error("bn_param: SegNet's (scale_filler, shift_filler, bn_mode) or PSPNet's "
                             "(slope_filler, bias_filler, momentum, eps, frozen)? Write the fields "
                             "of one of them, as bn_mode: LEARN or frozen: false")
        return count == 2

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        _, c, *_ = shape = self.image(bottoms[0])
        if not (self.stored or self.plain or prod(shape)):
            raise self.error(f"there are no statistics of a batch {shape}")
        shapes: list[Shape] = [shape, (1, c, 1, 1), (1, c, 1, 1)]
        return shapes[: len(self.spec.top)]

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        shape, param = (1, bottoms[0][1], 1, 1), self.param
        if not self.running:
            return [Declaration(shape, param.scale_filler), Declaration(shape, param.shift_filler)]
        fixed = param.frozen
        variance = np.ones if fixed else np.zeros
        return [Declaration(shape, param.slope_filler, learned=not fixed),
                Declaration(shape, param.bias_filler, learned=not fixed),
                Declaration(shape, np.zeros, learned=False),
                Declaration(shape, variance, learned=False)]

    def draw(self, rng: np.random.Generator) -> None:
        """Factors of 1 and statistics as of entries that need no normalisation."""
        for blob, value in zip(self.params, (1, 0, 0, 1), strict=False):
            if not blob.data.any():
                blob.data[...] = value

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        factor, summand, *running = (p.data.reshape(-1).astype(x.dtype, copy=False)
                                     for p in self.params)
        mean = variance = inner = None
        y = x
        if not self.plain:
            mean, variance = running if self.stored else batch_statistics(x)
            given = (mean, variance) if self.stored else (None, None)
            y, inner = batch_norm_forward(x, given[0], given[1], self.eps)
        if self.running and not self.stored:
            self._follow(mean, variance)
        y, outer = scale_forward(y, factor, summand)
        zero = xp.zeros_like(factor)
        told = [(zero if a is None else a).reshape(1, -1, 1, 1) for a in (mean, variance)]
        return [y, *told][: len(self.spec.top)], (inner, outer)

    def _follow(self, *values: Array) -> None:
        """Move the running statistics towards those of the batch."""
        for blob, value in zip(self.params[2:], values, strict=True):
            keep = blob.data.dtype.type(self.param.momentum)
            blob.data[...] = keep * blob.data + (1 - keep) * value.real.reshape(blob.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        inner, outer = cache
        dx, *dparams = scale_backward(dtops[0], outer)
        if inner is not None:
            dx = batch_norm_backward(dx, inner)
        dparams = [d.reshape(1, -1, 1, 1) for d in dparams if d is not None]
        return [dx], [*dparams, *[None] * (len(self.params) - 2)]


_BN_FIELDS = (("scale_filler", "shift_filler", "bn_mode"),
              ("slope_filler", "bias_filler", "momentum", "eps", "frozen"))


@layer_type("MVN")
class MVN(Layer):
    """``y = (x - mean) / (deviation + eps)``: of each channel, or of all together, of a sample."""

    def configure(self) -> None:
        self.param = self.spec.mvn_param

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if not prod(self.image(bottoms[0])):
            raise self.error(f"there are no statistics of {bottoms[0]}")
        return [bottoms[0]]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x = bottoms[0]
        axes = (1, 2, 3) if self.param.across_channels else (2, 3)
        y = x - x.mean(axes, keepdims=True)
        if not self.param.normalize_variance:
            return [y], (axes, None, None, None)
        deviation = array_module(x).sqrt((y * y).mean(axes, keepdims=True))
        divisor = deviation + x.dtype.type(self.param.eps)
        return [y / divisor], (axes, y, deviation, divisor)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        """``dx = C(dy / s - z mean(dy z) / (s^2 d))``; z centred, d deviation, s = d + eps."""
        (axes, centred, deviation, divisor), dx = cache, dtops[0]
        if centred is not None:
            slope = (dx * centred).mean(axes, keepdims=True)  # type: ignore[operator]
            safe = deviation + (deviation == 0)  # where all is one value, all slopes are 0
            dx = dx / divisor - centred * (slope / (divisor * divisor * safe))  # type: ignore[operator]
        return [dx - dx.mean(axes, keepdims=True)], []  # type: ignore[union-attr, operator]


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
