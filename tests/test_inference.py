"""Large pictures in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import models
from segaware_np.inference import score, tiled

sides = st.integers(1, 60)


@given(sides, sides, st.integers(1, 70))
def test_parts_make_up_the_whole(height, width, tile):
    image = np.arange(height * width * 3, dtype=np.int32).reshape(height, width, 3)
    shapes = []

    def channels_first(part):
        shapes.append(part.shape)
        return part.transpose(2, 0, 1)

    assert np.array_equal(tiled(channels_first, image, tile), image.transpose(2, 0, 1))
    assert max(max(shape[:2]) for shape in shapes) <= tile


def test_what_a_part_does_not_see_has_no_say():
    """A network whose windows reach less far than the parts overlap knows no difference."""
    net = models.segmentation_network(3, (4,), (2,), aware=True, embedding="rgb")
    image = np.random.default_rng(0).integers(0, 256, (61, 94, 3), np.uint8)
    parts = tiled(lambda part: score(net, part), image, tile=48)
    np.testing.assert_allclose(parts, score(net, image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tile", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_tile_is_a_number_of_pixels(tile, error):
    with pytest.raises(error, match="tile: expected"):
        tiled(lambda part: part, np.zeros((4, 4, 3), np.uint8), tile)
