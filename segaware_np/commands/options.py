"""Kinds of option values, with errors that say what was expected."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np

from segaware_np import mpi
from segaware_np.extras import require
from segaware_np.ranks import Alone, Ranks


def whole(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that are at least ``least``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, got {text}"
            )
        return value

    return parse


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def number(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value - value != 0:
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
    return value


def pixel(text: str) -> tuple[int, int]:
    """Parse a column and a row, ``X,Y``."""
    numbers = _numbers(text, 0)
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"expected two whole numbers as in 120,80, got {text}")
    return numbers[0], numbers[1]


def sizes(text: str) -> tuple[int, ...]:
    """Parse whole numbers of at least 1 between commas, ``24,48,96``."""
    return _numbers(text, 1)


def crop(text: str) -> int | tuple[int, int]:
    """Parse one size, or height and width, ``120,160``."""
    numbers = sizes(text)
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"expected a size, or height,width, got {text}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _numbers(text: str, least: int) -> tuple[int, ...]:
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers of at least {least} between commas, got {text}"
        )
    return numbers


def not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def span(text: str) -> tuple[float, float]:
    """Parse two numbers, ``LOW,HIGH``."""
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"expected two numbers as in 0.5,1.5, got {text}")
    return number(parts[0]), number(parts[1])


def words(text: str) -> tuple[str, ...]:
    """Parse words between commas."""
    return tuple(word.strip() for word in text.split(","))


def classes(text: str) -> int | tuple[str, ...]:
    """Parse a number of classes, at least 2, or their names between commas."""
    names = words(text)
    if len(names) == 1:
        return whole(2)(text)
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected a number, or names that differ, got {text}")
    return names


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--gpu``."""
    parser.add_argument("--gpu", action="store_true", help="compute with CuPy on the GPU")


def add_tile(parser: argparse.ArgumentParser) -> None:
    """Declare ``--tile``."""
    parser.add_argument(
        "--tile", type=whole(1), metavar="PIXELS",
        help="longest side of what is computed at a time (default: 768, or more for a network that "
        "sees far): larger images are cut into pieces that overlap by all that the network sees, "
        "or they would take too much memory",
    )


def add_mpi(parser: argparse.ArgumentParser) -> None:
    """Declare ``--mpi``."""
    parser.add_argument(
        "--mpi", action="store_true",
        help="share the work with the other processes that mpiexec started with this one",
    )


def ranks_of(options: argparse.Namespace) -> Ranks:
    """Return MPI's ranks if ``--mpi`` was given, else this process alone.

    Other ranks than the first print nothing but errors.

    Raises
    ------
    ImportError
        If mpi4py or an MPI is missing.
    ValueError
        If mpiexec started several processes and ``--mpi`` was not given.
    """
    if options.mpi:
        ranks = mpi.mpi(gpu=options.gpu)
        if ranks.rank:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return ranks
    if (count := mpi.started()) > 1:
        raise ValueError(
            f"started as {count} processes that would each do all of the work alone: add --mpi"
        )
    return Alone()


def array_library(options: argparse.Namespace) -> ModuleType:
    """Return CuPy if ``--gpu`` was given, else NumPy.

    Raises
    ------
    ImportError
        If CuPy is not installed.
    """
    return require("cupy", extra="gpu") if options.gpu else np
