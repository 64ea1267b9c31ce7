"""What a network or solver description may say: every message, its fields, types and defaults.

One line a field: ``name type default``, where ``type`` is ``int``, ``uint`` (at least 0),
``float``, ``bool``, ``str``, the name of a message, or the members of an enumeration joined by
``|``, numbered from 0 or from what the first one says (``L1=1|L2``); a ``*`` behind it means that
the field may be repeated. Fields that this library reads and need not act on (which engine
computes, how a device is chosen) stand here too; a name that does not is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from segaware_np.caffe.formats.messages import DESCRIPTION
from segaware_np.caffe.formats.text import Field, Token
from segaware_np.files import FormatError

_SCALARS: dict[str, tuple[Any, str]] = {  # what one is that is not set, and in words
    "int": (0, "an integer"),
    "uint": (0, "an integer of at least 0"),
    "float": (0.0, "a number"),
    "bool": (False, "true or false"),
    "str": ("", "a string"),
}
_INT_MAX = 2**63 - 1
_SHOWN = 20  # errors listed at once


class _Kind(NamedTuple):
    type: str
    repeated: bool
    default: Any


def _read_description(text: str) -> dict[str, dict[str, _Kind]]:
    messages: dict[str, dict[str, _Kind]] = {}
    for line in filter(str.strip, text.splitlines()):
        if not line.startswith(" "):
            fields = messages[line.strip()] = {}
            continue
        name, type_, *default = line.split()
        repeated, type_ = type_.endswith("*"), type_.rstrip("*")
        fields[name] = _Kind(type_, repeated, _default(type_, default))
    return messages


def _default(type_: str, words: list[str]) -> Any:
    if type_ == "bool":
        return words == ["true"]
    if type_ in _SCALARS:
        zero, _ = _SCALARS[type_]
        return type(zero)(words[0]) if words else zero
    return words[0] if words else next(iter(_members(type_)), None)


@cache
def _members(type_: str) -> dict[str, int]:
    """The members of an enumeration and their numbers; none of another type."""
    if not {"|", "="}.intersection(type_):
        return {}
    first, *others = type_.split("|")
    name, _, start = first.partition("=")
    return {member: number for number, member in enumerate([name, *others], int(start or 0))}


MESSAGES = _read_description(DESCRIPTION)


class Message:
    """A message of a known type, its fields as attributes.

    A field that is not set reads as its default: an empty list where it may be repeated, an empty
    message where it holds one. ``"field" in message`` tells whether it is set.
    """

    def __init__(self, type_: str, line: int = 0, source: str = "text") -> None:
        self._type, self._line, self._source = type_, line, source
        self._values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        kind = MESSAGES[self._type][name]
        if kind.repeated:
            return []
        if kind.type in MESSAGES:
            return Message(kind.type, self._line, self._source)
        return kind.default

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __repr__(self) -> str:
        return f"{self._type}({', '.join(self._values)})"

    def replaced(self, **values: Any) -> Message:
        """Return a copy with some fields set anew; None takes a field out."""
        copy = Message(self._type, self._line, self._source)
        merged = {**self._values, **values}
        copy._values = {name: value for name, value in merged.items() if value is not None}
        return copy

    def error(self, message: str) -> FormatError:
        """Return a `FormatError` that says where in the description this message stands."""
        return FormatError(f"{self._source}, line {self._line}: {message}")


def bind(fields: list[Field], type_: str, source: str = "text") -> Message:
    """Read a tree of fields as a message of the given type.

    Raises
    ------
    FormatError
        If fields are unknown (all are listed, with their lines), set twice, or hold what their
        type cannot.
    """
    faults: list[str] = []
    message = _bind(fields, Message(type_, 1, source), faults)
    if faults:
        more = f"\n... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise FormatError("\n".join(f"{source}, {fault}" for fault in faults[:_SHOWN]) + more)
    return message


def _bind(fields: list[Field], message: Message, faults: list[str]) -> Message:
    kinds, values = MESSAGES[message._type], message._values
    for field in fields:
        kind = kinds.get(field.name)
        if kind is None:
            faults.append(_unknown(field, message._type))
            continue
        if field.name in values and not kind.repeated:
            faults.append(f"line {field.line}: {field.name} is set twice")
            continue
        try:
            value = _value(field, kind.type, message._source, faults)
        except ValueError as error:
            faults.append(f"line {field.line}: {field.name}: {error}")
            continue
        if kind.repeated:
            values.setdefault(field.name, []).append(value)
        else:
            values[field.name] = value
    return message


def _unknown(field: Field, type_: str) -> str:
    return f"line {field.line}: {type_} has no field {field.name!r}{_hint(field.name, type_)}"


def _hint(name: str, type_: str) -> str:
    """What may have been meant: a slip of the pen begins right, a fork's own layer does not."""
    stems = {known.removesuffix("_param"): known for known in MESSAGES[type_]
             if known[0] == name[0]}
    near = difflib.get_close_matches(name.removesuffix("_param"), stems, 1, 0.7)
    if near:
        return f"; did you mean {stems[near[0]]}?"
    return " (of another fork of Caffe?)" * name.endswith("_param")


def _value(field: Field, type_: str, source: str, faults: list[str]) -> Any:
    value = field.value
    if type_ == "raw":
        return value
    if type_ in MESSAGES:
        if isinstance(value, Token):
            raise ValueError(f"expected a message in braces, got {value.text!r}")
        return _bind(value, Message(type_, field.line, source), faults)
    if isinstance(value, list):
        raise ValueError(f"expected {_words(type_)}, got a message")
    return _scalar(value, type_)


def _scalar(token: Token, type_: str) -> Any:
    text = token.text
    if type_ == "str" and token.kind == "string":
        return text
    if type_ == "bool" and text in ("true", "True", "t", "1", "false", "False", "f", "0"):
        return text in ("true", "True", "t", "1")
    if type_ in ("int", "uint") and token.kind == "number":
        number = _integer(text)
        if number is not None and (type_ == "int" or number >= 0):
            return number
    if type_ == "float" and (token.kind == "number" or text in ("inf", "infinity", "nan")):
        return _float(text)
    members = _members(type_)
    if token.kind == "name" and text in members:
        return text
    if token.kind == "number" and _integer(text) in members.values():
        return next(name for name, number in members.items() if number == _integer(text))
    raise ValueError(f"expected {_words(type_)}, got {text!r}")


def _integer(text: str) -> int | None:
    try:
        digits = text.lstrip("+-")
        number = int(text, 16 if digits[:2] in ("0x", "0X") else 10)
    except ValueError:
        return None
    return number if abs(number) <= _INT_MAX else None


def _float(text: str) -> float:
    """Caffe's floats have 32 bits, whatever the precision of the computation."""
    whole = _integer(text)  # also the hexadecimal ones
    plain = text[:-1] if text[-1] == "f" and text[-2] != "n" else text
    with np.errstate(over="ignore"):
        return float(np.float32(float(plain) if whole is None else whole))


def _words(type_: str) -> str:
    return _SCALARS[type_][1] if type_ in _SCALARS else "one of " + ", ".join(_members(type_))
