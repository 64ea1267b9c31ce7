"""``segaware predict``: label images with a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path

from segaware_np.commands.options import add_device, array_library, fraction, whole
from segaware_np.data import ImageFolder
from segaware_np.images import overlay, read_image, write_image, write_labels
from segaware_np.inference import predict
from segaware_np.models import load


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Declare ``segaware predict``."""
    parser = subparsers.add_parser(
        "predict",
        help="label an image, or all images of a folder",
        description="Label an image, or all images of a folder: for each, NAME.png with the "
        "labels (PASCAL VOC's palette) and NAME_overlay.png, the image tinted by them.",
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
    add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the pictures."""
    net = load(options.model, xp=array_library(options))
    source = Path(options.image)
    if source.is_dir():
        folder = ImageFolder(source)
        names = [folder.name(i) for i in range(len(folder))]
        images = (folder[i][0] for i in range(len(folder)))
    else:
        names, images = [source.stem], (read_image(path) for path in [source])
    output = Path(options.output)
    for name, image in zip(names, images, strict=True):
        labels = predict(net, image)
        output.mkdir(parents=True, exist_ok=True)
        write_labels(output / f"{name}.png", labels)
        if not options.no_overlay:
            tinted = overlay(
                image, labels, strength=options.strength, ignore_label=options.ignore_label
            )
            write_image(output / f"{name}_overlay.png", tinted)
    print(f"labelled {len(names)} image{'s' * (len(names) != 1)} into {output}")
