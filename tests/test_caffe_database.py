"""Data out of databases and the forks' lists: records and pictures made here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net
from segaware_np.caffe.formats.wire import read_datum
from segaware_np.files import FormatError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(8)
PICTURES = RNG.integers(0, 256, (5, 3, 6, 8), dtype=np.uint8)


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def piece(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def datum(image: np.ndarray, label: int) -> bytes:
    sides = b"".join(number(k, side) for k, side in enumerate(image.shape, start=1))
    data = piece(4, image.tobytes()) if image.dtype == np.uint8 else piece(
        6, image.astype("<f4").tobytes())
    return sides + data + number(5, label)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "db")) as environment, environment.begin(write=True) as put:
        for k in (3, 1, 0, 2, 4):  # keys tell the order
            put.put(f"{k:08d}".encode(), datum(PICTURES[k], 10 + k))
    return tmp_path / "db"


def text(database: Path, options: str = "", transform: str = "", tops: str = "data label") -> str:
    names = " ".join(f'top: "{top}"' for top in tops.split())
    return (f'layer {{ name: "d" type: "Data" {names} data_param {{ source: "{database}" '
            f"backend: LMDB batch_size: 2 {options} }} transform_param {{ {transform} }} }}")


def test_records_come_in_the_order_of_their_keys_round_and_round(database: Path) -> None:
    net = Net(text(database))
    assert net.blobs["data"].shape == (2, 3, 6, 8)
    found = [(out["data"].copy(), out["label"].copy()) for out in (net.forward() for _ in range(3))]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]),
                                  [10, 11, 12, 13, 14, 10])
    np.testing.assert_array_equal(found[1][0], PICTURES[2:4])


def test_means_crops_and_scales(database: Path) -> None:
    transform = "mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5 crop_size: 4 mirror: false"
    out = Net(text(database, transform=transform)).forward()["data"]
    mean = np.array([1, 2, 3]).reshape(3, 1, 1)
    np.testing.assert_array_equal(out, (PICTURES[:2, :, 1:5, 2:6] - mean) / 2)
    net = Net(text(database, transform="crop_size: 4 mirror: true"), phase="TRAIN")
    seen = {net.forward()["data"][0].tobytes() for _ in range(30)}
    assert len(seen) > 5  # of five pictures, cropped and mirrored at random
    again = Net(text(database, transform="crop_size: 4 mirror: true"), phase="TRAIN")
    again.forward()
    assert again.blobs["data"].data[0].tobytes() in seen  # by the seed
    with pytest.raises(FormatError, match="smaller than crop_size 7"):
        Net(text(database, transform="crop_size: 7"))
    with pytest.raises(FormatError, match="does not fit images"):
        Net(text(database, transform="mean_value: 1 mean_value: 2"))


def test_databases_that_are_none(database: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such database"):
        Net(text(tmp_path / "other"))
    (tmp_path / "level").mkdir()
    (tmp_path / "level" / "CURRENT").write_text("x")
    with pytest.raises(FormatError, match="LevelDB is not read"):
        Net(text(tmp_path / "level").replace("backend: LMDB", ""))
    (database / "data.mdb").write_bytes(b"rubbish" * 1000)
    with pytest.raises(FormatError, match="not an LMDB, or a damaged one"):
        Net(text(database))
    with pytest.raises(FormatError, match="crop_size has no effect in data_param"):
        Net(text(database, "crop_size: 3"))


def test_records_encoded_or_of_floats_or_damaged() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURES[0].transpose(1, 2, 0)[..., ::-1]).save(buffer, "PNG")
    record = piece(4, buffer.getvalue()) + number(5, 3) + number(7, 1)
    np.testing.assert_array_equal(read_datum(record, "r").image, PICTURES[0])  # blue first
    assert read_datum(record, "r").label == 3
    floats = RNG.normal(size=(2, 1, 3)).astype("f4")
    np.testing.assert_array_equal(read_datum(datum(floats, 0), "r").image, floats)
    one = b"".join(number(k, 1) for k in (1, 2, 3)) + varint(6 << 3 | 5) + floats.tobytes()[:4]
    np.testing.assert_array_equal(read_datum(one, "r").image, floats[:1, :1, :1])
    for broken, message in ((record[:-30], "truncated|damaged"), (number(1, 3), "0 numbers do not"),
                            (piece(1, b"x"), "bytes where a number"), (b"\xff", "truncated"),
                            (piece(4, b"no picture") + number(7, 1), "damaged or not a usable")):
        with pytest.raises(FormatError, match=message):
            read_datum(broken, "record 7")


# -- lists of forks -------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for k in range(3):
        Image.fromarray(PICTURES[k].transpose(1, 2, 0)).save(tmp_path / f"i{k}.png")
        Image.fromarray(PICTURES[k, 0]).save(tmp_path / f"l{k}.png")
    (tmp_path / "list.txt").write_text("\n".join(f"i{k}.png l{k}.png" for k in range(3)))
    return tmp_path


def fork(type_: str, param: str, options: str, transform: str = "") -> str:
    return (f'layer {{ name: "d" type: "{type_}" top: "data" top: "label" {param} {{ {options} }} '
            f"transform_param {{ {transform} }} }}")


def test_dense_image_data(pairs: Path) -> None:
    source = f'source: "{pairs}/list.txt" batch_size: 2'
    out = Net(fork("DenseImageData", "dense_image_data_param", source, "mean_value: 4")).forward()
    np.testing.assert_array_equal(out["data"], PICTURES[:2, ::-1].astype(int) - 4)
    np.testing.assert_array_equal(out["label"], PICTURES[:2, :1])
    half = Net(fork("DenseImageData", "dense_image_data_param", source + " label_divide_factor: 2"))
    assert half.blobs["label"].shape == (2, 1, 3, 4)
    np.testing.assert_array_equal(half.forward()["label"], PICTURES[:2, :1, ::2, ::2])
    crop = source + " crop_height: 4 crop_width: 3 mirror: true"
    net = Net(fork("DenseImageData", "dense_image_data_param", crop), phase="TEST")
    assert net.blobs["data"].shape == (2, 3, 4, 3)
    for _ in range(4):  # labels are the red of the picture, wherever it was cut
        out = net.forward()
        np.testing.assert_array_equal(out["label"][:, 0], out["data"][:, 2])
    with pytest.raises(FormatError, match="use crop_height, crop_width and mirror here"):
        Net(fork("DenseImageData", "dense_image_data_param", source, "crop_size: 3"))
    with pytest.raises(FormatError, match="smaller than the crop"):
        Net(fork("DenseImageData", "dense_image_data_param",
                 source + " crop_height: 7 crop_width: 3")).forward()


def test_maps_of_edges(pairs: Path) -> None:
    net = Net(fork("ImageLabelmapData", "image_data_param", f'source: "{pairs}/list.txt"'))
    np.testing.assert_allclose(net.forward()["label"][0, 0], PICTURES[0, 0] / 255, 1e-6)
    assert "HED's Caffe rounds" in net.notes[0]


def test_windows_of_images(pairs: Path) -> None:
    (pairs / "windows.txt").write_text("/i0.png /l0.png 1 2 3 5\n/i1.png /l1.png -1 -2 1 1\n")
    source = f'source: "{pairs}/windows.txt" root_folder: "{pairs}" label_type: PIXEL'
    net = Net(fork("WindowSegData", "image_data_param", source))
    out = net.forward()
    np.testing.assert_array_equal(out["data"][0], PICTURES[0, ::-1, 2:6, 1:4])
    np.testing.assert_array_equal(out["label"][0, 0], PICTURES[0, 0, 2:6, 1:4])
    out = net.forward()
    np.testing.assert_array_equal(out["data"][0, :, 2:, 1:], PICTURES[1, ::-1, :2, :2])
    assert not out["data"][0, :, :2].any()
    assert (out["label"][0, 0, :2] == 255).all()
    (pairs / "windows.txt").write_text("/i0.png /l0.png 1 2 3\n")
    with pytest.raises(FormatError, match=r"windows.txt:1: expected 'image labels x1 y1 x2 y2'"):
        Net(fork("WindowSegData", "image_data_param", source))
    (pairs / "windows.txt").write_text("/i0.png /l0.png 5 2 3 9\n")
    with pytest.raises(FormatError, match=r"windows.txt:1: expected x1 <= x2"):
        Net(fork("WindowSegData", "image_data_param", source))


def test_memory_data_is_set_by_the_caller() -> None:
    net = Net('layer { name: "d" type: "MemoryData" top: "x" top: "y" memory_data_param '
              "{ batch_size: 2 channels: 3 height: 4 width: 5 } }")
    assert net.inputs == ["x", "y"]
    assert [net.blobs[name].shape for name in net.inputs] == [(2, 3, 4, 5), (2,)]
    with pytest.raises(FormatError, match="expected at least 1 each"):
        Net('layer { name: "d" type: "MemoryData" top: "x" memory_data_param { batch_size: 2 } }')


WINDOWS = """# 0
{folder}/i0.png
3
6
8
3
7 0.9 1 1 4 4
9 0.1 0 0 3 3
5 0.4 2 2 3 3
# 1
{folder}/i1.png
3 6 8 1
2 0.6 -2 1 1 4
"""


def windows(pairs: Path, options: str = "", transform: str = "crop_size: 4") -> str:
    (pairs / "windows").write_text(WINDOWS.format(folder=pairs))
    return (f'layer {{ name: "d" type: "WindowData" top: "data" top: "label" window_data_param {{ '
            f'source: "{pairs}/windows" batch_size: 8 bg_threshold: 0.3 {options} }} '
            f"transform_param {{ {transform} }} }}")


def test_windows_with_classes(pairs: Path) -> None:
    out = Net(windows(pairs)).forward()
    labels = out["label"].tolist()
    assert labels[:6] == [0] * 6  # the background first
    assert set(labels[6:]) <= {2, 7}
    np.testing.assert_array_equal(out["data"][0], PICTURES[0, ::-1, :4, :4])
    seen = {}
    net = Net(windows(pairs, "fg_fraction: 1", "crop_size: 4 mean_value: 3 scale: 0.5"))
    for _ in range(4):
        out = net.forward()
        seen |= dict(zip(out["label"].tolist(), out["data"].copy(), strict=True))
    np.testing.assert_array_equal(seen[7], (PICTURES[0, ::-1, 1:5, 1:5].astype(float) - 3) / 2)
    assert not seen[2][:, :, :2].any()  # beyond the picture
    np.testing.assert_array_equal(seen[2][:, :, 2:],
                                  (PICTURES[1, ::-1, 1:5, :2].astype(float) - 3) / 2)
    flips = Net(windows(pairs, "fg_fraction: 0", "crop_size: 4 mirror: true")).forward()["data"]
    assert {image.tobytes() for image in flips} == {
        np.ascontiguousarray(p, "f4").tobytes()
        for p in (PICTURES[0, ::-1, :4, :4], PICTURES[0, ::-1, :4, 3::-1])}


def test_windows_with_what_is_around_them(pairs: Path) -> None:
    wide = Net(windows(pairs, "fg_fraction: 0 context_pad: 2", "crop_size: 8")).forward()["data"]
    assert wide.shape == (8, 3, 8, 8)
    assert not wide[:, :, :2].any()  # rows -2 and -1
    assert wide[0, :, 3:6, 3:6].any()
    for text, message in ((windows(pairs, "context_pad: 2"), "more than twice context_pad"),
                          (windows(pairs, 'crop_mode: "round"'), "crop_mode"),
                          (windows(pairs, "fg_threshold: 0.95"), "of objects and of background")):
        with pytest.raises(FormatError, match=message):
            Net(text)
    text = windows(pairs)
    (pairs / "windows").write_text(WINDOWS.format(folder=pairs)[:-8])
    with pytest.raises(FormatError, match="not a list of windows, or cut off"):
        Net(text)
