"""How far networks see: just as far as the gradient reaches. Pieces cut by it fit together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import Net, Window, layers, models
from segaware_np.inference import embed, predict, score, tiled
from segaware_np.reach import Reach, reach

FLOAT64 = {"dtype": "float64"}
NARROW = {"widths": (4, 6, 8), "depths": (1, 2, 1), **FLOAT64}
MODELS = {
    "embedding": (models.embedding_network((4, 6, 8), (2, 2, 1), 5, **FLOAT64), "embedding"),
    "plain": (models.segmentation_network(4, **NARROW), "score"),
    "aware of colours": (
        models.segmentation_network(
            4, aware=True, embedding="rgb", refine=(1, 2, 4), refine_width=5, **NARROW
        ),
        "score",
    ),
    "aware of an embedding": (
        models.segmentation_network(
            4, aware=True, embedding_widths=(4, 5), embedding_depths=(2, 1),
            embedding_channels=3, context=(2,), **NARROW
        ),
        "score",
    ),
    "vgg16": (models.segaware_vgg16(4, width=1 / 32, **FLOAT64), "score"),
}  # fmt: skip


def support(
    net: Net, output: str, seen: Reach, draws: int = 1
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that have a gradient around the middle cell of the grid, by brute force."""
    cells = 2 * -(-max(seen.before + seen.after) // seen.grid[0]) + 3
    side, first = seen.grid[0] * cells + 1, seen.grid[0] * (cells // 2)
    last = first + seen.grid[0] - 1
    rng = np.random.default_rng(3)
    gradient = np.zeros((side, side))
    for _ in range(draws):  # a maximum reads all, but its gradient goes to one
        image = rng.normal(size=(1, 3, side, side)) * 20
        y = net.eval().forward({"image": image}, [output])[output]
        step = (side - 1) // (y.shape[2] - 1)
        part = slice(first // step, -(-last // step) + 1)
        dy = np.zeros_like(y)
        dy[:, :, part, part] = rng.normal(size=dy[:, :, part, part].shape)
        gradient += np.abs(net.backward({output: dy}, ["image"])["image"][0]).sum(0)
    found = []
    for across in (1, 0):
        reached = np.flatnonzero(gradient.sum(across))
        found.append((first - reached[0], reached[-1] - last))
    return tuple(zip(*found, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_sees_as_far_as_its_gradient_reaches(name):
    net, output = MODELS[name]
    seen = reach(net, output)
    assert support(net, output, seen) == (seen.before, seen.after)


def alone(layer: layers.Layer, *, first: bool = False) -> Net:
    """A network of one layer, which reads the image, or a convolution of it if `first`."""
    net = Net(inputs=("image",), dtype="float64")
    if first:
        net.add("before", layers.Convolution(3, 3, Window(3, 2, 1)), "image")
    net.add("score", layer, *(("before", "image") if first else ("image",)))
    return net


def crf() -> Net:
    net = Net(inputs=("image",), dtype="float64")
    net.add("unary", layers.Convolution(3, 2, Window(1)), "image")
    windows = Window.same(3, dilation=2), Window.same((1, 3), dilation=5)
    net.add("score", layers.MeanField(2, *windows, 2), "unary", "unary", "image", "image")
    return net


def guided(kind: str, norm: str | None) -> Net:
    """A filter or convolution guided by the image, measured by itself or by a layer before."""
    window, net = Window.same((3, 5), (2, 1)), Net(inputs=("image",), dtype="float64")
    net.add("narrow", layers.Convolution(3, 2, Window(1)), "image")
    net.add("distance", layers.Distance(window, "L2"), "image")
    layer = {
        "filter": lambda: layers.BilateralFilter(window, norm),
        "convolution": lambda: layers.NormalizedConvolution(2, 2, window, norm),
    }[kind]()
    net.add("score", layer, "narrow", "image" if norm else "distance")
    return net


ALONE = {
    "filter by an embedding": guided("filter", "L1"),
    "filter by distances": guided("filter", None),
    "normalised convolution by an embedding": guided("convolution", "L2"),
    "normalised convolution by distances": guided("convolution", None),
    "mean field": crf(),
    "convolution": alone(layers.Convolution(3, 2, Window((3, 5), 1, (2, 2), (2, 1)))),
    "stride": alone(layers.Convolution(3, 2, Window(3, 2, 1))),
    "max pool": alone(layers.MaxPool(Window(3, 2, 1))),
    "average pool": alone(layers.AveragePool(Window((5, 3), 1, (2, 1)))),
    "distance": alone(layers.Distance(Window.same((3, 7), (3, 1)))),
    "shrink": alone(layers.Shrink(0.25)),
    "resize": alone(layers.ResizeLike(), first=True),
    "relu": alone(layers.ReLU()),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_layer_sees_as_far_as_its_gradient_reaches(name):
    net = ALONE[name]
    seen = reach(net)
    assert support(net, "score", seen, draws=4) == (seen.before, seen.after)


def test_the_published_networks_see_what_was_worked_out_by_hand():
    """VGG-16: 1+1 px, then stages of 2, 4 and 8 px a pixel; all halves are symmetric but for the
    grid's own cell. ResNet-101's CRF alone adds 2 x 54 pixels of half resolution."""
    assert reach(models.segaware_vgg16(5, width=1 / 32)) == ((8, 8), (241, 241), (242, 242))
    resnet = models.segaware_resnet101(5, width=1 / 32)
    assert reach(resnet) == ((32, 32), (1634, 1634), (1635, 1635))


@pytest.mark.parametrize("name", ["plain", "aware of colours", "aware of an embedding"])
@pytest.mark.parametrize("tile", [64, 97])
def test_pieces_of_a_network_are_the_whole(name, tile):
    net, _ = MODELS[name]
    seen = reach(net)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (4 * 30 + 1, 4 * 41 + 1, 3), np.uint8)  # needs nothing around it
    tile = max(tile, sum(x[0] for x in seen[1:]) + 12)
    whole = score(net, image)
    pieces = tiled(lambda part: score(net, part), image, tile, seen)
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-11 * np.ptp(whole))
    assert (tiled(lambda part: predict(net, part), image, tile, seen) == predict(net, image)).all()


def test_pieces_of_a_picture_of_any_size_are_those_of_the_padded_one():
    net, output = MODELS["embedding"]
    seen = reach(net, output)
    image = np.random.default_rng(2).integers(0, 256, (78, 131, 3), np.uint8)
    padded = np.full((81, 133, 3), (123, 117, 104), np.uint8)
    padded[:78, :131] = image
    whole = embed(net, padded)[:, :78, :131]
    for tile in (50, 77, 120):
        pieces = tiled(lambda part: embed(net, part), image, tile, seen)
        np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-12 * np.ptp(whole))


def test_one_pixel_less_would_show():
    net, output = MODELS["embedding"]
    grid, before, after = reach(net, output)
    image = np.random.default_rng(2).integers(0, 256, (81, 81, 3), np.uint8)
    whole = embed(net, image)
    less = Reach(grid, (before[0] - grid[0],) * 2, after)
    pieces = tiled(lambda part: embed(net, part), image, 60, less)
    assert np.abs(pieces - whole).max() > 1e-4 * np.ptp(whole)


sides = st.integers(1, 60)


@given(sides, sides, st.integers(2, 70), st.integers(1, 7), st.integers(0, 9), st.integers(0, 9))
def test_pieces_make_up_the_picture_and_are_no_larger_than_asked(h, w, tile, grid, before, after):
    image = np.arange(h * w * 3, dtype=np.int32).reshape(h, w, 3)
    shapes = []

    def channels_first(part):
        shapes.append(part.shape[:2])
        return part.transpose(2, 0, 1)

    seen = Reach((grid, 1), (before, 0), (after, 0))
    try:
        result = tiled(channels_first, image, tile, seen)
    except ValueError as error:
        assert "tile: expected at least" in str(error)
        assert tile < before + after + 3 * grid
        return
    assert np.array_equal(result, image.transpose(2, 0, 1))
    assert max(map(max, shapes)) <= tile
    assert len(shapes) == 1 or all(rows % grid == 1 or grid == 1 for rows, _ in shapes)


def test_a_layer_that_does_not_say_what_it_reads_is_named():
    class Blur(layers.ReLU):
        pointwise = False

    net = alone(Blur())
    with pytest.raises(TypeError, match="Blur: expected a layer that says what it reads"):
        reach(net)


def test_a_network_that_moves_the_corners_is_not_cut():
    net = alone(layers.Convolution(3, 2, Window(3)))
    with pytest.raises(ValueError, match="keep the corners of an image in place, got 'score'"):
        reach(net)
    with pytest.raises(ValueError, match="outputs: expected names of layers"):
        reach(net, "labels")


@pytest.mark.parametrize(("tile", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_tile_is_a_number_of_pixels(tile, error):
    with pytest.raises(error, match="tile: expected"):
        tiled(lambda part: part, np.zeros((4, 4, 3), np.uint8), tile)


def test_a_tile_must_hold_what_is_seen():
    with pytest.raises(ValueError, match="at least 25 pixels for a network that sees 8 and 9"):
        tiled(lambda part: part, np.zeros((90, 4, 3), np.uint8), 20, Reach((8, 8), (8, 8), (9, 9)))
