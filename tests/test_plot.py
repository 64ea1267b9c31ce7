"""Pictures show what the operations compute."""

import numpy as np
import pytest

from segaware_np import Window, ops
from segaware_np.plot import MARKERS, colorize, draw_masks, embedding_to_rgb, masks_at

EMBEDDING = np.random.default_rng(0).normal(size=(4, 9, 12))
IMAGE = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("normalized", [False, True])
def test_masks_are_those_of_the_operations(norm, normalized):
    window = Window.same((3, 5), dilation=2)
    distance, _ = ops.distance_forward(EMBEDDING[None], window, norm, remove_bounds=True)
    forward = ops.normalized_mask_forward if normalized else ops.exponential_mask_forward
    expected, _ = forward(distance, 0.3)
    pixels = [(0, 0), (4, 5), (8, 11)]
    found = masks_at(EMBEDDING, pixels, window, 0.3, norm=norm, normalized=normalized)
    for (y, x), mask in zip(pixels, found, strict=True):
        np.testing.assert_allclose(mask.ravel(), expected[0, :, y, x], rtol=1e-12)


def test_marks_and_windows_are_drawn():
    picture = draw_masks(IMAGE, EMBEDDING, [(4, 5), (0, 0)], Window(3), 1.0)
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert {*MARKERS[:2]} < colours
    line = draw_masks(IMAGE[:1], EMBEDDING[:, :1], [(0, 5)], Window(3), 1.0)
    assert line.shape[1] < 4000  # a strip is not enlarged without end


def test_like_embeddings_have_like_colours():
    two = np.repeat(np.array([[[0.0, 1.0]], [[2.0, -2.0]]]), 3, axis=2)
    left, right = np.split(embedding_to_rgb(two), 2, axis=1)
    assert (left == left[:, :1]).all() and (right == right[:, :1]).all()
    assert (left[0, 0] != right[0, 0]).any()


def test_colours_run_from_dark_to_bright():
    brightness = colorize(np.linspace(0, 1, 50)[None]).astype(int).sum(axis=2)[0]
    assert (np.diff(brightness) >= 0).all() and brightness[0] < 60 < 600 < brightness[-1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"embedding": EMBEDDING[0]}, ValueError, r"embedding: expected shape \(E, H, W\)"),
        ({"embedding": EMBEDDING[:, 1:]}, ValueError, r"image: expected shape \(8, 12, 3\)"),
        ({"image": IMAGE / 255}, TypeError, "image: expected an integer array"),
        ({"pixels": [(9, 0)]}, ValueError, r"pixels: expected \(row, column\) inside 9 x 12"),
        ({"pixels": []}, ValueError, "pixels: expected at least one, got none"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"image": IMAGE, "embedding": EMBEDDING, "pixels": [(1, 2)], **change}
    with pytest.raises(error, match=message):
        draw_masks(**arguments, window=Window(3), scale=1.0)
