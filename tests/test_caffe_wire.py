"""Caffe's binary files: byte by byte against the format, round trips, and damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net
from segaware_np.caffe.formats.wire import (
    LayerWeights,
    SolverState,
    read_blob,
    read_caffemodel,
    read_solverstate,
    write_caffemodel,
    write_solverstate,
)
from segaware_np.files import FormatError


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([(number << 3 | 2) & 0x7F | 0x80, (number << 3 | 2) >> 7, len(data)]) + data


def number(number_: int, value: int) -> bytes:
    return bytes([number_ << 3, value])


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


FLOATS = struct.pack("<6f", *range(6))
SHAPE = field(7, field(1, bytes([2, 3])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_caffemodel_round_trip(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((2, 3, 1, 5), (4,), (), (300, 7))]
    layers = [LayerWeights("conv1", "Convolution", arrays[:2]),
              LayerWeights("s", "Scale", arrays[2:])]
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, layers, "a net")
    found = read_caffemodel(path)
    assert [(layer.name, layer.type) for layer in found] == [
        ("conv1", "Convolution"), ("s", "Scale")]
    for layer, twin in zip(layers, found, strict=True):
        for a, b in zip(layer.blobs, twin.blobs, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
            assert b.flags.owndata or b.base is not None


def test_protobuf_reads_what_we_write(tmp_path: Path) -> None:
    """Wire types and numbers as Google's library sees them."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")

    def message(name: str, *fields: tuple[str, int, str, str]) -> None:
        kinds = {"string": 9, "float": 2, "int64": 3}
        out = file.message_type.add(name=name)
        for field_name, number_, type_, label in fields:
            entry = out.field.add(name=field_name, number=number_, label=3 if "*" in label else 1)
            entry.type = kinds.get(type_, 11)
            if entry.type == 11:
                entry.type_name = f".t.{type_}"
            elif "packed" in label:
                entry.options.packed = True

    message("Shape", ("dim", 1, "int64", "*packed"))
    message("Blob", ("shape", 7, "Shape", ""), ("data", 5, "float", "*packed"))
    message("Layer", ("name", 1, "string", ""), ("type", 2, "string", ""),
            ("blobs", 7, "Blob", "*"))
    message("Net", ("name", 1, "string", ""), ("layer", 100, "Layer", "*"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    net = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Net"))()
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, [LayerWeights("c", "Convolution", [np.ones((2, 300), "f4")])], "n")
    net.ParseFromString(path.read_bytes())
    (layer,) = net.layer
    assert (net.name, layer.name, layer.type) == ("n", "c", "Convolution")
    assert list(layer.blobs[0].shape.dim) == [2, 300]
    assert list(layer.blobs[0].data) == [1.0] * 600


def test_older_spellings(tmp_path: Path) -> None:
    """The layers of the older format, four-axis shapes, numbers that are not packed."""
    four = number(1, 1) + number(2, 1) + number(3, 2) + number(4, 3)
    loose = b"".join(bytes([5 << 3 | 5]) + FLOATS[i : i + 4] for i in range(0, 24, 4))
    old = field(2, field(4, b"fc") + number(5, 14) + field(6, four + loose))
    new = field(100, field(1, b"c") + field(7, SHAPE + field(5, FLOATS)))
    skipped = field(100, field(1, b"relu")) + bytes([3 << 3 | 1]) + bytes(8)
    fc, c = read_caffemodel(save(tmp_path / "m", old + skipped + new))
    assert (fc.name, fc.blobs[0].shape, c.blobs[0].shape) == ("fc", (1, 1, 2, 3), (2, 3))
    np.testing.assert_array_equal(fc.blobs[0].ravel(), range(6))
    np.testing.assert_array_equal(c.blobs[0].ravel(), range(6))
    mean = read_blob(save(tmp_path / "b", SHAPE + field(5, FLOATS[:12]) + field(5, FLOATS[12:])))
    np.testing.assert_array_equal(mean.ravel(), range(6))  # packed in two pieces


def test_a_blob_that_keeps_nothing_is_empty(tmp_path: Path) -> None:
    """Some layers store one; it must not stop the others."""
    none = field(7, field(1, b"\x00"))  # a shape of one axis of no pixels
    for blob in (b"", none, none + field(5, b""), field(5, b""), number(1, 0)):
        data = field(100, field(1, b"odd") + field(7, blob))
        data += field(100, field(1, b"c") + field(7, SHAPE + field(5, FLOATS)))
        odd, c = read_caffemodel(save(tmp_path / "m.caffemodel", data))
        assert odd.blobs[0].size == 0
        np.testing.assert_array_equal(c.blobs[0].ravel(), range(6))
        net = Net('input: "x" input_shape { dim: 1 dim: 3 } layer { name: "c" type: "InnerProduct" '
                  'bottom: "x" top: "y" inner_product_param { num_output: 2 bias_term: false } }')
        with pytest.warns(UserWarning, match="left out, .*: 'odd'"):
            assert net.copy_from(tmp_path / "m.caffemodel") == ["c"]


def test_files_of_another_kind_are_called_by_their_name(tmp_path: Path) -> None:
    for data, message in (
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "got an HDF5 file"),
        (b"PK\x03\x04" + bytes(99), "got a zip archive"),
    ):
        with pytest.raises(FormatError, match=message):
            read_caffemodel(save(tmp_path / "weights.caffemodel.h5", data))


def test_solverstate_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate"
    state = SolverState(300, "a.caffemodel", [np.ones((2, 2), "f4"), np.zeros((), "f4")], 2,
                        {"seed": 1})
    write_solverstate(path, state)
    found = read_solverstate(path)
    assert (found.iteration, found.learned_net, found.current_step, found.extra) == (
        300, "a.caffemodel", 2, {"seed": 1})
    assert [a.shape for a in found.history] == [(2, 2), ()]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a caffemodel"),
        (b"P5 255 not a model", "damaged|truncated|not one of"),
        (field(1, b"only a name"), "not a caffemodel"),
        (field(100, b"")[:-1] + b"\x7f", "truncated"),
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated"),  # a length of 2^63 - 1
        (b"\xff" * 20, "ten bytes"),
        (b"\xa2", "truncated in a number"),
        (bytes([100 << 3 & 0x7F | 0x80, 100 << 3 >> 7, 5]), "a number where a message"),
        (field(100, field(1, b"\xff")), "a name is not text"),
        (field(100, field(7, SHAPE)), "without numbers"),
        (field(100, field(7, SHAPE + field(5, FLOATS[:-4]))), r"5 numbers do not make .*\[2, 3\]"),
        (field(100, field(7, SHAPE + field(5, FLOATS[:-1]))), "in the middle of a number"),
        (field(100, field(7, SHAPE + field(5, b""))), "empty"),
        (field(100, field(7, field(7, field(1, b"\xff" * 9 + b"\x01")) + field(5, FLOATS[:4]))),
         "do not make an array"),  # a negative size
        (field(100, field(7, field(7, field(1, bytes([1] * 40))) + field(5, FLOATS[:4]))), "axes"),
        (field(100, field(7, field(5, FLOATS[:8]) + field(8, FLOATS[:8]))), "two precisions"),
    ],
)
def test_damage_has_a_name(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_caffemodel(save(tmp_path / "m", data))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_caffemodel(tmp_path / "none")
    with pytest.raises(FormatError, match="not a solverstate"):
        read_solverstate(save(tmp_path / "s", field(2, b"a")))
    with pytest.raises(FormatError, match="damaged state"):
        read_solverstate(save(tmp_path / "s", number(1, 3) + b"\xc2\x3e\x02[]"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = save(tmp_path / "m", b"old")
    broken = LayerWeights("c", "Convolution", [np.ones(3, "f4"), "no array"])  # type: ignore[list-item]
    with pytest.raises(AttributeError):
        write_caffemodel(path, [broken])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
