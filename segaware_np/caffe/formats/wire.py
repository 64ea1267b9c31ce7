"""Caffe's binary files: caffemodel (weights) and solverstate, read and written without protobuf.

The reader trusts nothing: every length is checked against the bytes that are there, messages
nest no deeper than the format does, array data is taken from the file without an intermediate
copy, and a shape is believed only if it accounts for exactly the numbers that came with it. So a
file costs no more memory than a small multiple of its size, and a damaged one is a `FormatError`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from segaware_np.decoding import decode_stream
from segaware_np.files import FormatError, atomic_write, check_file, remove_leftovers

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_RAW = {0: "<f8", 1: "<f4", 2: "<f2"}  # what NVIDIA's Caffe calls double, float and float16
_MAX_AXES = 32  # as Caffe's
_OTHERS = {  # by their first bytes
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (snapshot_format: BINARYPROTO makes the other kind)",
    b"PK\x03\x04": "a zip archive (arrays of NumPy are read from files named .npz)",
}

Value: TypeAlias = int | memoryview


@dataclass
class LayerWeights:
    """The parameters of one layer of a caffemodel."""

    name: str
    type: str = ""
    blobs: list[np.ndarray] = field(default_factory=list)


@dataclass
class SolverState:
    """What a solver needs, besides the parameters, to go on where it was."""

    iteration: int = 0
    learned_net: str = ""
    history: list[np.ndarray] = field(default_factory=list)
    current_step: int = 0
    extra: dict[str, Any] = field(default_factory=dict)  # this library's own; Caffe skips it


def read_caffemodel(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """Read the layers of a caffemodel that hold parameters, in the file's order.

    Both the current format and the older ``layers`` one are read, parameters with the current or
    the older (num, channels, height, width) shape, in single or double precision.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is damaged or of another kind.
    """
    layers, any_layer = [], False
    for number, value in _fields(_load(path), path):
        if number in (100, 2):  # layer, and layers in the older format
            any_layer = True
            name, type_, blob = (1, 2, 7) if number == 100 else (4, 5, 6)
            layer = _layer(_message(value, path), name, type_, blob, path)
            if layer.blobs:
                layers.append(layer)
    if not any_layer:
        raise FormatError(f"{path}: not a caffemodel, or one without layers")
    return layers


def write_caffemodel(
    path: str | os.PathLike[str], layers: Iterable[LayerWeights], name: str = ""
) -> None:
    """Write a caffemodel; it appears whole or not at all. float64 arrays stay float64."""
    out = [_field(1, name.encode())]
    for layer in layers:
        body = [_field(1, layer.name.encode()), _field(2, layer.type.encode())]
        body += [_field(7, _write_blob(blob)) for blob in layer.blobs]
        out.append(_field(100, b"".join(body)))
    _store(path, out)


def read_solverstate(path: str | os.PathLike[str]) -> SolverState:
    """Read a solverstate. Errors are those of `read_caffemodel`."""
    state = SolverState()
    seen = False
    for number, value in _fields(_load(path), path):
        seen = seen or number in (1, 3)
        if number == 1:
            state.iteration = _int(value, path)
        elif number == 2:
            state.learned_net = _text(value, path)
        elif number == 3:
            state.history.append(_read_blob(_message(value, path), path))
        elif number == 4:
            state.current_step = _int(value, path)
        elif number == 1000:
            state.extra = _json(_text(value, path), path)
    if not seen:
        raise FormatError(f"{path}: not a solverstate")
    return state


def write_solverstate(path: str | os.PathLike[str], state: SolverState) -> None:
    """Write a solverstate; it appears whole or not at all."""
    out = [_number(1, state.iteration), _field(2, state.learned_net.encode())]
    out += [_field(3, _write_blob(blob)) for blob in state.history]
    out.append(_number(4, state.current_step))
    if state.extra:
        out.append(_field(1000, json.dumps(state.extra).encode()))
    _store(path, out)


def read_blob(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a file that holds one array (Caffe's ``binaryproto``, the format of mean images)."""
    return _read_blob(_load(path), path)


class Datum(NamedTuple):
    """One record of a database: an image (C, H, W), blue first if it was encoded, and a label."""

    image: np.ndarray
    label: int


def read_datum(data: bytes, where: str) -> Datum:
    """Read a record of a database; raises FormatError, which says where it is, if it is damaged."""
    sides, label, encoded = {1: 0, 2: 0, 3: 0}, 0, False
    raw, floats = b"", [memoryview(b"")][:0]
    for number, value in _fields(memoryview(data), where):
        if number in sides:
            sides[number] = _int(value, where)
        elif number == 4:
            raw = bytes(_message(value, where))
        elif number == 5:
            label = _int(value, where)
        elif number == 6:
            _collect(floats, value, 4)  # type: ignore[arg-type]
        elif number == 7:
            encoded = bool(_int(value, where))
    if encoded:
        rgb = decode_stream(BytesIO(raw), where).rgb(upright=False)
        return Datum(rgb[..., ::-1].transpose(2, 0, 1), label)
    image = np.frombuffer(b"".join(floats), "<f4") if floats else np.frombuffer(raw, np.uint8)
    shape = tuple(sides.values())
    if min(shape) < 1 or math.prod(shape) != image.size:
        raise FormatError(f"{where}: {image.size} numbers do not make an image {shape}")
    return Datum(image.reshape(shape), label)


# -- messages -------------------------------------------------------------------------------------


def _layer(
    data: memoryview, name: int, type_: int, blob: int, path: str | os.PathLike[str]
) -> LayerWeights:
    layer = LayerWeights("")
    for number, value in _fields(data, path):
        if number == name:
            layer.name = _text(value, path)
        elif number == type_ and not isinstance(value, int):  # a number in the older format
            layer.type = _text(value, path)
        elif number == blob:
            layer.blobs.append(_read_blob(_message(value, path), path))
    return layer


def _read_blob(data: memoryview, path: str | os.PathLike[str]) -> np.ndarray:
    old = {}  # num, channels, height, width
    shape: list[int] | None = None
    pieces: dict[str, list[memoryview | bytearray]] = {"<f4": [], "<f8": []}
    raw_kind, raw_data = 0, None  # of NVIDIA's Caffe
    for number, value in _fields(data, path):
        if number in (1, 2, 3, 4):
            old[number] = _int(value, path)
        elif number == 7:
            shape = _read_shape(_message(value, path), path)
        elif number in (5, 8):
            _collect(pieces["<f4" if number == 5 else "<f8"], value, 4 if number == 5 else 8)
        elif number == 10:
            raw_kind = _int(value, path)
        elif number == 12:
            raw_data = _message(value, path)
    if shape is None and old:
        shape = [old.get(number, 0) for number in (1, 2, 3, 4)]
    if raw_data is not None:
        return _raw(raw_data, raw_kind, shape, path)
    if not any(map(len, (*pieces["<f4"], *pieces["<f8"]))) and not math.prod(shape or [0]):
        return np.zeros(0, np.float32)  # a layer that keeps nothing
    if bool(pieces["<f4"]) == bool(pieces["<f8"]):
        raise FormatError(f"{path}: an array without numbers, or in two precisions")
    kind = "<f4" if pieces["<f4"] else "<f8"
    raw = pieces[kind][0] if len(pieces[kind]) == 1 else b"".join(pieces[kind])
    if len(raw) == 0 or len(raw) % int(kind[-1]):
        raise FormatError(f"{path}: an array is empty, or cut off in the middle of a number")
    array = np.frombuffer(raw, kind)
    if shape is None:
        shape = [array.size]
    if any(d < 0 for d in shape) or math.prod(shape) != array.size:
        raise FormatError(f"{path}: {array.size} numbers do not make an array of shape {shape}")
    return array.reshape(shape).astype(array.dtype.newbyteorder("="))


def _raw(
    data: memoryview, kind: int, shape: list[int] | None, path: str | os.PathLike[str]
) -> np.ndarray:
    """An array as NVIDIA's Caffe stores it, in double, single or half precision."""
    if kind not in _RAW:
        raise FormatError(f"{path}: raw_data of type {kind}; expected one of "
                          f"{', '.join(_RAW.values())}")
    if len(data) % int(_RAW[kind][-1]):
        raise FormatError(f"{path}: an array is cut off in the middle of a number")
    array = np.frombuffer(data, _RAW[kind])
    shape = [array.size] if shape is None else shape
    if any(d < 0 for d in shape) or math.prod(shape) != array.size:
        raise FormatError(f"{path}: {array.size} numbers do not make an array of shape {shape}")
    return array.reshape(shape).astype(np.float64 if kind == 0 else np.float32)


def _collect(pieces: list[memoryview | bytearray], value: Value, size: int) -> None:
    if not isinstance(value, int):
        pieces.append(value)  # packed
        return
    if not (pieces and isinstance(pieces[-1], bytearray)):
        pieces.append(bytearray())
    pieces[-1] += (value & (2 ** (8 * size) - 1)).to_bytes(size, "little")


def _read_shape(data: memoryview, path: str | os.PathLike[str]) -> list[int]:
    shape: list[int] = []
    for number, value in _fields(data, path):
        if number != 1:
            continue
        if isinstance(value, int):
            shape.append(_signed(value))
        else:
            at = 0
            while at < len(value) and len(shape) <= _MAX_AXES:
                dim, at = _varint(value, at, path)
                shape.append(_signed(dim))
        if len(shape) > _MAX_AXES:
            raise FormatError(f"{path}: an array with more than {_MAX_AXES} axes")
    return shape


def _write_blob(blob: np.ndarray) -> bytes:
    dims = b"".join(_encode(d) for d in blob.shape)
    double = blob.dtype == np.float64
    data = np.ascontiguousarray(blob, "<f8" if double else "<f4").tobytes()
    return _field(7, _field(1, dims)) + _field(8 if double else 5, data)


# -- the wire format ------------------------------------------------------------------------------


def _load(path: str | os.PathLike[str]) -> memoryview:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    check_file(path)
    data = memoryview(path.read_bytes())
    for magic, kind in _OTHERS.items():
        if data[: len(magic)] == magic:
            raise FormatError(f"{path}: expected one of Caffe's protocol-buffer files, got {kind}")
    return data


def _store(path: str | os.PathLike[str], parts: list[bytes]) -> None:
    with atomic_write(path) as file:
        file.writelines(parts)
    with suppress(PermissionError):  # of a folder that may be written and not be read
        remove_leftovers(Path(path).parent, Path(path).name)


def _fields(data: memoryview, path: str | os.PathLike[str]) -> Iterator[tuple[int, Value]]:
    """The fields of one message: numbers as ints, all else as a view of its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at, path)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise FormatError(f"{path}: damaged at a field's number")
        if kind == _VARINT:
            value, at = _varint(data, at, path)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at, path)
        elif kind in (_FOUR, _EIGHT):
            size = 4 if kind == _FOUR else 8
        else:
            raise FormatError(f"{path}: damaged, or not one of Caffe's binary files")
        if size > len(data) - at:
            raise FormatError(f"{path}: truncated ({size} bytes announced, {len(data) - at} there)")
        piece = data[at : at + size]
        yield number, piece if kind == _BYTES else int.from_bytes(piece, "little")
        at += size


def _varint(data: memoryview, at: int, path: str | os.PathLike[str]) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise FormatError(f"{path}: truncated in a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise FormatError(f"{path}: damaged, a number has more than ten bytes")


def _message(value: Value, path: str | os.PathLike[str]) -> memoryview:
    if isinstance(value, int):
        raise FormatError(f"{path}: damaged, a number where a message should be")
    return value


def _text(value: Value, path: str | os.PathLike[str]) -> str:
    try:
        return bytes(_message(value, path)).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: damaged, a name is not text") from error


def _int(value: Value, path: str | os.PathLike[str]) -> int:
    if not isinstance(value, int):
        raise FormatError(f"{path}: damaged, bytes where a number should be")
    return _signed(value)


def _json(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        extra = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: damaged state") from error
    if not isinstance(extra, dict):
        raise FormatError(f"{path}: damaged state")
    return extra


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _encode(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(number: int, value: int) -> bytes:
    return _encode(number << 3 | _VARINT) + _encode(value)


def _field(number: int, data: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(data)) + data
