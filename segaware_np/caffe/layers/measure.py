"""Layer types that measure how good predictions are, with the authors' conventions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Layer, layer_type
from segaware_np.xp import Array, array_module


@layer_type("SegAccuracy")
class SegAccuracy(Layer):
    """Pixel accuracy, mean recall over the classes that are there, mean IoU over all classes.

    A class that is neither there nor predicted has IoU 1, and of equal scores the highest class
    wins: the authors' conventions (`metrics` has the usual ones).
    """

    bottoms, stops = (2, 2), True

    def configure(self) -> None:
        self.ignored = self.spec.seg_accuracy_param.ignore_label
        self.confusion: np.ndarray | None = None

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, classes, *size = self.image(bottoms[0])
        if bottoms[1] != (n, 1, *size) or not classes:
            raise self.error(f"labels {bottoms[1]} do not match scores {bottoms[0]}")
        return [(1, 1, 1, 3)]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        xp = array_module(*bottoms)
        score, labels = bottoms[0], bottoms[1][:, 0].astype(np.int64)
        classes = score.shape[1]
        predicted = classes - 1 - score[:, ::-1].argmax(1)
        valid = ~xp.isin(labels, xp.asarray(self.ignored or [-1]))
        labels, predicted = labels[valid], predicted[valid]
        if not bool(((labels >= 0) & (labels < classes)).all()):
            raise ValueError(f"layer {self.name!r}: a label is neither a class nor ignored")
        counts = xp.bincount(labels * classes + predicted, minlength=classes**2)
        confusion = (counts if xp is np else counts.get()).reshape(classes, classes)
        if self.confusion is not None and not self.spec.seg_accuracy_param.reset:
            confusion = confusion + self.confusion
        self.confusion = confusion
        return [xp.asarray(_scores(confusion), score.dtype).reshape(1, 1, 1, 3)], None


def _scores(confusion: np.ndarray) -> list[float]:
    hits, there, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union = there + said - hits
    recall = [h / t for h, t in zip(hits, there, strict=True) if t]
    iou = [h / u if u else 1.0 for h, u in zip(hits, union, strict=True)]
    accuracy = hits.sum() / max(confusion.sum(), 1)
    return [accuracy, float(np.mean(recall or [0])), float(np.mean(iou))]


@layer_type("Accuracy")
class Accuracy(Layer):
    """Share of predictions whose label is among the ``top_k`` highest scores.

    Of equal scores the later class counts as the higher. A second top holds the share of each
    class by itself, 0 for those that are not there.
    """

    bottoms, tops, stops = (2, 2), (1, 2), True

    def configure(self) -> None:
        self.param = self.options()
        if self.param.top_k < 1:
            raise self.error(f"top_k: expected at least 1, got {self.param.top_k}")

    def options(self) -> Message:
        return self.spec.accuracy_param

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        score, labels = bottoms
        axis = self.axis(self.param.axis, len(score))
        if prod(labels) * score[axis] != prod(score) or not score[axis]:
            raise self.error(f"labels {labels} are not one for each prediction of {score}")
        return [(), (score[axis],)][: len(self.spec.top)]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        param, xp = self.param, array_module(*bottoms)
        score = xp.moveaxis(bottoms[0], self.axis(param.axis, bottoms[0].ndim), 0)
        classes = xp.arange(len(score)).reshape(-1, *(1,) * (score.ndim - 1))
        labels = bottoms[1].reshape(score.shape[1:]).astype(np.int64)
        counted = xp.ones(labels.shape, bool)
        if "ignore_label" in param:
            counted = labels != param.ignore_label
        known = (labels >= 0) & (labels < len(score))  # no prediction is right about others
        own = xp.take_along_axis(score, xp.where(known, labels, 0)[None], 0)
        above = (score > own) | ((score == own) & (classes > labels))
        right = counted & known & (above.sum(0) < param.top_k)
        belongs = (classes == labels) & counted
        over = tuple(range(1, score.ndim))
        shares = [right.sum() / xp.maximum(counted.sum(), 1),
                  (belongs & right).sum(over) / xp.maximum(belongs.sum(over), 1)]
        return [xp.asarray(s, score.dtype) for s in shares[: len(self.spec.top)]], None


@layer_type("EltwiseAccuracy")
class EltwiseAccuracy(Accuracy):
    """DeconvNet's name for the share over pixels."""

    tops = (1, 1)

    def options(self) -> Message:
        return self.spec.eltwise_accuracy_param
