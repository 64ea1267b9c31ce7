"""Protocol-buffer text: from characters to a tree of named values, each with its line number.

Nothing here knows Caffe: which names exist and what they hold is `schema`'s business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from segaware_np import files
from segaware_np.files import FormatError, check_file

MAX_DEPTH = 64  # messages within messages; Caffe's own files need five
MAX_BYTES = 64 << 20

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?f?|inf\b|nan\b))
      | (?P<name>[A-Za-z_][\w.]*)
      | (?P<mark>[{}<>:;,\[\]])""",
    re.VERBOSE,
)
_VARIABLE = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\#[^\n]*|\$\{(\w+)\}""", re.VERBOSE
)
_IN_STRING = re.compile(r"\$\{(\w+)\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


class Token(NamedTuple):
    kind: str  # "string", "number", "name", "mark" or "end"
    text: str
    line: int


class Field(NamedTuple):
    """One ``name: value`` of a message: a scalar token, or the fields of a message within."""

    name: str
    value: Token | list[Field]
    line: int


def read_text(path_or_text: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the text of a description and a name for its errors.

    Parameters
    ----------
    path_or_text : path-like or str
        A path, or the description itself (a string with a line break, a brace or a colon that
        names no file).

    Raises
    ------
    FileNotFoundError
        If it is a path that does not exist.
    FormatError
        If the file is not text, or absurdly large.
    """
    if isinstance(path_or_text, str):
        is_file = "\n" not in path_or_text and len(path_or_text) < 4096 and _exists(path_or_text)
        if not is_file and re.search(r"[\n{:]", path_or_text):
            return path_or_text.removeprefix("\ufeff"), "text"
    path = Path(path_or_text)
    if not _exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    check_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(f"{path}: too large for a description ({path.stat().st_size} bytes)")
    return files.read_text(path), str(path)


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or with a zero character in it
        return False


def unknown_variables(text: str, variables: Mapping[str, object]) -> list[str]:
    """The ``${NAME}`` of a text, in order, that have no value."""
    found = dict.fromkeys(
        name for match in _VARIABLE.finditer(text)
        for name in (_IN_STRING.findall(match[1]) if match[1] else [match[2]] if match[2] else [])
    )
    return [name for name in found if name not in variables]


def fill_variables(text: str, variables: Mapping[str, object]) -> str:
    """Replace ``${NAME}`` by the value of that variable, in strings and outside, not in comments.

    Raises
    ------
    ValueError
        If variables have no value; the message lists all of them.
    """
    missing: dict[str, None] = {}

    def value(name: str) -> str:
        if name not in variables:
            missing[name] = None
        return str(variables.get(name, ""))

    def replace(match: re.Match[str]) -> str:
        string, name = match.groups()
        if string is not None:
            return _IN_STRING.sub(lambda inner: value(inner[1]), string)
        return match[0] if name is None else value(name)

    filled = _VARIABLE.sub(replace, text)
    if missing:
        raise ValueError(f"variables: no value given for {', '.join(missing)}")
    return filled


def parse(text: str, source: str = "text") -> list[Field]:
    """Parse protocol-buffer text into a tree of fields.

    Raises
    ------
    FormatError
        If the text is malformed; the message names the line.
    """
    return _Parser(text, source).message(None, 0, 1)


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.source, self.tokens = source, _tokens(text, source)
        self.next = next(self.tokens)

    def take(self) -> Token:
        token = self.next
        if token.kind != "end":
            self.next = next(self.tokens)
        return token

    def fail(self, message: str, line: int) -> FormatError:
        return FormatError(f"{self.source}, line {line}: {message}")

    def message(self, closing: str | None, depth: int, opened: int) -> list[Field]:
        if depth > MAX_DEPTH:
            raise self.fail(f"messages nested more than {MAX_DEPTH} deep", self.next.line)
        fields: list[Field] = []
        while True:
            token = self.take()
            if token.kind == "end":
                if closing is None:
                    return fields
                raise self.fail(f"the text ends before the '{closing}' of this message", opened)
            if token.text == closing and token.kind == "mark":
                return fields
            if token.kind != "name":
                raise self.fail(f"expected the name of a field, got {token.text!r}", token.line)
            self.field(token, fields, depth)
            if self.next.kind == "mark" and self.next.text in ";,":
                self.take()

    def field(self, name: Token, fields: list[Field], depth: int) -> None:
        colon = self.next.kind == "mark" and self.next.text == ":"
        if colon:
            self.take()
        if colon and self.next.kind == "mark" and self.next.text == "[":
            self.take()
            while not (self.next.kind == "mark" and self.next.text == "]"):
                fields.append(Field(name.text, self.value(True, name, depth), name.line))
                if self.next.kind == "mark" and self.next.text == ",":
                    self.take()
            self.take()
        else:
            fields.append(Field(name.text, self.value(colon, name, depth), name.line))

    def value(self, colon: bool, name: Token, depth: int) -> Token | list[Field]:
        token = self.take()
        if token.kind == "mark" and token.text in "{<":
            return self.message("}" if token.text == "{" else ">", depth + 1, token.line)
        if not colon:
            raise self.fail(f"expected ':' or '{{' after {name.text!r}", name.line)
        if token.kind not in ("string", "number", "name"):
            what = "the end" if token.kind == "end" else repr(token.text)
            raise self.fail(f"expected a value for {name.text!r}, got {what}", name.line)
        parts = [token.text]
        while token.kind == "string" and self.next.kind == "string":
            parts.append(self.take().text)  # adjacent strings are one
        return token._replace(text="".join(parts))


def _tokens(text: str, source: str) -> Iterator[Token]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            end = text.find("\n", at)
            piece = text[at : end if end >= 0 else None]
            raise FormatError(f"{source}, line {line}: cannot make sense of {piece[:40]!r}")
        kind, at = str(match.lastgroup), match.end()
        if kind == "string":
            yield Token(kind, _unescape(match[0][1:-1]), line)
        elif kind != "space":
            yield Token(kind, match[0], line)
        line += match[0].count("\n")
    yield Token("end", "", line)


def _unescape(string: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), string)
