"""``segaware masks``: what an image's local attention masks look like."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

import numpy as np

from segaware_np import inference
from segaware_np.commands.networks import load_network
from segaware_np.commands.options import number, pixel, whole
from segaware_np.images import check_picture, read_image, write_image
from segaware_np.plot import draw_masks
from segaware_np.reach import pieces, reach
from segaware_np.window import Pair, Window

_TILE = 256  # pixels that a piece is for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware masks``."""
    parser.description = (
        "Show an image's local attention masks: the windows around a few pixels, the weights of "
        "the neighbours, and what is seen through them."
    )
    parser.add_argument("image", help="the image file")
    parser.add_argument("-o", "--output", default="masks.png", help="the picture to write")
    parser.add_argument(
        "--at",
        type=pixel,
        action="append",
        metavar="X,Y",
        help="a pixel, column and row from 0; give it again for more (default: five pixels "
        "spread over the image)",
    )
    parser.add_argument(
        "--embedding",
        default="rgb",
        metavar="rgb|MODEL",
        help="the image's own colours in 0..1, or a model file that `segaware train` wrote",
    )
    parser.add_argument("--window", type=whole(1), default=25, help="side of the window, pixels")
    parser.add_argument(
        "--dilation", type=whole(1), default=1, help="step between the window's entries, pixels"
    )
    parser.add_argument(
        "--scale", type=number, default=5.0, help="s in exp(-s d), per unit of embedding distance"
    )
    parser.add_argument("--norm", choices=("L1", "L2"), default="L1", help="the distance")
    parser.add_argument(
        "--normalized", action="store_true", help="softmax of -s d instead of exp(-s d)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the picture."""
    check_picture(options.output)
    image = read_image(options.image)
    height, width = image.shape[:2]
    at = options.at or [
        (int(width * x), int(height * y))
        for x, y in ((0.25, 0.3), (0.75, 0.3), (0.5, 0.5), (0.25, 0.7), (0.75, 0.7))
    ]
    for x, y in at:
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"--at: expected a pixel of the {width} x {height} image, got {x},{y}")
    pixels = [(y, x) for x, y in at]
    window = Window(options.window, dilation=options.dilation)
    picture = draw_masks(
        image,
        embed(image, options.embedding, pixels, window),
        pixels,
        window,
        options.scale,
        norm=options.norm,
        normalized=options.normalized,
    )
    write_image(options.output, picture)
    print(f"wrote {options.output}")


def embed(
    image: np.ndarray, source: str, pixels: Sequence[Pair], window: Window
) -> np.ndarray:
    """Return the embedding (E, H, W) of an image: its colours in 0..1, or a trained model's.

    The model's is computed where the windows around these pixels lie; elsewhere it is 0, in memory
    that nobody has touched.
    """
    if source == "rgb":
        return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
    net = load_network(source, "embedding")
    axes = zip(image.shape[:2], *reach(net, "embedding"), strict=True)
    rows, columns = (pieces(length, _TILE + sum(far), grid, *far) for length, grid, *far in axes)
    embedding = None
    for row, column in product(rows, columns):
        if any(_overlaps(pixel, window, (row.kept, column.kept)) for pixel in pixels):
            part = inference.embed(net, inference.window_of(image, row.seen, column.seen))
            if embedding is None:
                embedding = np.zeros((len(part), *image.shape[:2]), part.dtype)
            embedding[:, row.kept, column.kept] = part[:, row.own, column.own]
    assert embedding is not None
    return embedding


def _overlaps(pixel: Pair, window: Window, part: Sequence[slice]) -> bool:
    """Whether the window around a pixel has a pixel in a part of the image."""
    ends = zip(pixel, window.offsets[0], window.offsets[-1], part, strict=True)
    return all(p + last >= s.start and p + first < s.stop for p, first, last, s in ends)
