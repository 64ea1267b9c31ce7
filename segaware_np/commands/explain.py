"""``segaware explain``: a network, layer by layer, with every gradient checked."""

from __future__ import annotations

import argparse

from segaware_np import models
from segaware_np.commands.options import whole
from segaware_np.explain import explain
from segaware_np.images import read_image, shrink
from segaware_np.inference import prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware explain``."""
    parser.description = (
        "Run an image through a saved network and tell, layer by layer, formula, shapes, values, "
        "costs, and how far its backward is from the complex step."
    )
    parser.add_argument("model", help="a model file that `segaware train` wrote")
    parser.add_argument("image", help="the image file")
    parser.add_argument(
        "--size", type=whole(1), default=64, help="shrink to this many pixels on the longer side"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    net = models.load(options.model)
    image = shrink(read_image(options.image), options.size)
    print(explain(net, {"image": prepare(image, net)}))
