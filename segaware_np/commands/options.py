"""Kinds of option values, with errors that say what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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


def pair(text: str) -> tuple[int, int]:
    """Parse two whole numbers, ``A,B``."""
    numbers = sizes(text)
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError(f"expected two whole numbers as in 120,80, got {text}")
    return numbers[0], numbers[1]


def sizes(text: str) -> tuple[int, ...]:
    """Parse whole numbers between commas, ``24,48,96``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers between commas, got {text}"
        ) from None
