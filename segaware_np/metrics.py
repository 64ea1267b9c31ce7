"""How well predicted labels agree with true ones: over the image, and near true boundaries."""

from __future__ import annotations

from typing import Any

import numpy as np

from segaware_np.ranges import COUNT, check, warn_of_ignored_class
from segaware_np.xp import check_array


class Confusion:
    """Counts of (true, predicted) label pairs, and the scores that follow from them.

    Parameters
    ----------
    classes : int
        Labels are 0 .. classes - 1.
    ignore_label : int or None
        Pixels with this true label are not counted.

    Attributes
    ----------
    matrix : numpy.ndarray
        (classes, classes) int64; rows are true labels, columns predicted ones.

    Raises
    ------
    TypeError, ValueError
        If `classes` is not a positive integer.

    Warns
    -----
    UserWarning
        If `ignore_label` is 255, as by default, and that is one of the classes.

    Notes
    -----
    Intersection over union as in PASCAL VOC: Everingham et al. (IJCV 88, 2010).

    Examples
    --------
    >>> confusion = Confusion(2)
    >>> confusion.update(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 255]))
    >>> round(confusion.pixel_accuracy, 3), confusion.iou.tolist()
    (0.667, [0.5, 0.5])
    """

    def __init__(self, classes: int, ignore_label: int | None = 255) -> None:
        check("classes", classes, COUNT)
        warn_of_ignored_class(ignore_label, classes)
        self.classes, self.ignore_label = classes, ignore_label
        self.matrix = np.zeros((classes, classes), np.int64)

    def update(
        self, predicted: np.ndarray, labels: np.ndarray, where: np.ndarray | None = None
    ) -> None:
        """Count the pixels of ``labels`` that are not ignored (and, if given, lie in ``where``).

        Parameters
        ----------
        predicted, labels : numpy.ndarray
            Integer arrays of one shape, on the host.
        where : numpy.ndarray, optional
            Boolean array of the same shape.

        Raises
        ------
        TypeError
            If an array is not an integer (``where``: boolean) NumPy array.
        ValueError
            If shapes differ, or a label is out of range where the true one is not ignored.
        """
        counted = _valid(labels, self.ignore_label)
        check_array("predicted", predicted, labels.shape, kind="integer")
        _check_range("predicted", predicted[counted], self.classes)
        _check_range("labels", labels[counted], self.classes, self.ignore_label)
        if where is not None:
            check_array("where", where, labels.shape, kind="integer")
            if where.dtype != bool:
                raise TypeError(f"where: expected a boolean array, got {where.dtype}")
            counted = counted & where
        true, found = (array[counted].astype(np.int64) for array in (labels, predicted))
        counts = np.bincount(true * self.classes + found, minlength=self.classes**2)
        self.matrix += counts.reshape(self.matrix.shape)

    @property
    def pixel_accuracy(self) -> float:
        """Correct pixels / counted pixels; nan when none was counted."""
        return float(_ratio(np.trace(self.matrix), self.matrix.sum()))

    @property
    def recall(self) -> np.ndarray:
        """(classes,): correct / true pixels of each class; nan for one that is not in the truth."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=1))

    @property
    def iou(self) -> np.ndarray:
        """(classes,): intersection / union of each class, nan for one in neither map.

        A class that is predicted but not in the truth has IoU 0.
        """
        correct = np.diag(self.matrix)
        return _ratio(correct, self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - correct)

    @property
    def mean_recall(self) -> float:
        """Mean of `recall` over the classes in the truth; nan when there is none."""
        return _mean(self.recall)

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes where it is defined; nan when there is none."""
        return _mean(self.iou)

    def report(self) -> dict[str, Any]:
        """All scores as JSON-able numbers; None where a score is not defined."""
        return {
            "pixel_accuracy": _number(self.pixel_accuracy),
            "mean_recall": _number(self.mean_recall),
            "mean_iou": _number(self.mean_iou),
            "iou": [_number(value) for value in self.iou],
            "pixels": int(self.matrix.sum()),
        }


class Evaluation:
    """`Confusion` over whole images and, beside it, within the band around true boundaries.

    Parameters
    ----------
    classes : int
    ignore_label : int or None
    width : int
        Width of the band on each side of a boundary, in pixels: see `boundary_band`.

    Attributes
    ----------
    whole, band : Confusion

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> evaluation = Evaluation(2, width=1)
    >>> labels = np.repeat([[0, 1]], 4, axis=1)
    >>> evaluation.update(np.array([[0, 0, 0, 0, 0, 1, 1, 1]]), labels)
    >>> evaluation.whole.pixel_accuracy, evaluation.band.pixel_accuracy
    (0.875, 0.5)
    """

    def __init__(self, classes: int, ignore_label: int | None = 255, width: int = 3) -> None:
        check("width", width, COUNT)
        self.whole = Confusion(classes, ignore_label)
        self.band = Confusion(classes, ignore_label)
        self.width = width

    def update(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Count a prediction: integer arrays (H, W) or (N, H, W); errors as `Confusion.update`."""
        band = boundary_band(labels, self.width, self.whole.ignore_label)
        self.whole.update(predicted, labels)
        self.band.update(predicted, labels, band)

    def add(self, other: Evaluation) -> None:
        """Count what another one of the same settings has counted."""
        self.whole.matrix += other.whole.matrix
        self.band.matrix += other.band.matrix

    def report(self) -> dict[str, Any]:
        """The report of the whole images, with the band's under ``"band"``."""
        return {**self.whole.report(), "band": {"width": self.width, **self.band.report()}}


def boundary_band(
    labels: np.ndarray, width: int = 3, ignore_label: int | None = 255
) -> np.ndarray:
    """Where a true boundary is near.

    A *boundary pixel* is one of two pixels, neighbours in a row or a column, that carry different
    labels of which neither is ignored. The band holds every pixel that is not ignored and has a
    boundary pixel at a chessboard distance below ``width``: along a straight boundary, ``width``
    pixels on each side. The border of the image and of an ignored region is no boundary.

    Parameters
    ----------
    labels : numpy.ndarray
        Integer (..., H, W).
    width : int
        In pixels, at least 1.
    ignore_label : int or None

    Returns
    -------
    numpy.ndarray
        Boolean, of the shape of ``labels``.

    Raises
    ------
    TypeError, ValueError
        If `labels` is no integer array of two axes or more, or `width` not a positive integer.

    Notes
    -----
    The trimap of Kohli, Ladický, Torr (IJCV 82, 2009).

    Examples
    --------
    >>> boundary_band(np.array([[0, 0, 0, 1, 1, 1]]), width=2).astype(int).tolist()
    [[0, 1, 1, 1, 1, 0]]
    """
    valid = _valid(labels, ignore_label)
    if labels.ndim < 2:
        raise ValueError(f"labels: expected shape (..., H, W), got {labels.shape}")
    check("width", width, COUNT)
    band = np.zeros(labels.shape, bool)
    for axis in (-1, -2):
        first, second = _pairs(labels, axis)
        edge = (first != second) & np.logical_and(*_pairs(valid, axis))
        for side in _pairs(band, axis):
            side |= edge
    for axis in (-1, -2):  # a square's dilation is a row's after a column's
        for _ in range(width - 1):
            lower, upper = _pairs(band, axis)
            grown = lower | upper
            lower |= grown
            upper |= grown
    return band & valid


def _pairs(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of each pixel but the last along ``axis``, and of its successor."""
    moved = np.moveaxis(array, axis, -1)
    return moved[..., :-1], moved[..., 1:]


def _valid(labels: np.ndarray, ignore_label: int | None) -> np.ndarray:
    check_array("labels", labels, kind="integer")
    if not isinstance(labels, np.ndarray):
        raise TypeError("labels: expected a NumPy array, got one of CuPy")
    return np.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label


def _check_range(
    name: str, values: np.ndarray, classes: int, ignore_label: int | None = None
) -> None:
    wrong = values[(values < 0) | (values >= classes)]
    if wrong.size:
        also = "" if ignore_label is None else f" or the ignore label {ignore_label}"
        raise ValueError(f"{name}: expected values in 0..{classes - 1}{also}, got {wrong.flat[0]}")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
