"""``segaware predict``: label images with a trained network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.commands import large, sources
from segaware_np.commands.networks import add_partial, load_network
from segaware_np.commands.options import (
    add_device,
    add_mpi,
    add_tile,
    array_library,
    fraction,
    ranks_of,
    whole,
)
from segaware_np.crf import refine
from segaware_np.images import overlay, read_image, write_image, write_labels
from segaware_np.inference import embed, predict, score, tiled
from segaware_np.net import Net
from segaware_np.progress import progress, progress_of_pieces
from segaware_np.reach import reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware predict``."""
    parser.description = (
        "Label images, or all images of a folder: for each, NAME.png with the labels (in the "
        "colours of the training labels, else PASCAL VOC's; grey of 16 bits for more than 256 "
        "classes) and NAME_overlay.png, the image tinted."
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `segaware train` wrote")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="image files, or folders of images"
    )
    parser.add_argument(
        "-o", "--output", default="predictions", metavar="FOLDER",
        help="receives the pictures; NAME.zarr receives the labels of a picture beyond the memory",
    )
    parser.add_argument(
        "--strength", type=fraction, default=0.5,
        help="of the overlay, from 0 (the image) to 1 (the labels)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write the labels alone")
    parser.add_argument(
        "--ignore-label", type=whole(0),
        help="label that the overlay does not tint (default: what did not count in training)",
    )
    parser.add_argument(
        "--crf", metavar="rgb|FILE",
        help="refine the labels: pixels near each other agree where their colours are alike (rgb), "
        "or their embeddings by this network",
    )
    parser.add_argument(
        "--dense", action="store_true",
        help="with --crf: all pixels of the image agree, not those of a window (on the CPU)",
    )
    add_partial(parser)
    add_tile(parser)
    add_device(parser)
    add_mpi(parser)
    large.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the pictures."""
    if large.wanted(options):
        large.run(options)
        return
    if options.dense and (options.crf is None or options.gpu):
        raise ValueError("--dense: expected --crf, and no --gpu, with it")
    ranks = ranks_of(options)
    xp = array_library(options)
    net = load_network(options.model, "score", xp, options.partial)
    label = _labeller(net, options.crf, options.dense, xp, options.tile)
    further = () if options.no_overlay else ("_overlay",)
    files = sources.label_files(options.images, options.output, *further)
    palette = net.description.get("palette")
    palette = None if palette is None else np.array(palette, np.uint8)
    ignored = options.ignore_label
    if ignored is None:
        ignored = net.description["arguments"]["ignore_label"]
    bits = 8 if net.description["arguments"]["classes"] <= 256 else 16
    look: dict[str, Any] = {"strength": options.strength, "palette": palette}
    mine = files[ranks.rank :: ranks.size]
    with progress(len(mine), shown=sys.stderr.isatty() and len(mine) > 1) as step:
        for source, target in mine:
            image = read_image(source)
            labels = label(image)
            write_labels(target, labels, palette, bits=bits)
            if not options.no_overlay:
                tinted = overlay(image, labels, ignore_label=ignored, **look)
                write_image(target.with_name(f"{target.stem}_overlay.png"), tinted)
            step(source.name)
    ranks.gather(len(mine))  # all are there
    print(f"labelled {len(files)} image{'s' * (len(files) != 1)} into {options.output}")


def _labeller(
    net: Net, crf: str | None, dense: bool, xp: ModuleType, tile: int | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from an image to its labels."""
    shown = sys.stderr.isatty()
    sees = reach(net)
    embedding = None if crf in (None, "rgb") else load_network(crf, "embedding", xp)

    def label(image: np.ndarray) -> np.ndarray:
        if crf is None:
            return tiled(lambda part: predict(net, part), image, tile, sees, shown)
        scores = tiled(lambda part: score(net, part), image, tile, sees, shown)
        guide: dict[str, Any] = {"image": image}
        if embedding is not None:
            further = reach(embedding, "embedding")
            found = tiled(lambda part: embed(embedding, part), image, tile, further, shown)
            guide = {"embedding": found}
        with progress_of_pieces(shown) as each:
            return refine(scores, **guide, dense=dense, each=each).argmax(axis=0).astype(np.int32)

    return label
