"""Networks from files, for what a command does with them."""

from __future__ import annotations

import argparse
import os
import shlex
from types import ModuleType

import numpy as np

from segaware_np.models import load
from segaware_np.net import Net

_ADVICE = {
    "score": "labels no pixels: train one that does, with `segaware train --embedding {path}`, or "
    "see its masks with `segaware masks IMAGE --embedding {path}`",
    "embedding": "has no embedding: train one with `segaware train --network embedding`",
}


def add_partial(parser: argparse.ArgumentParser) -> None:
    """Declare ``--partial``."""
    parser.add_argument(
        "--partial", action="store_true",
        help="use a model of which some weights are missing or do not fit: what does not fit is "
        "left out, what is missing stays at its random start, and a note names both",
    )


def load_network(
    path: str | os.PathLike[str], output: str, xp: ModuleType = np, partial: bool = False
) -> Net:
    """Load a network that has a layer ``output``: ``score`` or ``embedding``.

    Raises
    ------
    ValueError
        If it has none; the message says what to do.
    OSError, FormatError
        As for `models.load`.
    """
    net = load(path, partial=partial, xp=xp)
    if output not in net.nodes:
        kind = net.description["model"].replace("_", " ")
        advice = _ADVICE[output].format(path=shlex.quote(str(path)))
        raise ValueError(f"{path}: this {kind} {advice}")
    return net
