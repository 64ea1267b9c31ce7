"""Dataclass fields that say which values they accept."""

from __future__ import annotations

import warnings
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
INTEGER = Range("an integer", lambda value: True, Integral)
COUNT = Range("an integer of at least 1", lambda value: value >= 1, Integral)
CLASSES = Range("an integer of at least 2 (one against the rest are two)", lambda value: value >= 2,
                Integral)
WHOLE = Range("an integer of at least 0", lambda value: value >= 0, Integral)


def option(accepts: Range, default: Any = MISSING) -> Any:
    """Return a dataclass field that `check_options` checks; a default of None permits None.

    Parameters
    ----------
    accepts : Range
    default : object, optional
    """
    return field(default=default, metadata={"accepts": accepts})


def check(name: str, value: Any, accepts: Range) -> None:
    """Check one value.

    Parameters
    ----------
    name : str
        What the message calls it.
    value : object
    accepts : Range

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, or out of the range.
    """
    if fault := _fault(value, accepts):
        raise fault(f"{name}: expected {accepts.words}, got {value!r}")


def check_all(name: str, values: Any, accepts: Range, count: int | None = None) -> None:
    """Check each of some values.

    Parameters
    ----------
    name : str
        What the message calls them.
    values : tuple or list
    accepts : Range
    count : int, optional
        How many there must be.

    Raises
    ------
    TypeError, ValueError
        If they are no sequence, too many or few, or one is of another kind or out of the range.
    """
    number = "a sequence of" if count is None else count
    message = f"{name}: expected {number} values, each {accepts.words}, got {values!r}"
    if not isinstance(values, (tuple, list)):
        raise TypeError(message)
    faults = [fault for value in values if (fault := _fault(value, accepts))]
    if faults or count not in (None, len(values)):
        raise next(iter(faults), ValueError)(message)


def _fault(value: Any, accepts: Range) -> type[Exception] | None:
    """What is wrong with a value."""
    if isinstance(value, bool) or not isinstance(value, accepts.kind):
        return TypeError
    return None if isfinite(value) and accepts.holds(value) else ValueError


def warn_of_ignored_class(ignore_label: int | None, classes: int) -> None:
    """Say that 255, by default the label of pixels that do not count, is one of the classes.

    Parameters
    ----------
    ignore_label : int or None
    classes : int

    Warns
    -----
    UserWarning
        If it is.
    """
    if ignore_label == 255 < classes:
        warnings.warn(
            f"ignore_label: 255, the default, is one of the {classes} classes: its pixels do not "
            "count; None lets all count",
            stacklevel=3,
        )


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
