"""EXIF orientation: photos are seen upright, and labels tell by their size how they lie."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
from command_line import run
from PIL import Image

from segaware_np.data import ImageFolder, PairList
from segaware_np.files import FormatError
from segaware_np.images import read_image, read_labels, read_pair, write_labels
from segaware_np.models import segmentation_network

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8)
SHOWN = {  # by EXIF 2.32, where row 0 and column 0 of what is stored are in what is shown
    1: STORED,  # top, left
    2: STORED[:, ::-1],  # top, right
    3: STORED[::-1, ::-1],  # bottom, right
    4: STORED[::-1],  # bottom, left
    5: STORED.transpose(1, 0, 2),  # left, top
    6: STORED.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: STORED.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: STORED.transpose(1, 0, 2)[::-1],  # left, bottom
}


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(path, orientation, array=STORED, **options):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(array).save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_photos_are_read_as_viewers_show_them(suffix, orientation):
    path = f"a.{suffix}"
    save(path, orientation, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), SHOWN[orientation])
    np.testing.assert_array_equal(read_image(path, upright=False), STORED)
    np.testing.assert_array_equal(ImageFolder(".")[0][0], SHOWN[orientation])


def test_a_photo_of_a_phone():
    save("a.jpg", 6, np.kron(STORED, np.ones((8, 8, 1), np.uint8)), quality=100, subsampling=0)
    shown = read_image("a.jpg")[4::8, 4::8].astype(int)
    assert shown.shape == (6, 4, 3) and np.abs(shown - SHOWN[6]).max() < 12


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_means_nothing(orientation):
    save("a.png", orientation)
    np.testing.assert_array_equal(read_image("a.png"), STORED)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_labels_tell_by_their_size_how_they_lie(suffix, orientation):
    save(f"a.{suffix}", orientation)
    for picture in (STORED, SHOWN[orientation]):
        labels = RNG.integers(0, 9, picture.shape[:2])
        write_labels("l.png", labels)
        for got in (read_pair(f"a.{suffix}", "l.png"), pairs(f"a.{suffix} l.png")[0]):
            np.testing.assert_array_equal(got[0], picture)
            np.testing.assert_array_equal(got[1], labels)


def pairs(text):
    with open("list.txt", "w") as file:
        file.write(text)
    return PairList("list.txt")


@pytest.mark.parametrize(
    ("orientation", "stored", "labels"),
    [(2, (4, 6), (4, 6)), (3, (4, 6), (4, 6)), (4, (4, 6), (4, 6)), (6, (4, 4), (4, 4))],
)
def test_labels_that_fit_both_ways_are_refused(orientation, stored, labels):
    save("a.png", orientation, STORED[: stored[0], : stored[1]])
    write_labels("l.png", np.zeros(labels, int))
    message = rf"a\.png: .* got EXIF orientation {orientation}: l\.png may belong .* save it as"
    with pytest.raises(FormatError, match=message):
        pairs("a.png l.png")[0]


def test_labels_that_fit_neither_way_are_refused():
    save("a.png", 6)
    write_labels("l.png", np.zeros((4, 4), int))
    message = r"l\.png: expected \(6, 4\) or, by its EXIF orientation 6, \(4, 6\) .*got \(4, 4\)"
    with pytest.raises(FormatError, match=message):
        read_pair("a.png", "l.png")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_labels_with_an_orientation_are_refused(suffix):
    save(f"l.{suffix}", 6, STORED[..., 0])
    with pytest.raises(FormatError, match="expected labels without an EXIF orientation, got 6"):
        read_labels(f"l.{suffix}")


def test_commands_see_the_photo_upright(capsys):
    save("photo.png", 6)
    segmentation_network(3, (4,), (1,)).save("m.npz")
    run(capsys, "predict", "m.npz", "photo.png", "-o", "out")
    assert read_labels("out/photo.png").shape == (6, 4)
    run(capsys, "masks", "photo.png", "--at", "3,5", "--window", 3)  # inside 4 x 6 alone
    run(capsys, "explore", "photo.png")
    with open("explore.html", encoding="utf-8") as page:
        assert '"width":4' in page.read().replace(" ", "")
    assert "1 x 3 x 6 x 4" in run(capsys, "explain", "m.npz", "photo.png").replace(", ", " x ")
