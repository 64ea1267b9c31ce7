"""Every kind of image file: read as its specification says, or refused by name."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
from image_files import png, tiff
from PIL import Image, features

from segaware_np.data import PairList
from segaware_np.files import FormatError
from segaware_np.images import (
    read_image,
    read_labels,
    read_palette,
    voc_palette,
    write_image,
    write_labels,
)

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(read, path, message):
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert message in str(caught.value)


# --- TIFF: bits, signs, which end is white ------------------------------------------------------

UNREADABLE = "damaged or not a usable image"
GREY_TIFFS = [  # bits, photometric, sample format, byte order; picture, labels: right, or refused
    (1, 1, 1, ">", True, True),
    (2, 1, 1, ">", True, True),
    (4, 1, 1, "<", True, True),
    (8, 1, 1, ">", True, True),
    (12, 1, 1, "<", True, True),
    (16, 1, 1, ">", True, True),
    (16, 1, 1, "<", True, True),
    (32, 1, 1, "<", "got 32-bit numbers", True),
    (1, 0, 1, ">", True, "in which 0 is white"),
    (4, 0, 1, "<", True, "in which 0 is white"),
    (8, 0, 1, ">", True, "in which 0 is white"),
    (16, 0, 1, "<", True, "in which 0 is white"),
    (8, 1, 2, ">", "got signed numbers", "got signed bytes"),
    (16, 1, 2, "<", "got signed numbers", True),
    (32, 1, 2, ">", "got signed numbers", True),
    (32, 1, 3, "<", "got floating-point numbers", "got floating point"),
]


@pytest.mark.parametrize(("bits", "white", "numbers", "order", "picture", "labels"), GREY_TIFFS)
def test_grey_tiff(bits, white, numbers, order, picture, labels):
    values = RNG.integers(0, 2 ** min(bits - (numbers == 2), 31), (5, 7))
    values[0, :2] = 0, values.max()
    with open("a.tif", "wb") as file:
        file.write(tiff(values, bits, white, numbers, order=order))
    if picture is True:
        shown = values if white else 2**bits - 1 - values
        levels = shown >> (bits - 8) if bits > 8 else shown * 255 // (2**bits - 1)
        np.testing.assert_array_equal(read_image("a.tif"), np.dstack([levels] * 3))
    else:
        refused(read_image, "a.tif", picture)
    if labels is True:
        np.testing.assert_array_equal(read_labels("a.tif"), values)
    else:
        refused(read_labels, "a.tif", labels)


def test_a_float_picture_from_0_to_1_is_refused():
    Image.fromarray(np.linspace(0, 1, 16, dtype="f4").reshape(4, 4)).save("a.tif")
    refused(read_image, "a.tif", "from black to white, got floating-point numbers")


def test_labels_of_16_and_32_bits_that_are_no_class_numbers():
    for bits, values in ((16, [[0, -3]]), (32, [[7, -1]])):
        with open("a.tif", "wb") as file:
            file.write(tiff(np.array(values), bits, sample_format=2))
        assert read_labels("a.tif").tolist() == values
    with open("a.tif", "wb") as file:
        file.write(tiff(np.array([[7, 2**32 - 1]]), 32, order="<"))
    refused(read_labels, "a.tif", "class numbers below 2**31, got larger ones")


def test_16_bits_of_which_pillow_does_not_say_whether_they_are_signed():
    cards = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 1", "END"]
    head = "".join(f"{card[:10]}{card[10:]:>20}".ljust(80) for card in cards).ljust(2880)
    with open("a.fits", "wb") as file:
        file.write(head.encode() + np.array([1, -1, 300], ">i2").tobytes().ljust(2880, b"\0"))
    assert Image.open("a.fits").mode.startswith("I")
    refused(read_image, "a.fits", "in FITS")
    refused(read_labels, "a.fits", "a format that keeps class numbers (PNG), got FITS")


def test_colour_tiff_of_16_bits_keeps_the_upper_8():
    deep = RNG.integers(0, 2**16, (5, 7, 3))
    with open("a.tif", "wb") as file:
        file.write(tiff(deep, 16, photometric=2))
    np.testing.assert_array_equal(read_image("a.tif"), deep >> 8)


def test_planes_of_16_bits_of_which_pillow_takes_the_bytes():
    deep = RNG.integers(0, 2**16, (5, 7, 3))
    with open("a.tif", "wb") as file:
        file.write(tiff(COLOURS, 8, photometric=2, planes=True))
    np.testing.assert_array_equal(read_image("a.tif"), COLOURS)
    with open("a.tif", "wb") as file:
        file.write(tiff(deep, 16, photometric=2, planes=True))
    refused(read_image, "a.tif", "got planes of 16 bits")


@pytest.mark.parametrize(
    ("bits", "numbers", "words"),
    [
        (32, 3, "got 3 samples a pixel, floating-point numbers of 32 bits, in TIFF"),
        (32, 1, "got 3 samples a pixel, numbers of 32 bits, in TIFF"),
        (16, 2, "got 3 samples a pixel, signed numbers of 16 bits, in TIFF"),
    ],
)
def test_a_tiff_that_pillow_does_not_know_is_told_from_a_damaged_one(bits, numbers, words):
    whole = tiff(COLOURS, bits, photometric=2, sample_format=numbers)
    for read in (read_image, read_labels):
        with open("a.tif", "wb") as file:
            file.write(whole)
        refused(read, "a.tif", f"grey or RGB of 8 or 16 bits, {words}")
        with open("a.tif", "wb") as file:
            file.write(whole[:-90])
        with pytest.raises(FormatError, match=r"a\.tif: damaged or not a usable image"):
            read("a.tif")


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_several_samples(samples, bits):
    values = RNG.integers(0, 2**bits, (5, 7, samples))
    with open("a.png", "wb") as file:
        file.write(png(values, bits))
    shown = values[..., :1].repeat(3, 2) if samples == 2 else values[..., :3]
    np.testing.assert_array_equal(read_image("a.png"), shown >> (bits - 8))
    words = "transparent pixels" if (samples, bits) == (2, 8) else "got colours (RGB"
    refused(read_labels, "a.png", words)
    values[..., -1] = 2**bits - 1
    with open("a.png", "wb") as file:
        file.write(png(values, bits))
    if (samples, bits) == (2, 8):
        np.testing.assert_array_equal(read_labels("a.png"), values[..., 0])
    else:
        refused(read_labels, "a.png", words)


def test_grey_times_opacity_is_divided_by_it():
    with open("a.tif", "wb") as file:
        file.write(tiff(np.array([[[50, 255], [64, 128]]]), 8, extra=(1,)))
    got = read_image("a.tif")[0, :, 0].astype(int)
    assert got[0] == 50 and abs(got[1] - 64 * 255 / 128) <= 1


@pytest.mark.parametrize(("photometric", "words"), [(8, "CIELAB colours"), (6, "YCbCr colours of")])
def test_colours_that_pillow_converts_wrongly(photometric, words):
    with open("a.tif", "wb") as file:
        file.write(tiff(COLOURS, 8, photometric))
    refused(read_image, "a.tif", words)
    refused(read_labels, "a.tif", "got colours")


# --- modes -----------------------------------------------------------------------------------


def as_pillow(mode):
    """The grey picture in a mode of Pillow's."""
    picture = Image.fromarray(GREY)
    if mode == "PA":
        return picture.convert("P").convert("PA")
    if mode == "I;16":
        return Image.fromarray(GREY.astype(np.uint16) * 257)
    return picture.convert(mode)


MODES = [  # mode, suffix, whether its picture can be read, and its labels
    ("L", "png", True, True), ("L", "bmp", True, True), ("L", "tga", True, True),
    ("L", "pcx", True, True), ("L", "sgi", True, "a format that keeps class numbers (PNG)"),
    ("LA", "png", True, True), ("LA", "tif", True, True), ("P", "png", True, True),
    ("P", "bmp", True, True), ("PA", "tif", True, True), ("RGB", "png", True, "got colours (RGB)"),
    ("RGBA", "png", True, "got colours (RGBA)"), ("RGBX", "tif", True, "got colours (RGB"),
    ("CMYK", "tif", True, "got colours (CMYK)"), ("YCbCr", "tif", True, "got colours (YCbCr)"),
    ("I", "tif", "got signed numbers", True), ("F", "tif", "floating-point", "floating point"),
    ("I;16", "png", True, 257), ("I;16", "tif", True, 257),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "suffix", "picture", "labels"), MODES)
def test_modes(mode, suffix, picture, labels):
    path = f"a.{suffix}"
    as_pillow(mode).save(path)
    if picture is True:
        got = read_image(path).astype(int)
        assert np.abs(got - GREY[..., None]).max() <= (mode == "YCbCr")
    else:
        refused(read_image, path, picture)
    if isinstance(labels, int):
        np.testing.assert_array_equal(read_labels(path), GREY.astype(int) * labels)
    else:
        refused(read_labels, path, labels)


def test_labels_that_are_partly_transparent():
    Image.fromarray(np.dstack([GREY, GREY | 1])).save("a.png")
    np.testing.assert_array_equal(read_image("a.png"), np.dstack([GREY] * 3))
    refused(read_labels, "a.png", "class numbers alone, got transparent pixels")


@pytest.mark.parametrize("peak", [1, 6, 20, 255, 300, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_netpbm_labels_are_the_stored_numbers(peak, plain):
    values = RNG.integers(0, peak + 1, (4, 9))
    values[0, :2] = 0, peak
    numbers = values.astype("u1" if peak < 256 else ">u2").tobytes()
    body = " ".join(map(str, values.ravel())).encode() if plain else numbers
    with open("a.pgm", "wb") as file:
        file.write(b"P%d 9 4 %d\n" % (2 if plain else 5, peak) + body)
    np.testing.assert_array_equal(read_labels("a.pgm"), values)
    shade = read_image("a.pgm")[..., 0] / 255
    assert np.abs(shade - values / peak).max() <= (1 / 255 if peak > 255 else 0.5 / 255 + 1e-9)


def test_a_bitmap_whose_1_is_black_is_no_label_map():
    with open("a.pbm", "wb") as file:
        file.write(b"P1 2 1 0 1")
    assert read_image("a.pbm")[0, :, 0].tolist() == [255, 0]
    refused(read_labels, "a.pbm", "a grey image in which 0 is white")


# --- palettes ---------------------------------------------------------------------------------

FEW = np.array([[0, 5, 9], [5, 9, 9]], np.uint8)


def test_a_palette_of_greys_that_are_not_their_indices():
    Image.fromarray(FEW).save("a.gif")
    Image.fromarray(FEW).quantize(3).save("a.png")
    mask = png(np.array([[0, 1]]), 1, [(0, 0, 0), (255, 255, 255)])
    with open("b.png", "wb") as file:
        file.write(mask)
    for path in ("a.gif", "a.png", "b.png"):
        for read in (read_labels, read_palette):
            refused(read, path, "class numbers, got a palette of greys, of which number ")
    np.testing.assert_array_equal(read_image("a.gif")[..., 0], FEW)


def test_greys_that_are_their_indices_are_class_numbers():
    for path in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(FEW).convert("P").save(path)
        np.testing.assert_array_equal(read_labels(path), FEW)
        assert read_palette(path) is None
    Image.fromarray(GREY.clip(254, 255)).convert("1").save("a.gif")  # as DRIVE's: 0 and 255
    assert set(np.unique(read_labels("a.gif"))) <= {0, 255}


def test_an_index_beside_the_palette_is_a_class_number():
    with open("a.png", "wb") as file:
        file.write(png(np.array([[0, 1, 255]]), 8, [(0, 0, 0), (90, 90, 90)]))
    assert read_labels("a.png").tolist() == [[0, 1, 255]]


def test_greys_that_do_not_tell_the_indices_apart_are_no_class_numbers():
    for greys, labels in (([0, 0, 0, 0], [[3, 3]]), ([0, 9, 9, 4], [[0, 1, 2]])):
        with open("a.png", "wb") as file:
            file.write(png(np.array(labels), 2, [(grey, grey, grey) for grey in greys]))
        assert read_labels("a.png").tolist() == labels


def test_a_gif_in_colour_numbers_its_own():
    labels = np.array([[0, 5, 9], [15, 255, 9]])
    write_labels("a.png", labels)
    Image.open("a.png").save("a.gif")
    assert np.asarray(Image.open("a.gif")).max() < 6  # what Pillow made of 255
    refused(read_labels, "a.gif", "a GIF in colour")
    np.testing.assert_array_equal(read_image("a.gif"), voc_palette()[labels])


# --- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "needs", "options"),
    [
        ("jpg", "jpg", {}),
        ("jp2", "jpg_2000", {"quality_mode": "rates", "quality_layers": [40]}),
        ("jp2", "jpg_2000", {"irreversible": False}),
        ("webp", "webp", {"quality": 5}),
        ("avif", "avif", {}),
        ("tif", "libtiff", {"compression": "jpeg"}),
    ],
)
def test_labels_of_a_lossy_format(suffix, needs, options):
    if not features.check(needs):
        pytest.skip(f"this Pillow writes no {suffix}")
    Image.fromarray(np.kron(FEW, np.ones((16, 16), np.uint8))).save(f"a.{suffix}", **options)
    assert read_image(f"a.{suffix}").shape == (32, 48, 3)
    refused(read_labels, f"a.{suffix}", "a format that keeps class numbers (PNG), got ")


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_labels_of_a_packed_tiff(packing):
    Image.fromarray(GREY).save("a.tif", compression=packing)
    np.testing.assert_array_equal(read_labels("a.tif"), GREY)


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_several_images_in_one_file(suffix):
    frames = [Image.fromarray(np.full((4, 5), grey, np.uint8)) for grey in (0, 90)]
    frames[0].save(f"a.{suffix}", save_all=True, append_images=frames[1:])
    for read in (read_image, read_labels):
        refused(read, f"a.{suffix}", "one image, got several")


def test_a_thumbnail_is_not_another_image():
    """A TIFF's second page may say that it is a smaller copy; a phone's JPEG holds a preview."""
    small = Image.new("L", (2, 2))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(GREY).save("a.tif", save_all=True, append_images=[small])
    assert Image.open("a.tif").n_frames == 2
    np.testing.assert_array_equal(read_labels("a.tif"), GREY)
    Image.fromarray(COLOURS).save("a.mpo", save_all=True, append_images=[Image.new("RGB", (2, 2))])
    assert Image.open("a.mpo").n_frames == 2
    assert read_image("a.mpo").shape == COLOURS.shape


def test_a_file_for_another_program_is_not_run(monkeypatch):
    Image.fromarray(COLOURS).save("a.eps")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("was run"))
    refused(read_image, "a.eps", "an image of pixels, got EPS")


# --- labels of a data set -----------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "ignored"), [(4, 255), (None, 255), (4, None), (4, -2)])
def test_a_label_below_zero_is_refused(classes, ignored):
    write_image("a.png", COLOURS)
    labels = np.zeros((5, 7), np.int32)
    labels[2, 3] = -1
    Image.fromarray(labels).save("b.tif")
    with open("list.txt", "w") as file:
        file.write("a.png b.tif")
    data = PairList("list.txt", classes=classes, ignore_label=ignored)
    with pytest.raises(FormatError, match=r"b\.tif: expected labels .*got -1 in row 2, column 3"):
        data[0]
    np.testing.assert_array_equal(PairList("list.txt", ignore_label=-1)[0][1], labels)
