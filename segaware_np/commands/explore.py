"""``segaware explore``: a page on which an image's local attention masks can be explored."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from segaware_np.commands.networks import load_network
from segaware_np.commands.options import positive, whole
from segaware_np.explore import make_page
from segaware_np.files import atomic_write, check_writable, load_array
from segaware_np.images import read_image, shrink
from segaware_np.net import Net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware explore``."""
    parser.description = (
        "Write one HTML page that works offline: pick a pixel and see its local mask, for "
        "several windows and scales, and what it does to a box filter."
    )
    parser.add_argument("image", help="the image file")
    parser.add_argument("-o", "--output", default="explore.html", help="the page to write")
    parser.add_argument(
        "--size", type=whole(1), default=640, help="shrink to this many pixels on the longer side"
    )
    parser.add_argument(
        "--megabytes",
        type=positive,
        default=4.0,
        help="size that a page with an embedding keeps below; where the embedding has to be "
        "rounded, more is more exact",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--embedding",
        metavar="MODEL",
        help="a model file that `segaware train` wrote, to embed the image with",
    )
    source.add_argument(
        "--array",
        metavar="FILE",
        help="the image's embedding itself, (E, H, W) or (1, E, H, W): .npy, or the one array in "
        "an .npz or .safetensors file",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    check_writable(options.output)
    image = shrink(read_image(options.image), options.size)
    embedding: Net | np.ndarray | None = None
    if options.embedding:
        embedding = load_network(options.embedding, "embedding")
    elif options.array:
        embedding = read_embedding(options.array)
    title = os.fsencode(Path(options.image).name).decode("utf-8", errors="replace")
    page = make_page(image, embedding, title=title, megabytes=options.megabytes)
    text = page.html.encode()
    with atomic_write(options.output) as file:
        file.write(text)
    print(f"wrote {options.output}, {len(text) / 1e6:.2f} MB")
    print(page.note)


def read_embedding(path: str) -> np.ndarray:
    """Return the one array in a file, without a batch axis of length 1."""
    array = load_array(path)
    return array[0] if array.ndim == 4 and len(array) == 1 else array
