"""``segaware evaluate``: how well a trained network labels a data set."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from segaware_np.commands import sources
from segaware_np.commands.networks import add_partial, load_network
from segaware_np.commands.options import (
    add_device,
    add_mpi,
    add_tile,
    array_library,
    ranks_of,
    whole,
)
from segaware_np.files import atomic_write, check_writable
from segaware_np.inference import evaluate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware evaluate``."""
    parser.description = (
        "Score a network on labelled images: pixel accuracy, mean IoU and IoU per class, over "
        "the whole images and in a band along true boundaries."
    )
    parser.add_argument("model", metavar="MODEL", help="a file that `segaware train` wrote")
    sources.add_arguments(parser, split="val")
    parser.add_argument(
        "--ignore-label", type=whole(0),
        help="label of pixels that do not count (default: what it was in training)",
    )
    parser.add_argument(
        "--band", type=whole(1), default=3, help="width of the band on each side, pixels"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the scores to this file")
    add_partial(parser)
    add_tile(parser)
    add_device(parser)
    add_mpi(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the scores, and write them if asked to."""
    ranks = ranks_of(options)
    if options.json:
        check_writable(options.json)
    net = load_network(options.model, "score", array_library(options), options.partial)
    arguments, ignored = net.description["arguments"], options.ignore_label
    if ignored is None:
        ignored = arguments["ignore_label"]
    dataset = sources.open_dataset(options, arguments["classes"], ignored)
    shown = sys.stderr.isatty() and not ranks.rank
    how = {"width": options.band, "tile": options.tile, "progress": shown}
    scores = evaluate(net, dataset, ignore_label=ignored, ranks=ranks, **how)
    if ranks.rank:
        return
    report = {"images": len(dataset), **scores.report()}
    if options.json:
        with atomic_write(options.json) as file:
            file.write((json.dumps(report, indent=2) + "\n").encode())
    names = net.description.get("class_names") or getattr(dataset, "class_names", [])
    print(table(report, names))


def table(report: dict[str, Any], names: Sequence[str] = ()) -> str:
    """Return a report of `metrics.Evaluation` as text, in percent."""
    band = report["band"]
    rows = [("", "image", f"{band['width']} px band")]
    for key in ("pixel_accuracy", "mean_recall", "mean_iou"):
        rows.append((key.replace("_", " "), _percent(report[key]), _percent(band[key])))
    for label, (whole_image, near) in enumerate(zip(report["iou"], band["iou"], strict=True)):
        name = names[label] if label < len(names) else f"class {label}"
        rows.append((f"IoU {name}", _percent(whole_image), _percent(near)))
    return "\n".join(f"{name:<18} {first:>8} {second:>10}" for name, first, second in rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
