"""``segaware predict``: label images with a trained network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segaware_np.commands.options import add_device, array_library, fraction, whole
from segaware_np.crf import refine
from segaware_np.data import ImageFolder
from segaware_np.images import overlay, read_image, write_image, write_labels
from segaware_np.inference import embed, predict, score
from segaware_np.models import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware predict``."""
    parser.description = (
        "Label an image, or all images of a folder: for each, NAME.png with the labels (PASCAL "
        "VOC's palette) and NAME_overlay.png, the image tinted by them."
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `segaware train` wrote")
    parser.add_argument("image", metavar="IMAGE", help="an image file, or a folder of images")
    parser.add_argument(
        "-o", "--output", default="predictions", metavar="FOLDER", help="receives the pictures"
    )
    parser.add_argument(
        "--strength", type=fraction, default=0.5,
        help="of the overlay, from 0 (the image) to 1 (the labels)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write the labels alone")
    parser.add_argument(
        "--ignore-label", type=whole(0), default=255, help="label that the overlay does not tint"
    )
    parser.add_argument(
        "--crf", metavar="rgb|FILE",
        help="refine the labels: pixels near each other agree where their colours are alike (rgb), "
        "or their embeddings by this network",
    )
    add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the pictures."""
    label = _labeller(options)
    source = Path(options.image)
    if source.is_dir():
        folder = ImageFolder(source)
        names = [folder.name(i) for i in range(len(folder))]
        images = (folder[i][0] for i in range(len(folder)))
    else:
        names, images = [source.stem], (read_image(path) for path in [source])
    output = Path(options.output)
    for name, image in zip(names, images, strict=True):
        labels = label(image)
        output.mkdir(parents=True, exist_ok=True)
        write_labels(output / f"{name}.png", labels)
        if not options.no_overlay:
            tinted = overlay(
                image, labels, strength=options.strength, ignore_label=options.ignore_label
            )
            write_image(output / f"{name}_overlay.png", tinted)
    print(f"labelled {len(names)} image{'s' * (len(names) != 1)} into {output}")


def _labeller(options: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from an image to its labels that the options ask for."""
    xp = array_library(options)
    net = load(options.model, xp=xp)
    if options.crf is None:
        return lambda image: predict(net, image)
    embedding = None if options.crf == "rgb" else load(options.crf, xp=xp)

    def refined(image: np.ndarray) -> np.ndarray:
        guide = (image,) if embedding is None else (None, embed(embedding, image))
        return refine(score(net, image), *guide).argmax(axis=0).astype(np.int32)

    return refined
