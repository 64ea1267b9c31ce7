"""Losses, with the conventions of Caffe and of the authors' fork."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Grads, Layer, layer_type
from segaware_np.caffe.layers.neuron import sigmoid
from segaware_np.files import read_text
from segaware_np.ops.embedding_loss import embedding_loss_backward, embedding_loss_forward
from segaware_np.ops.softmax import (
    CrossEntropyCache,
    softmax_backward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
    softmax_forward,
)
from segaware_np.xp import Array, array_module, long_sum

_NORMALIZE = {"FULL": "full", "VALID": "valid", "BATCH_SIZE": "batch", "NONE": "none"}


class _OverClasses(Layer):
    """A layer that treats one axis as classes; the operations want it second."""

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        score = bottoms[0]
        if not score[self.axis(self.spec.softmax_param.axis, len(score))]:
            raise self.error(f"there are no classes in {score}")
        return [score]

    def _classes_second(self, x: Array) -> Array:
        """View with the axes ``(before, classes, behind)``."""
        axis = self.axis(self.spec.softmax_param.axis, x.ndim)
        shape = x.shape
        return x.reshape(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))


def loss_options(layer: Layer, default: str) -> tuple[int | None, str]:
    """The ignored label, and what the sum over entries is divided by, of a ``loss_param``."""
    param = layer.spec.loss_param
    mode = param.normalization if "normalization" in param else default
    if "normalize" in param and "normalization" not in param:
        mode = "VALID" if param.normalize else "BATCH_SIZE"
    return param.ignore_label if "ignore_label" in param else None, _NORMALIZE[mode]


@layer_type("Softmax")
class Softmax(_OverClasses):
    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        p, cache = softmax_forward(self._classes_second(bottoms[0]))
        return [p.reshape(bottoms[0].shape)], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dp: Any = dtops[0]
        return [softmax_backward(dp.reshape(cache.shape), cache).reshape(dp.shape)], []


@layer_type("SoftmaxWithLoss")
class SoftmaxWithLoss(_OverClasses):
    bottoms, tops, loss = (2, 2), (1, 2), True

    def configure(self) -> None:
        param = self.spec.loss_param
        self.ignore, self.normalize = loss_options(self, "VALID")
        self.weights = self._read_weights(param.weight_source) if "weight_source" in param else None

    def _read_weights(self, source: str) -> np.ndarray:
        try:
            weights = np.array([float(word) for word in read_text(source).split()])
        except ValueError as error:
            raise self.error(f"weight_source {source}: expected numbers ({error})") from None
        if not len(weights) or not (weights >= 0).all():
            raise self.error(f"weight_source {source}: expected weights of at least 0")
        return weights

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        score, labels = bottoms
        super().shapes(score)
        axis = self.axis(self.spec.softmax_param.axis, len(score))
        if prod(labels) * score[axis] != prod(score):
            raise self.error(f"labels {labels} are not one for each prediction of {score}")
        if self.weights is not None and len(self.weights) != score[axis]:
            raise self.error(f"{len(self.weights)} class weights for {score[axis]} classes")
        return [(), score][: max(1, len(self.spec.top))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        score = self._classes_second(bottoms[0])
        labels = bottoms[1].reshape(score.shape[0], score.shape[2]).astype(np.int32)
        try:
            loss, cache = softmax_cross_entropy_forward(score, labels, self.ignore, self.normalize)
        except ValueError as error:
            raise ValueError(f"layer {self.name!r}: {error}") from None
        if self.weights is not None:
            loss, cache = self._weigh(cache)
        tops = [loss, cache.probability.reshape(bottoms[0].shape)]
        return tops[: max(1, len(self.spec.top))], (cache, bottoms[0].shape)

    def _weigh(self, cache: CrossEntropyCache) -> tuple[Array, CrossEntropyCache]:
        """The same with a weight for each pixel, that of its class."""
        p, labels, valid, count = cache
        xp = array_module(p)
        index = xp.where(valid, labels, 0)
        weight = xp.asarray(self.weights, p.dtype)[index] * valid
        if self.normalize == "valid":
            count = xp.maximum(weight.sum(), 1)
        chosen = xp.take_along_axis(p, index[:, None], 1)[:, 0]
        nll = -xp.log(xp.maximum(chosen, xp.finfo(np.float32).tiny))
        loss = (xp.where(weight == 0, 0, weight * nll).sum(dtype="f8") / count).astype(p.dtype)
        return loss, CrossEntropyCache(p, labels, weight, count)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        inner, shape = cache
        return [softmax_cross_entropy_backward(dtops[0], inner).reshape(shape), None], []


@layer_type("EuclideanLoss")
class EuclideanLoss(Layer):
    """``L = sum (a - b)^2 / (2 N)``"""

    bottoms, loss = (2, 2), True

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if prod(bottoms[0]) != prod(bottoms[1]):
            raise self.error(f"bottoms {bottoms[0]} and {bottoms[1]} differ in size")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        difference = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        n = max(difference.shape[0], 1)
        return [(long_sum(difference * difference) / (2 * n)).astype(difference.dtype)], (
            difference,
            bottoms[1].shape,
        )

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        difference, shape = cache
        da = difference * (dtops[0] / difference.dtype.type(max(difference.shape[0], 1)))
        return [da, -da.reshape(shape)], []


@layer_type("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """``L = -sum (t log p + (1 - t) log(1 - p)) / count``, ``p`` the sigmoid of the first bottom.

    The count is N unless ``loss_param`` says otherwise.
    """

    bottoms, loss = (2, 2), True

    def configure(self) -> None:
        self.ignore, self.normalize = loss_options(self, "BATCH_SIZE")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if prod(bottoms[0]) != prod(bottoms[1]) or not bottoms[0]:
            raise self.error(f"scores {bottoms[0]} and targets {bottoms[1]} differ in size")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        targets = bottoms[1].reshape(x.shape)
        valid = xp.ones(x.shape, bool) if self.ignore is None else targets != self.ignore
        counts = {"full": x.size, "batch": len(x), "none": 1, "valid": valid.sum()}
        count = xp.maximum(counts[self.normalize], 1)
        positive = x.real > 0
        away = xp.where(positive, -x, x)  # so that exp cannot overflow
        terms = x * (targets - positive) - xp.log1p(xp.exp(away))
        total = long_sum(xp.where(valid, terms, 0))
        return [(-total / count).astype(x.dtype)], (x, targets, valid, count)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        x, targets, valid, count = cache
        dx = array_module(x).where(valid, sigmoid(x) - targets, x.dtype.type(0))
        return [dx * (dtops[0] / count).astype(x.dtype), None], []


@layer_type("HingeLoss")
class HingeLoss(Layer):
    """``L = sum h / N`` or ``sum h^2 / N``, ``h = max(0, 1 + x)``; -x for the label's class."""

    bottoms, loss = (2, 2), True

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if not prod(bottoms[0][1:]) or prod(bottoms[1]) != bottoms[0][0]:
            raise self.error(f"labels {bottoms[1]} are not one for each sample of {bottoms[0]}")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(*bottoms)
        rows, labels = x.reshape(len(x), -1), bottoms[1].reshape(-1, 1).astype(np.int64)
        if not bool(((labels >= 0) & (labels < rows.shape[1])).all()):
            raise ValueError(f"layer {self.name!r}: a label is not one of {rows.shape[1]} classes")
        sign = xp.where(xp.arange(rows.shape[1]) == labels, -1, 1).astype(x.dtype)
        hinge = 1 + sign * rows
        hinge = hinge * (hinge.real > 0)
        squared = self.spec.hinge_loss_param.norm == "L2"
        total = long_sum(hinge * hinge if squared else hinge)
        loss = (total / max(len(x), 1)).astype(x.dtype)
        slope = sign * (2 * hinge if squared else hinge.real > 0)
        return [loss], slope.reshape(x.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        loss_weight: Any = dtops[0]
        return [cache * (loss_weight / max(len(cache), 1)), None], []


@layer_type("DistLoss")
class DistLoss(Layer):
    """The authors' loss on embeddings: it reports the linear hinge and returns the gradient of
    the squared one, whatever the loss weight.
    """

    bottoms, loss = (2, 2), True

    def configure(self) -> None:
        param = self.spec.dist_loss_param
        self.alpha, self.beta = param.alpha, param.beta
        self.ignore = param.ignore_label if "ignore_label" in param else None
        if not 0 < self.alpha < self.beta:
            raise self.error(f"expected 0 < alpha < beta, got {self.alpha} and {self.beta}")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if bottoms[0] != bottoms[1]:
            raise self.error(f"distances {bottoms[0]} and parity {bottoms[1]} differ in shape")
        self.image(bottoms[0])
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        distance, parity = bottoms[0], bottoms[1].astype(np.int32)
        same = (parity != 0).astype(np.int32)  # all that is not different is the same
        if self.ignore is not None:
            same = array_module(same).where(parity == self.ignore, np.int32(self.ignore), same)
        loss, cache = embedding_loss_forward(
            distance, same, self.alpha, self.beta, "linear", self.ignore, "all"
        )
        return [loss], cache._replace(hinge="squared")

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [embedding_loss_backward(1, cache), None], []
