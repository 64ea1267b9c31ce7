"""Losses, with the conventions of Caffe and of the authors' fork."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.wire import read_blob
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

_LEAST = 1e-20  # the smallest probability that a logarithm is taken of, Caffe's
_NORMALIZE = {"FULL": "full", "VALID": "valid", "BATCH_SIZE": "batch", "NONE": "none"}


class _OverClasses(Layer):
    """A layer that treats one axis as classes; the operations want it second."""

    @property
    def class_axis(self) -> int:
        return self.spec.softmax_param.axis

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        score = bottoms[0]
        if not score[self.axis(self.class_axis, len(score))]:
            raise self.error(f"there are no classes in {score}")
        return [score]

    def _classes_second(self, x: Array) -> Array:
        """View with the axes ``(before, classes, behind)``."""
        axis = self.axis(self.class_axis, x.ndim)
        shape = x.shape
        return x.reshape(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))


def checked_labels(layer: Layer, labels: Array, classes: int) -> Array:
    """Labels as integers; raises ValueError if one is not a class."""
    whole = labels.real.astype(np.int64)
    if not bool(((whole >= 0) & (whole < classes)).all()):
        raise ValueError(f"layer {layer.name!r}: a label is not one of {classes} classes")
    return whole


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
        self.weighs_count = self.weights is not None
        if param.weight_by_label_freqs:
            if self.weights is not None or not all(w >= 0 for w in param.class_weighting):
                raise self.error("class_weighting: expected numbers of at least 0, and no "
                                 "weight_source")
            self.weights = np.array(param.class_weighting)
            self.note("class_weighting, SegNet's: the loss is divided by the number of pixels, not "
                      "by their weights as with weight_source")

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
        if self.normalize == "valid" and self.weighs_count:
            count = xp.maximum(weight.sum(), 1)
        chosen = xp.take_along_axis(p, index[:, None], 1)[:, 0]
        nll = -xp.log(xp.maximum(chosen, xp.finfo(np.float32).tiny))
        loss = (xp.where(weight == 0, 0, weight * nll).sum(dtype="f8") / count).astype(p.dtype)
        return loss, CrossEntropyCache(p, labels, weight, count)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        inner, shape = cache
        return [softmax_cross_entropy_backward(dtops[0], inner).reshape(shape), None], []


@layer_type("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Layer):
    """``L = -sum log p[label] / N``; probabilities below 1e-20 count as that."""

    bottoms, loss = (2, 2), True

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if not prod(bottoms[0][1:]) or prod(bottoms[1]) != bottoms[0][0]:
            raise self.error(f"labels {bottoms[1]} are not one for each sample of {bottoms[0]}")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        p, xp = bottoms[0], array_module(*bottoms)
        rows = p.reshape(len(p), prod(p.shape[1:]))
        labels = checked_labels(self, bottoms[1], rows.shape[1]).reshape(-1, 1)
        chosen = xp.take_along_axis(rows, labels, 1)
        safe = xp.where(chosen.real < _LEAST, p.dtype.type(_LEAST), chosen)
        n = max(len(p), 1)
        slope = xp.where(xp.arange(rows.shape[1]) == labels, -1 / safe / n, p.dtype.type(0))
        return [-xp.log(safe).sum() / n], slope.reshape(p.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [cache * dtops[0], None], []


@layer_type("InfogainLoss")
class InfogainLoss(_OverClasses):
    """``L = -sum_k H[label, k] log p_k / count``, p the softmax; H a third bottom or a file."""

    bottoms, tops, loss = (2, 3), (1, 2), True

    def configure(self) -> None:
        self.ignore, self.normalize = loss_options(self, "VALID")
        self.matrix = None
        if len(self.spec.bottom) < 3:
            if "source" not in self.spec.infogain_loss_param:
                raise self.error("expected a third bottom, or the source of the infogain matrix")
            self.matrix = read_blob(self.spec.infogain_loss_param.source)

    @property
    def class_axis(self) -> int:
        return self.spec.infogain_loss_param.axis

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        score, labels, *matrix = bottoms
        super().shapes(score)
        classes = score[self.axis(self.class_axis, len(score))]
        if prod(labels) * classes != prod(score):
            raise self.error(f"labels {labels} are not one for each prediction of {score}")
        shape = matrix[0] if matrix else self.matrix.shape  # type: ignore[union-attr]
        if prod(shape) != classes**2:
            raise self.error(f"an infogain matrix {shape} for {classes} classes")
        return [(), score][: max(1, len(self.spec.top))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        score, xp = self._classes_second(bottoms[0]), array_module(*bottoms)
        n, classes, pixels = score.shape
        labels = bottoms[1].real.reshape(n, pixels).astype(np.int64)
        valid = labels == labels if self.ignore is None else labels != self.ignore
        labels = checked_labels(self, xp.where(valid, labels, 0), classes)
        matrix = xp.asarray(bottoms[2] if len(bottoms) > 2 else self.matrix, score.dtype)
        gains = matrix.reshape(classes, classes)[labels].transpose(0, 2, 1) * valid[:, None]
        p, _ = softmax_forward(score)
        counts = {"full": n * pixels, "batch": n, "none": 1, "valid": valid.sum()}
        count = xp.maximum(counts[self.normalize], 1)
        safe = xp.where(p.real < _LEAST, p.dtype.type(_LEAST), p)
        loss = (-(gains * xp.log(safe)).sum() / count).astype(p.dtype)
        slope = ((p * gains.sum(1, keepdims=True) - gains) / count).astype(p.dtype)
        shape = bottoms[0].shape
        tops = [loss, p.reshape(shape)]
        return tops[: max(1, len(self.spec.top))], slope.reshape(shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [cache * dtops[0], *[None] * (len(need) - 1)], []


@layer_type("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """``L = sum d^2 / (2 N)`` over alike pairs, with ``max(0, m - d)^2`` for the others.

    d is the distance of the first two bottoms, m the margin, and the third tells what is alike
    (not 0). ``legacy_version`` has ``max(0, m - d^2)``. As Caffe's, the gradient of others divides
    by ``d + 1e-4`` where it should by d.
    """

    bottoms, loss = (3, 3), True

    def configure(self) -> None:
        param = self.spec.contrastive_loss_param
        self.margin, self.legacy = param.margin, param.legacy_version

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        a, b, alike = bottoms
        if a != b or not a or prod(alike) != a[0] or prod(a[2:]) != 1:
            raise self.error(f"expected two bottoms (N, C) and one (N,), got {a}, {b} and {alike}")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        a, b, alike = bottoms
        xp, n = array_module(a), max(len(a), 1)
        difference = (a - b).reshape(len(a), prod(a.shape[1:]))
        same = alike.real.reshape(-1, 1).astype(np.int64) != 0
        square = (difference * difference).sum(1, keepdims=True)
        distance = xp.sqrt(square)
        gap = self.margin - (square if self.legacy else distance)
        gap = gap * (gap.real > 0)
        loss = xp.where(same, square, gap if self.legacy else gap * gap).sum() / (2 * n)
        other = (gap.real > 0) * xp.ones_like(gap) if self.legacy else gap / (distance + 1e-4)
        slope = difference * xp.where(same, 1, -other) / n
        return [loss], slope.reshape(a.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        da: Any = cache * dtops[0]
        return [da, -da, None], []


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

    In the Caffes of HED and RCF, whose networks read `ImageLabelmapData`, edges (1) and background
    (0) of a picture each count by the other's share, RCF's background 1.1 times; what is between
    does not count.
    """

    bottoms, loss = (2, 2), True

    def configure(self) -> None:
        self.ignore, self.normalize = loss_options(self, "BATCH_SIZE")
        if self.context.edges:
            self.note("edges and background count by each other's share, as "
                      f"{self.context.edges}'s")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        if prod(bottoms[0]) != prod(bottoms[1]) or not bottoms[0]:
            raise self.error(f"scores {bottoms[0]} and targets {bottoms[1]} differ in size")
        return [()]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(bottoms[0])
        targets = bottoms[1].reshape(x.shape)
        valid, weights = self._weights(targets)
        counts = {"full": x.size, "batch": len(x), "none": 1, "valid": valid.sum()}
        count = xp.maximum(counts[self.normalize], 1)
        positive = x.real > 0
        away = xp.where(positive, -x, x)  # so that exp cannot overflow
        terms = x * (targets - positive) - xp.log1p(xp.exp(away))
        total = long_sum(xp.where(valid, weights * terms, 0))
        return [(-total / count).astype(x.dtype)], (x, targets, valid, weights, count)

    def _weights(self, targets: Array) -> tuple[Array, Array | int]:
        """Which entries count, and how much."""
        xp = array_module(targets)
        if self.context.edges is None:
            valid = xp.ones(targets.shape, bool) if self.ignore is None else targets != self.ignore
            return valid, 1
        edges, others = targets == 1, targets == 0
        counts = [part.sum(tuple(range(1, part.ndim)), keepdims=True) for part in (edges, others)]
        background = 1.1 if self.context.edges == "RCF" else 1.0
        weights = xp.where(edges, counts[1], background * counts[0]) / xp.maximum(sum(counts), 1)
        return edges | others, weights.astype(targets.dtype)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        x, targets, valid, weights, count = cache
        dx = array_module(x).where(valid, weights * (sigmoid(x) - targets), x.dtype.type(0))
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
        rows = x.reshape(len(x), prod(x.shape[1:]))
        labels = checked_labels(self, bottoms[1], rows.shape[1]).reshape(-1, 1)
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
