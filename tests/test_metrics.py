"""Scores against counting by hand, and the band against its definition, pixel by pixel."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np.metrics import Confusion, Evaluation, boundary_band

IGNORE = 9


@st.composite
def label_maps(draw, classes=4):
    """(predicted, true) maps with patches, ignored pixels and classes that do not occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    present = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes))
    coarse = rng.choice([*present, IGNORE], (1 + height // 3, 1 + width // 3))
    true = coarse.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]
    predicted = np.where(rng.random((height, width)) < 0.3, 0, np.where(true == IGNORE, 1, true))
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64, np.uint64]))
    return predicted.astype(dtype), np.asfortranarray(true.astype(np.int32))


def band_by_hand(labels, width):
    height, columns = labels.shape
    boundary = []
    for y in range(height):
        for x in range(columns):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < height and 0 <= u < columns
                if inside and IGNORE not in (labels[y, x], labels[v, u]):
                    boundary += [(y, x)] if labels[y, x] != labels[v, u] else []
    return np.array(
        [
            [
                labels[y, x] != IGNORE
                and any(max(abs(y - v), abs(x - u)) < width for v, u in boundary)
                for x in range(columns)
            ]
            for y in range(height)
        ]
    )


@given(label_maps())
def test_scores_are_those_counted_by_hand(maps):
    predicted, true = maps
    scores = Confusion(4, IGNORE)
    for row in range(len(true)):  # several updates add up
        scores.update(predicted[row : row + 1], true[row : row + 1])
    pairs = list(zip(true.ravel().tolist(), predicted.ravel().tolist(), strict=True))
    pairs = [pair for pair in pairs if pair[0] != IGNORE]
    recalls, ious = [], []
    for label in range(4):
        both = sum(t == p == label for t, p in pairs)
        truth = sum(t == label for t, _ in pairs)
        union = sum(label in pair for pair in pairs)
        recalls.append(both / truth if truth else math.nan)
        ious.append(both / union if union else math.nan)
    np.testing.assert_array_equal(scores.iou, ious)
    np.testing.assert_array_equal(scores.recall, recalls)
    if not pairs:
        assert math.isnan(scores.pixel_accuracy) and math.isnan(scores.mean_iou)
        return
    assert scores.pixel_accuracy == sum(t == p for t, p in pairs) / len(pairs)
    assert scores.mean_iou == pytest.approx(np.nanmean(ious))
    assert scores.mean_recall == pytest.approx(np.nanmean(recalls))


@given(label_maps(), st.integers(1, 5))
def test_band_is_its_definition(maps, width):
    _, labels = maps
    np.testing.assert_array_equal(boundary_band(labels, width, IGNORE), band_by_hand(labels, width))


def test_band_has_its_width_on_each_side():
    labels = np.zeros((1, 20), np.int32)
    labels[:, 10:] = 1
    assert np.flatnonzero(boundary_band(labels, 3)).tolist() == [7, 8, 9, 10, 11, 12]
    labels[:, 9:12] = 0, 1, 255
    assert np.flatnonzero(boundary_band(labels, 3)).tolist() == [7, 8, 9, 10, 12]
    labels[:, 10] = 255  # an ignored pixel between two classes: no boundary
    assert not boundary_band(labels, 3).any()


@given(label_maps(), st.integers(1, 4))
def test_evaluation_counts_the_band_apart(maps, width):
    predicted, true = maps
    evaluation = Evaluation(4, IGNORE, width)
    evaluation.update(np.stack([predicted, predicted]), np.stack([true, true]))
    band = band_by_hand(true, width)
    inside = Confusion(4, IGNORE)
    inside.update(predicted[band], true[band])
    np.testing.assert_array_equal(evaluation.band.matrix, 2 * inside.matrix)
    assert evaluation.whole.matrix.sum() == 2 * (true != IGNORE).sum()
    report = json.loads(json.dumps(evaluation.report(), allow_nan=False))
    assert report["band"]["pixels"] == 2 * band.sum() and report["band"]["width"] == width


def test_absent_classes_do_not_count_but_invented_ones_do():
    scores = Confusion(4)
    scores.update(np.array([[0, 0, 2]]), np.array([[0, 0, 0]]))
    np.testing.assert_array_equal(scores.iou, [2 / 3, math.nan, 0, math.nan])
    assert scores.mean_iou == pytest.approx(1 / 3) and scores.mean_recall == pytest.approx(2 / 3)
    assert scores.report()["iou"] == [2 / 3, None, 0.0, None]


def test_no_ignore_label_counts_everything():
    scores = Confusion(3, ignore_label=None)
    scores.update(np.array([0, 1, 2]), np.array([0, 1, 1]))
    assert scores.matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


GOOD = np.zeros((2, 3), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Confusion(0), ValueError, "classes: expected an integer of at least 1, got 0"),
        (lambda: Evaluation(3, width=0), ValueError, "width: .*got 0"),
        (lambda: boundary_band(GOOD, 0), ValueError, "width: .*got 0"),
        (lambda: boundary_band(GOOD[0]), ValueError, r"labels: .*\(3,\)"),
        (lambda: boundary_band(GOOD * 1.0), TypeError, "labels: .*float64"),
        (lambda: Confusion(3).update(GOOD, GOOD + 3), ValueError, r"labels: .*0\.\.2 .*255, got 3"),
        (lambda: Confusion(3).update(GOOD, GOOD - 1), ValueError, r"labels: .*got -1"),
        (lambda: Confusion(3).update(GOOD + 7, GOOD), ValueError, r"predicted: .*0\.\.2, got 7"),
        (lambda: Confusion(3).update(GOOD - 2, GOOD), ValueError, "predicted: .*got -2"),
        (lambda: Confusion(3).update(GOOD[1:], GOOD), ValueError, r"predicted: .*\(1, 3\)"),
        (lambda: Confusion(3).update(GOOD * 1.0, GOOD), TypeError, "predicted: .*float64"),
        (lambda: Confusion(3).update(GOOD, [[0, 0, 0]]), TypeError, "labels: .*list"),
        (lambda: Confusion(3).update(GOOD, GOOD, GOOD), TypeError, "where: .*boolean.*int32"),
        (lambda: Confusion(3).update(GOOD, GOOD, GOOD[1:] == 0), ValueError, r"where: .*\(1, 3\)"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_bad_update_counts_nothing():
    evaluation = Evaluation(3)
    with pytest.raises(ValueError, match="predicted"):
        evaluation.update(GOOD + 7, GOOD)
    assert evaluation.whole.matrix.sum() == 0


def test_a_prediction_where_the_truth_is_ignored_may_be_anything():
    evaluation = Evaluation(2, width=1)
    evaluation.update(np.array([[0, 1, 255, -7]]), np.array([[0, 1, 255, 255]]))
    assert evaluation.whole.matrix.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match=r"predicted: expected values in 0\.\.1, got 255"):
        evaluation.update(np.array([[255, 1]]), np.array([[0, 255]]))
