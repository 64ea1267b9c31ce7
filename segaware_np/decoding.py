"""What an image file holds: Pillow decodes it, and here each of its modes is read or refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from segaware_np.extras import require
from segaware_np.files import FormatError, check_file

PIXELS = "SEGAWARE_MAX_PIXELS"
_EXACT = ("BMP", "DIB", "GIF", "PCX", "PNG", "PPM", "TGA", "TIFF")  # formats that lose nothing
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "tiff_sgilog", "tiff_sgilog24", "tiff_thunderscan")
_SHOWN_BY_PROGRAMS = ("EPS", "WMF")  # Pillow would run Ghostscript on what the file says
_DEEP = ("ICO", "JPEG2000", "PNG", "PPM", "TIFF")  # whose 16 bits Pillow gives as they are
_FURTHER = ("ICNS", "MPO", "PSD")  # formats whose further frames are previews or layers
_SMALLER_OR_MASK = 1 | 4  # TIFF's NewSubfileType: pages that belong to another one
_ORIENTATION = 274  # the tag of EXIF and TIFF, from 1 to 8; what makes each upright:
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
    7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
_SAMPLES = {1: "numbers", 2: "signed numbers", 3: "floating-point numbers", 6: "complex numbers"}
_GREY_STEP = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255


@dataclass(frozen=True)
class Decoded:
    """A decoded image file.

    Parameters
    ----------
    path : Path
    image : PIL.Image.Image
        Loaded.
    form : str
        Pillow's raw mode, which tells how the file stores what has the image's mode: ``L;4``.
    peak : int or None
        The largest value that a netpbm file declares.
    tags : dict
        The tags of a TIFF file.
    orientation : int
        1 to 8, as in EXIF; 1 is upright.

    Examples
    --------
    >>> from segaware_np.images import write_labels
    >>> write_labels("labels.png", np.array([[0, 15]]))
    >>> labels = decode("labels.png")
    >>> labels.form, labels.class_numbers().tolist(), labels.rgb(upright=True).tolist()
    ('P', [[0, 15]], [[[0, 0, 0], [192, 128, 128]]])
    """

    path: Path
    image: Any
    form: str
    peak: int | None
    tags: dict[int, Any]
    orientation: int

    @property
    def _inverted(self) -> bool:
        """Whether the file stores white as 0."""
        return self.tags.get(262) == 0 or (self.image.format, self.form) == ("PPM", "1;I")

    @property
    def _signed(self) -> bool:
        return 2 in np.atleast_1d(self.tags.get(339, 1))

    @property
    def _lossy(self) -> bool:
        """Whether it is a TIFF file whose pixels are compressed with loss."""
        return self.image.info.get("compression") in _LOSSY_TIFF

    def rgb(self, upright: bool) -> np.ndarray:
        """Return the picture, (H, W, 3) uint8, as it is to be seen or as it is stored.

        Raises
        ------
        FormatError
            If its numbers are no levels from black to white.
        """
        image = self._turned(upright)
        if got := self._unclear():
            raise self._expected(
                f"a picture of 8 or 16 bits a channel, from black to white, got {got}: "
                "write it anew, as a PNG of 8 bits"
            )
        if image.mode.startswith("I"):
            return np.repeat(self._upper_bits(image)[..., None], 3, axis=2)
        if image.mode in ("La", "RGBa"):  # colours times opacity
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        return np.array(image.convert("RGB"))

    def _turned(self, upright: bool) -> Any:
        """The image as its orientation says that it is to be seen, or as it is stored."""
        if self.orientation == 1 or upright == (self.image.format == "TIFF"):  # turned by Pillow
            return self.image
        back = {6: 8, 8: 6}.get(self.orientation, self.orientation)
        name = _TURNS[self.orientation if upright else back]
        return self.image.transpose(require("PIL.Image", extra="images").Transpose[name])

    def _unclear(self) -> str | None:
        """What Pillow decodes to numbers that are no levels from black to white, in words."""
        mode, kind = self.image.mode, self.image.format
        if mode == "F":
            return "floating-point numbers"
        if mode == "LAB":  # Pillow's conversion makes grey blue
            return "CIELAB colours"
        whole = mode == "YCbCr" and self.tags.get(530) == (1, 1)
        if self.tags.get(262) == 6 and not (whole or self._lossy):  # JPEG converts by itself
            return "YCbCr colours of fewer pixels"
        if self.tags.get(284) == 2 and max(self.tags.get(258, (1,))) > 8:  # Pillow takes bytes
            return "planes of 16 bits"
        if self._signed:
            return "signed numbers"
        if mode.startswith("I") and kind not in _DEEP:
            return f"numbers of mode {mode} in {kind}"
        if mode == "I" and kind != "PPM" and not self.form.startswith("I;16"):
            return "32-bit numbers"
        return None

    def _upper_bits(self, image: Any) -> np.ndarray:
        grey, bits = np.asarray(image).astype(np.int32), 12 if self.form == "I;12" else 16
        if self._inverted:  # Pillow inverts 8 bits alone
            grey = 2**bits - 1 - grey
        return (grey >> (bits - 8)).astype(np.uint8)

    def class_numbers(self) -> np.ndarray:
        """Return the labels, (H, W) int32.

        Raises
        ------
        FormatError
            If the file leaves open what they are.
        """
        labels = self._stored_numbers()
        if self.image.mode in ("P", "PA"):
            self._check_palette(np.unique(labels))
        return labels

    def _stored_numbers(self) -> np.ndarray:
        kind, mode = self.image.format, self.image.mode
        if kind not in _EXACT or self._lossy:
            packed = " with lossy compression" * self._lossy
            raise self._expected(f"a format that keeps class numbers (PNG), got {kind}{packed}")
        if mode == "F":
            raise self._expected("class numbers, as a grey or palette image, got floating point")
        if mode not in ("1", "L", "LA", "P", "PA") and not mode.startswith("I"):
            raise self._expected(f"class numbers, as a grey or palette image, got colours ({mode})")
        if self._inverted:
            raise self._expected("class numbers, got a grey image in which 0 is white")
        if self._signed and mode == "L":
            raise self._expected("class numbers of at least 0, got signed bytes")
        if self.orientation != 1:
            raise self._expected(f"labels without an EXIF orientation, got {self.orientation}")
        labels = np.asarray(self.image).astype(np.int32)
        if mode in ("LA", "PA"):
            if (labels[..., 1] != 255).any():
                raise self._expected("class numbers alone, got transparent pixels")
            labels = labels[..., 0]
        return self._unstretched(labels)

    def _unstretched(self, labels: np.ndarray) -> np.ndarray:
        """Undo what Pillow did to let the largest value of few bits be white."""
        if not self._signed and labels.min(initial=0) < 0:
            raise self._expected("class numbers below 2**31, got larger ones")
        if self.peak is not None:
            full = 65535 if self.image.mode.startswith("I") else 255
            return np.rint(labels * (self.peak / full)).astype(np.int32)
        return labels // _GREY_STEP.get(self.form.rstrip("R"), 1)

    def _check_palette(self, used: np.ndarray) -> None:
        """Refuse indices where others would read greys, or where the writer made new ones."""
        colours = self.colours()
        if colours is not None and self.image.format == "GIF":
            raise self._expected("class numbers (PNG), got a GIF in colour, which numbers its own")
        greys = np.array(self.image.getpalette(), np.uint8)[::3]
        if colours is not None or used[-1] >= len(greys) or len(np.unique(greys)) == 1:
            return
        shown = greys[used]
        if len(np.unique(shown)) == len(used) and (shown != used).any():
            i = np.flatnonzero(shown != used)[0]
            raise self._expected(
                f"class numbers, got a palette of greys, of which number {used[i]} is grey "
                f"{shown[i]}: store the labels as grey values, without a palette"
            )

    def colours(self) -> np.ndarray | None:
        """Return the palette, (n, 3) uint8; None where it is grey or there is none."""
        if self.image.mode not in ("P", "PA"):
            return None
        colours = np.array(self.image.getpalette(), np.uint8).reshape(-1, 3)
        return None if (colours == colours[:, :1]).all() else colours

    def _expected(self, text: str) -> FormatError:
        return FormatError(f"{self.path}: expected {text}")


def decode(path: str | os.PathLike[str]) -> Decoded:
    """Decode an image file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Decoded

    Raises
    ------
    OSError
        If there is no such file.
    FormatError
        If it is no file, damaged, no image, several images, or of more pixels than Pillow's
        ``PIL.Image.MAX_IMAGE_PIXELS`` lets pass; ``SEGAWARE_MAX_PIXELS`` sets that.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("a.pgm").write_bytes(b"P2 3 1 20 0 7 20")
    >>> decode("a.pgm").peak
    20
    """
    require("PIL.Image", extra="images")
    check_file(path)
    with open(path, "rb") as file:
        return decode_stream(file, path)


def decode_stream(file: IO[bytes], path: str | os.PathLike[str]) -> Decoded:
    """Decode what an open binary file holds; errors, those of `decode`, call it ``path``.

    Parameters
    ----------
    file : binary file object
    path : path-like

    Returns
    -------
    Decoded

    Raises
    ------
    FormatError

    Examples
    --------
    >>> from io import BytesIO
    >>> decode_stream(BytesIO(b"P2 2 1 20 0 7"), "record 3").peak
    20
    """
    pillow: Any = require("PIL.Image", extra="images")
    if os.environ.get(PIXELS, "").isdigit():
        pillow.MAX_IMAGE_PIXELS = int(os.environ[PIXELS])
    try:
        with pillow.open(file) as image:
            return _loaded(Path(path), image)
    except (FormatError, MemoryError):
        raise
    except pillow.DecompressionBombError as error:
        raise FormatError(
            f"{path}: expected at most twice PIL.Image.MAX_IMAGE_PIXELS, got more ({error}); "
            f"if you trust the file, set that, or {PIXELS}, to its number of pixels"
        ) from error
    except pillow.UnidentifiedImageError as error:
        raise FormatError(_unknown(file, path)) from error
    except Exception as error:  # each format's decoder has its own
        raise FormatError(f"{path}: damaged or not a usable image ({error})") from error


def _unknown(file: IO[bytes], path: str | os.PathLike[str]) -> str:
    """What to say of a file that Pillow does not know: of a whole TIFF, what it holds."""
    plugin = require("PIL.TiffImagePlugin", extra="images")
    try:
        file.seek(0)
        tags = plugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits, kind = max(tags[258]), _SAMPLES[tags.get(339, (1,))[0]]
        held = f"got {len(tags[258])} samples a pixel, {kind} of {bits} bits, in TIFF"
        return f"{path}: expected grey or RGB of 8 or 16 bits, {held}"
    except Exception:  # no TIFF, or a damaged one
        return f"{path}: damaged or not a usable image (of no kind that Pillow knows)"


def _loaded(path: Path, image: Any) -> Decoded:
    if image.format in _SHOWN_BY_PROGRAMS:
        raise FormatError(f"{path}: expected an image of pixels, got {image.format}")
    tags = dict(image.tag_v2) if image.format == "TIFF" else {}
    if image.format not in _FURTHER and _has_further_frames(image):
        raise FormatError(f"{path}: expected one image, got several ({image.format})")
    tile = getattr(image, "tile", None)
    stored = tile[0][3] if tile else ""
    words = stored if isinstance(stored, tuple) else (stored,)
    peak = words[-1] if image.format == "PPM" and len(words) == 2 else None
    image.load()
    found = tags.get(_ORIENTATION) or image.getexif().get(_ORIENTATION)
    orientation = found if found in range(1, 9) else 1
    return Decoded(path, image, str(words[0]), peak, tags, orientation)


def _has_further_frames(image: Any) -> bool:
    if not getattr(image, "is_animated", False):
        return False
    if image.format != "TIFF":
        return True
    pages = range(1, image.n_frames)
    try:
        return any(_is_page(image, number) for number in pages)
    finally:
        image.seek(0)


def _is_page(image: Any, number: int) -> bool:
    """Whether a frame of a TIFF file is neither a smaller copy nor a mask of another."""
    image.seek(number)
    return not image.tag_v2.get(254, 0) & _SMALLER_OR_MASK
