"""Refinement of scores by a picture or an embedding."""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np import models
from segaware_np.commands.main import main
from segaware_np.crf import refine
from segaware_np.images import read_labels, write_image
from segaware_np.inference import embed, predict, score
from segaware_np.window import Window

WINDOW = Window.same(5)


@pytest.fixture
def scene():
    """Two regions of one colour each, and noisy scores that tend to the right class."""
    rng = np.random.default_rng(0)
    labels = np.zeros((16, 20), int)
    labels[:, 9:] = 1
    image = np.array([[40, 80, 40], [200, 90, 70]], np.uint8)[labels]
    right = 2.0 * np.stack([labels == 0, labels == 1])
    return labels, image, right + rng.normal(0, 1.5, right.shape)


def by_hand(unary, features, window, iterations, weight):
    """The definition, pixel by pixel."""
    q = unary
    _, h, w = unary.shape
    for _ in range(iterations):
        p = np.exp(q) / np.exp(q).sum(0)
        average = np.zeros_like(q)
        for y in range(h):
            for x in range(w):
                near = [
                    (y + dy, x + dx)
                    for dy, dx in window.offsets
                    if (dy or dx) and 0 <= y + dy < h and 0 <= x + dx < w
                ]
                d = [((features[:, y, x] - features[:, i, j]) ** 2).sum() / 2 for i, j in near]
                m = np.exp(-np.array(d))
                average[:, y, x] = sum(
                    a * p[:, i, j] for a, (i, j) in zip(m / m.sum(), near, strict=True)
                )
        q = unary + weight * average
    return q


def test_is_the_mean_field_of_position_colour_and_embedding():
    rng = np.random.default_rng(1)
    unary = rng.normal(size=(3, 6, 5))
    image = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    embedding = rng.normal(size=(4, 6, 5))
    y, x = np.mgrid[:6, :5]
    features = np.concatenate(
        [np.stack([x, y]) / 3.0, image.transpose(2, 0, 1) / 60.0, embedding / 2.0]
    )
    window = Window.same(3, dilation=2)
    found = refine(
        unary, image, embedding, window=window, iterations=3, weight=1.5,
        position=3, colour=60, contrast=2,
    )
    np.testing.assert_allclose(found, by_hand(unary, features, window, 3, 1.5), rtol=1e-10)


def test_noise_goes_and_the_boundary_stays(scene):
    labels, image, unary = scene
    options = {"window": WINDOW, "weight": 10.0}
    assert (unary.argmax(0) == labels).mean() < 0.9
    np.testing.assert_array_equal(refine(unary, image, **options).argmax(0), labels)
    embedding = labels[None] * np.ones((2, 1, 1))
    np.testing.assert_array_equal(refine(unary, None, embedding, **options).argmax(0), labels)


def test_no_weight_changes_nothing(scene):
    _, image, unary = scene
    np.testing.assert_array_equal(refine(unary, image, weight=0), unary)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keeps_dtype_and_input(scene, dtype):
    _, image, unary = scene
    unary = unary.astype(dtype)
    before = unary.copy()
    assert refine(unary, image, window=WINDOW).dtype == dtype
    np.testing.assert_array_equal(unary, before)


def test_refines_what_networks_say(scene):
    _, image, _ = scene
    small = {"widths": (4, 4), "depths": (1, 1)}
    net = models.segmentation_network(classes=2, refine=(1,), refine_width=4, **small)
    features = embed(models.embedding_network(**small), image)
    scores = score(net, image)
    np.testing.assert_array_equal(scores.argmax(0), predict(net, image))
    assert refine(scores, image, features).shape == scores.shape


@pytest.mark.parametrize("by", ["rgb", "embedding.npz"])
def test_the_program_refines(scene, by, tmp_path, monkeypatch):
    _, image, _ = scene
    monkeypatch.chdir(tmp_path)
    small = {"widths": (4, 4), "depths": (1, 1)}
    net = models.segmentation_network(classes=2, refine=(1,), refine_width=4, **small)
    embedding = models.embedding_network(**small)
    net.save("model.npz")
    embedding.save("embedding.npz")
    write_image("picture.png", image)
    assert main(["predict", "model.npz", "picture.png", "--crf", by, "-o", "out"]) == 0
    guide = (image,) if by == "rgb" else (None, embed(embedding, image))
    expected = refine(score(net, image), *guide).argmax(0)
    assert (expected != predict(net, image)).any()  # or the test would not see the refinement
    np.testing.assert_array_equal(read_labels("out/picture.png"), expected)


def gaussian(points):
    """The symmetric Gaussian matrix of all points (P, E), summed without a lattice."""
    matrix = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 2)
    root = np.sqrt(matrix.sum(1))
    return matrix / root / root[:, None]


def test_the_dense_one_is_near_the_mean_field_of_all_pixels():
    rng = np.random.default_rng(2)
    h, w = 20, 24
    y, x = np.mgrid[:h, :w]
    image = (128 + 60 * np.sin(np.stack([x / 4, y / 5, (x + y) / 6], -1))).astype(np.uint8)
    unary = rng.normal(size=(3, h, w))
    found = refine(
        unary, image, dense=True, iterations=3, weight=2, position=8, colour=40,
        smooth=2, smooth_weight=1,
    )
    place = np.stack([x, y], -1).reshape(-1, 2)
    look = gaussian(np.concatenate([place / 8, image.reshape(-1, 3) / 40], 1))
    near, flat = gaussian(place / 2), unary.reshape(3, -1)
    q = flat
    for _ in range(3):
        p = np.exp(q) / np.exp(q).sum(0)
        q = flat + 2 * p @ look + 1 * p @ near
    error = np.linalg.norm(found.reshape(3, -1) - q) / np.linalg.norm(q - flat)
    assert error < 0.04


def test_the_dense_one_sees_beyond_a_window(scene):
    labels, image, unary = scene
    options = {"dense": True, "smooth_weight": 1.0, "colour": 13.0}
    np.testing.assert_array_equal(refine(unary, image, **options).argmax(0), labels)


def test_the_program_refines_densely(scene, tmp_path, monkeypatch, capsys):
    _, image, _ = scene
    monkeypatch.chdir(tmp_path)
    small = {"widths": (4, 4), "depths": (1, 1)}
    net = models.segmentation_network(classes=2, refine=(1,), refine_width=4, **small)
    net.save("model.npz")
    write_image("picture.png", image)
    command = ["predict", "model.npz", "picture.png", "-o", "out", "--dense"]
    assert main([*command]) != 0
    assert "--dense: expected --crf" in capsys.readouterr().err
    assert main([*command, "--crf", "rgb"]) == 0
    expected = refine(score(net, image), image, dense=True).argmax(0)
    assert (expected != refine(score(net, image), image).argmax(0)).any()
    np.testing.assert_array_equal(read_labels("out/picture.png"), expected)


SCORE, IMAGE = np.zeros((2, 4, 5)), np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((SCORE,), {}, ValueError, "image, embedding: expected at least one"),
        ((SCORE[None], IMAGE), {}, ValueError, "score: expected .*got"),
        ((SCORE.astype(int), IMAGE), {}, TypeError, "score: expected"),
        ((SCORE, IMAGE[:3]), {}, ValueError, "image: expected"),
        ((SCORE, IMAGE / 255), {}, TypeError, "image: expected"),
        ((SCORE, None, SCORE[:, :3]), {}, ValueError, "embedding: expected"),
        ((SCORE, None, SCORE.astype("f4")), {}, TypeError, "embedding: expected dtype float64"),
        ((SCORE, IMAGE), {"colour": 0}, ValueError, "colour: .* above 0, got 0"),
        ((SCORE, IMAGE), {"position": -1}, ValueError, "position: .* above 0, got -1"),
        ((SCORE, IMAGE), {"contrast": np.inf}, ValueError, "contrast: .* above 0, got inf"),
        ((SCORE, IMAGE), {"weight": np.nan}, ValueError, "weight: .* finite number, got nan"),
        ((SCORE, IMAGE), {"iterations": 0}, ValueError, "iterations: .* at least 1, got 0"),
        ((SCORE, IMAGE), {"window": Window(3)}, ValueError, "window.*as large as the input"),
        ((SCORE, IMAGE), {"dense": 1}, TypeError, "dense: expected a bool, got 1"),
        ((SCORE, IMAGE), {"dense": True, "window": WINDOW}, ValueError, "window: expected none"),
        ((SCORE, IMAGE), {"smooth": 0}, ValueError, "smooth: .* above 0, got 0"),
        ((SCORE, IMAGE), {"smooth_weight": np.inf}, ValueError, "smooth_weight: .* finite"),
    ],
)
def test_bad_calls_say_what_is_wrong(arguments, options, error, message):
    with pytest.raises(error, match=message):
        refine(*arguments, **options)


def test_small_scores_are_refined_at_the_size_of_the_picture():
    rng = np.random.default_rng(6)
    small, image = rng.normal(size=(3, 5, 4)), rng.integers(0, 256, (9, 10, 3)).astype(np.uint8)
    rows, columns = np.linspace(0, 4, 9), np.linspace(0, 3, 10)
    between = [[np.interp(columns, np.arange(4), row) for row in maps] for maps in small]
    full = np.array([[np.interp(rows, np.arange(5), c) for c in np.array(m).T] for m in between])
    expected = refine(full.transpose(0, 2, 1), image, window=Window.same(5))
    found = refine(small, image, window=Window.same(5))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_labels_are_scores_of_a_certainty_and_void_ones_of_none():
    image = np.random.default_rng(7).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    labels = np.array([[0, 2, 2, 255, 1]] * 4, np.uint8)
    scores = np.zeros((3, 4, 5), np.float32)
    scores[0, :, 0] = scores[2, :, 1:3] = scores[1, :, 4] = 1.5
    options = {"window": Window.same(3), "weight": 2.0}
    found = refine(labels, image, certainty=1.5, **options)
    np.testing.assert_array_equal(found, refine(scores, image, **options))
    assert found[:, 0, 3].argmax() in (1, 2)  # a neighbour's
    with pytest.raises(ValueError, match="score: expected labels of at least 0, got -1"):
        refine(np.full((4, 5), -1), image)
    with pytest.raises(TypeError, match="score: expected an integer array, got float64"):
        refine(np.zeros((4, 5)), image)
