"""``segaware demo``: the whole method on built-in scenes, from nothing to pictures."""

from __future__ import annotations

import argparse

from segaware_np.commands.options import whole
from segaware_np.demo import run_demo, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware demo``."""
    parser.description = (
        "Train an embedding, then a plain and a segmentation-aware network of the same size on "
        "built-in scenes, and write pictures and metrics.json into a folder."
    )
    parser.add_argument(
        "-o", "--output", default="segaware_demo", metavar="FOLDER", help="receives the pictures"
    )
    parser.add_argument(
        "--iterations", type=whole(1), default=170, help="steps of the solver for each network"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of weights, order and scenes")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the demo."""
    metrics = run_demo(
        options.output,
        iterations=options.iterations,
        seed=options.seed,
        progress=not options.quiet,
    )
    print(summary(metrics))
    print(f"pictures, networks and metrics.json are in {options.output}")
