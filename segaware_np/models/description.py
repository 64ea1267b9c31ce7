"""What a model file says of its network, checked before it is believed."""

from __future__ import annotations

import unicodedata
from typing import Any


def checked(description: Any) -> dict[str, Any]:
    """Return the description in a model file if its class names and colours can be relied upon.

    Parameters
    ----------
    description : object

    Raises
    ------
    ValueError
        If it is no description, or they are not what they should be.

    Examples
    --------
    >>> checked({"arguments": {"classes": 3}, "class_names": ["sky", "road"]})
    Traceback (most recent call last):
    ValueError: class_names: expected one for each of 3 classes, got 2
    """
    if not isinstance(description, dict) or not isinstance(description.get("arguments"), dict):
        raise ValueError("it holds no description of one")
    if (names := description.get("class_names")) is not None:
        check_class_names(names)
        classes = description["arguments"].get("classes")
        if classes not in (None, len(names)):
            raise ValueError(
                f"class_names: expected one for each of {classes} classes, got {len(names)}"
            )
    if (palette := description.get("palette")) is not None:
        is_list = isinstance(palette, list) and 0 < len(palette) <= 256
        if not (is_list and all(map(_is_colour, palette))):
            raise ValueError("palette: expected 1 to 256 colours of three integers in 0..255")
    return description


def _is_colour(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in row)
    )


def check_class_names(names: Any) -> None:
    """Check that names of classes are text, differ, and say nothing to a terminal but themselves.

    Parameters
    ----------
    names : sequence of str

    Raises
    ------
    ValueError
        If they are not.

    Examples
    --------
    >>> check_class_names(["sky", "road\\n"])
    Traceback (most recent call last):
    ValueError: class_names: expected different names without control characters, got 'road\\n'
    """
    message = "class_names: expected different names without control characters, got"
    if not isinstance(names, (list, tuple)):
        raise ValueError(f"{message} {names!r}")
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name or name in names[:i] or _has_control(name):
            raise ValueError(f"{message} {name!r}")


def _has_control(text: str) -> bool:
    return any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
