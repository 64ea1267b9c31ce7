"""Image files: what is written comes back, indices stay indices, damage has a name."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
from image_files import png, tiff
from PIL import Image

from segaware_np.files import FormatError
from segaware_np.images import (
    overlay,
    read_image,
    read_labels,
    voc_palette,
    write_image,
    write_labels,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (9, 14, 3)).astype(np.uint8)
ALL_LABELS = np.arange(256, dtype=np.int32).reshape(8, 32)


@pytest.mark.parametrize(
    ("bits", "palette"),
    [(1, False), (2, False), (4, False), (8, False), (16, False)]
    + [(1, True), (2, True), (4, True), (8, True)],
)
def test_labels_are_the_stored_indices(tmp_path, bits, palette):
    labels = RNG.integers(0, 2**bits, (7, 13))
    labels[0, :2] = 0, 2**bits - 1
    colours = np.zeros((2**bits, 3)) if palette else None
    (tmp_path / "labels.png").write_bytes(png(labels, bits, colours))
    got = read_labels(tmp_path / "labels.png")
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_round_trip(tmp_path, dtype):
    write_labels(tmp_path / "a.png", ALL_LABELS.astype(dtype))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ALL_LABELS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), voc_palette()[ALL_LABELS])


def test_palette_is_that_of_pascal_voc():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {label: tuple(voc_palette()[label]) for label in known} == known
    assert tuple(voc_palette()[255]) == (224, 224, 192)
    assert len(np.unique(voc_palette(), axis=0)) == 256


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "ppm"])
def test_pictures_round_trip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_image(path, PICTURE[:, ::-1])
    np.testing.assert_array_equal(read_image(path), PICTURE[:, ::-1])
    write_image(path, PICTURE[..., 0])
    np.testing.assert_array_equal(read_image(path), PICTURE[..., :1].repeat(3, axis=2))


def test_other_kinds_of_picture_become_rgb(tmp_path):
    deep = RNG.integers(0, 2**16, (5, 6))
    (tmp_path / "deep.png").write_bytes(png(deep, 16))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[..., 1], deep >> 8)
    alpha = np.dstack((PICTURE, np.full(PICTURE.shape[:2], 7, np.uint8)))
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), PICTURE)


@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, read, kept):
    path = tmp_path / "cut.png"
    whole = png(RNG.integers(0, 256, (20, 20)), 8)
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(FormatError, match=r"cut\.png: damaged or not a usable image"):
        read(path)


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_damage_and_absence_are_told_apart(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture at all")
    with pytest.raises(FormatError, match=r"text\.png"):
        read(tmp_path / "text.png")
    for position in (20, 38, 60):  # in the size, in a chunk's name, in the pixels
        flipped = bytearray(png(RNG.integers(0, 256, (20, 20)), 8))
        flipped[position] ^= 0xFF
        (tmp_path / "flipped.png").write_bytes(flipped)
        with pytest.raises(FormatError, match=r"flipped\.png"):
            read(tmp_path / "flipped.png")


def test_damage_at_which_a_decoder_raises_what_no_other_does(tmp_path):
    first = tiff(RNG.integers(0, 256, (4, 5)), 8)
    page_of_nothing = len(first).to_bytes(4, "big") + bytes(6)
    (tmp_path / "a.tif").write_bytes(first[:-4] + page_of_nothing)
    with pytest.raises(FormatError, match=r"a\.tif: damaged or .*\(Missing dimensions\)"):
        read_image(tmp_path / "a.tif")


def test_a_file_of_very_many_pixels_is_not_called_damaged(tmp_path, monkeypatch):
    (tmp_path / "large.png").write_bytes(png(np.zeros((30, 30), int), 1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 449)
    for read in (read_image, read_labels):
        with pytest.raises(FormatError, match=r"large\.png: .*900.* 898 pix") as got:
            read(tmp_path / "large.png")
        assert "damaged" not in str(got.value) and "SEGAWARE_MAX_PIXELS" in str(got.value)
    monkeypatch.setenv("SEGAWARE_MAX_PIXELS", "900")
    assert read_image(tmp_path / "large.png").shape == (30, 30, 3)


def test_colours_are_not_labels(tmp_path):
    write_image(tmp_path / "rgb.png", PICTURE)
    with pytest.raises(FormatError, match=r"rgb\.png: expected class numbers, .* got colours"):
        read_labels(tmp_path / "rgb.png")


def test_overlay_blends_and_leaves_ignored_pixels():
    labels = RNG.integers(0, 5, PICTURE.shape[:2])
    labels[2:4, 3:6] = 255
    got = overlay(PICTURE, labels, strength=0.3)
    for (y, x), label in np.ndenumerate(labels):
        weight = 0 if label == 255 else 0.3
        mixed = (1 - weight) * PICTURE[y, x].astype(float) + weight * voc_palette()[label]
        assert np.abs(got[y, x] - mixed).max() <= 0.501
    np.testing.assert_array_equal(overlay(PICTURE, labels, strength=0), PICTURE)
    everything = overlay(PICTURE, labels, strength=1, ignore_label=None)
    np.testing.assert_array_equal(everything, voc_palette()[labels])


LABELS = np.zeros((9, 14), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: write_image(p, PICTURE.tolist()), TypeError, "image: expected a NumPy"),
        (lambda p: write_image(p, PICTURE / 255), TypeError, "image: expected an? integer"),
        (lambda p: write_image(p, PICTURE.astype(int)), TypeError, "image: expected a uint8"),
        (lambda p: write_image(p, PICTURE[..., :2]), ValueError, r"image: .*\(9, 14, 2\)"),
        (lambda p: write_image(p, PICTURE[:0]), ValueError, r"image: .*\(0, 14, 3\)"),
        (lambda p: write_image(p.with_suffix(".what"), PICTURE), ValueError, r"path: .*a\.what"),
        (lambda p: write_image(p / "b.png", PICTURE), FileNotFoundError, "b.png"),
        (lambda p: write_labels(p, LABELS.tolist()), TypeError, "labels: expected a NumPy"),
        (lambda p: write_labels(p, LABELS * 1.0), TypeError, "labels: expected an? integer"),
        (lambda p: write_labels(p, LABELS[None]), ValueError, r"labels: .*\(1, 9, 14\)"),
        (lambda p: write_labels(p, LABELS - 1), ValueError, r"labels: .*0\.\.255, got -1"),
        (lambda p: write_labels(p, LABELS + 256), ValueError, r"labels: .*0\.\.255, got 256"),
        (lambda p: write_labels(p.with_suffix(".jpg"), LABELS), ValueError, r"path: .*\.png"),
        (lambda p: overlay(PICTURE, LABELS[1:]), ValueError, r"labels: .*\(9, 14\).*\(8, 14\)"),
        (lambda p: overlay(PICTURE[..., 0], LABELS), ValueError, "image: "),
        (lambda p: overlay(PICTURE, LABELS, strength=1.5), ValueError, "strength: .*1.5"),
    ],
)
def test_bad_calls_leave_nothing_behind(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
