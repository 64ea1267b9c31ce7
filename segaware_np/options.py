"""Dataclass fields that say which values they accept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True)
class Range:
    """What an option accepts, in words for the message and as a test.

    Attributes
    ----------
    words : str
        For the message.
    holds : callable
        The test.
    kind : type
        What the value must be an instance of.
    """

    words: str
    holds: Callable[[Any], bool]
    kind: Any = Real


FINITE = Range("a finite number", lambda value: True)
NOT_NEGATIVE = Range("a finite number of at least 0", lambda value: value >= 0)
POSITIVE = Range("a finite number above 0", lambda value: value > 0)
FRACTION = Range("a number in [0, 1)", lambda value: 0 <= value < 1)
COUNT = Range("an integer of at least 1", lambda value: value >= 1, Integral)


def option(accepts: Range, default: Any = MISSING) -> Any:
    """Return a dataclass field that `check_options` checks; a default of None permits None.

    Parameters
    ----------
    accepts : Range
    default : object, optional
    """
    return field(default=default, metadata={"accepts": accepts})


def check(name: str, value: Any, accepts: Range) -> None:
    """Raise unless ``value`` is in the range.

    Parameters
    ----------
    name : str
        The option's name, for the message.
    value : object
    accepts : Range

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, or outside.
    """
    message = f"{name}: expected {accepts.words}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, accepts.kind):
        raise TypeError(message)
    if not (isfinite(value) and accepts.holds(value)):
        raise ValueError(message)


def check_options(options: Any) -> None:
    """Check every field of a dataclass instance that was declared with `option`.

    Parameters
    ----------
    options : dataclass instance

    Raises
    ------
    TypeError, ValueError
        If one is of another kind, or out of its range.
    """
    for item in fields(options):
        value = getattr(options, item.name)
        if "accepts" in item.metadata and not (value is None and item.default is None):
            check(item.name, value, item.metadata["accepts"])
