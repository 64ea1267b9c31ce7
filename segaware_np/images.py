"""Image files in and out: pictures as uint8 RGB arrays, label maps as integer arrays."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.decoding import decode
from segaware_np.extras import require
from segaware_np.files import FormatError, atomic_write, check_writable
from segaware_np.xp import check_array


def read_image(path: str | os.PathLike[str], *, upright: bool = True) -> np.ndarray:
    """Read a picture as uint8 RGB, (H, W, 3).

    Grey is repeated in the three channels, 16 bits are cut to the upper 8, transparency is
    dropped. Floating-point, signed and 32-bit pictures are refused: nothing in the file says which
    of their values is white.

    Parameters
    ----------
    path : path-like
    upright : bool
        Turn the picture as its EXIF orientation says and as viewers show it; else the pixels come
        as they are stored.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is truncated, damaged, not an image or several, has no 8 or 16 bits a channel,
        or more pixels than Pillow lets pass (``PIL.Image.MAX_IMAGE_PIXELS``, which the environment
        variable ``SEGAWARE_MAX_PIXELS`` sets).

    Examples
    --------
    >>> write_image("grey.png", np.array([[7, 9]], np.uint8))
    >>> read_image("grey.png").tolist()
    [[[7, 7, 7], [9, 9, 9]]]
    """
    return decode(path).rgb(upright)


def read_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label map as int32, (H, W): palette indices, or grey values.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    (H, W) int32 array

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is truncated, damaged, not an image, a colour image without a palette, of a
        format that may lose or renumber (JPEG, a GIF in colour ...), or leaves open what its class
        numbers are: a palette of greys that are not their own indices, transparent pixels, 0
        for white, an EXIF orientation.

    Examples
    --------
    >>> write_labels("labels.png", np.array([[0, 15, 255]]))
    >>> read_labels("labels.png").tolist()
    [[0, 15, 255]]
    """
    return decode(path).class_numbers()


def read_palette(path: str | os.PathLike[str]) -> np.ndarray | None:
    """Read the colours of a label map, (n, 3) uint8; None if it is grey.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    (n, 3) uint8 array or None

    Raises
    ------
    FileNotFoundError, FormatError
        As for `read_labels`.

    Examples
    --------
    >>> write_labels("labels.png", np.array([[0, 1]]))
    >>> read_palette("labels.png")[:2].tolist()
    [[0, 0, 0], [128, 0, 0]]
    """
    labels = decode(path)
    labels.class_numbers()
    return labels.colours()


def read_pair(
    image: str | os.PathLike[str], labels: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a picture and its label map, which are of one size.

    A label map does not say whether it belongs to the picture as it is stored or as its EXIF
    orientation turns it. Its size does, unless the turn keeps the size.

    Parameters
    ----------
    image, labels : path-like

    Returns
    -------
    image : (H, W, 3) uint8 array
    labels : (H, W) int32 array

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        As for `read_image` and `read_labels`; if the two differ in size, or the picture has an
        orientation that keeps its size.

    Examples
    --------
    >>> write_image("a.png", np.zeros((4, 6, 3), np.uint8))
    >>> write_labels("b.png", np.zeros((6, 4), int))
    >>> read_pair("a.png", "b.png")
    Traceback (most recent call last):
    segaware_np.files.FormatError: b.png: expected (4, 6) labels to match a.png, got (6, 4)
    """
    numbers, picture = read_labels(labels), decode(image)
    readings = [picture.rgb(upright) for upright in (True, False)[: 1 + (picture.orientation > 1)]]
    fitting = [reading for reading in readings if reading.shape[:2] == numbers.shape]
    if len(fitting) == 1:
        return fitting[0], numbers
    exif = f"EXIF orientation {picture.orientation}"
    if fitting:
        raise FormatError(
            f"{image}: expected no EXIF orientation that keeps the size, got {exif}: {labels} may "
            "belong to the picture as it is stored or as it is shown; save it as the labels lie, "
            "without the orientation"
        )
    sizes = f" or, by its {exif}, ".join(dict.fromkeys(str(r.shape[:2]) for r in readings))
    raise FormatError(f"{labels}: expected {sizes} labels to match {image}, got {numbers.shape}")


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a uint8 picture, (H, W, 3) RGB or (H, W) grey, in the format that the suffix names.

    Parameters
    ----------
    path : path-like
    image : (H, W, 3) or (H, W) uint8 array

    Raises
    ------
    TypeError, ValueError
        If ``image`` is not such an array, or the suffix names no format that can be written.
    OSError
        If the file cannot be written; nothing is left half written.

    Examples
    --------
    >>> write_image("red.png", np.array([[[255, 0, 0]]], np.uint8))
    >>> read_image("red.png").tolist()
    [[[255, 0, 0]]]
    """
    _check_picture(image)
    if image.ndim != 2:
        check_array("image", image, ("H", "W", 3), kind="integer")
    _save(path, require("PIL.Image", extra="images").fromarray(image))


def write_labels(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    palette: np.ndarray | None = None,
    *,
    bits: int = 8,
) -> None:
    """Write a label map, integer (H, W), as a PNG: with a palette, or grey of 16 bits.

    Parameters
    ----------
    path : path-like
    labels : (H, W) integer array
        From 0 to ``2**bits - 1``.
    palette : (n, 3) uint8 array, optional
        Colours of the first labels; the others have those of PASCAL VOC.
    bits : {8, 16}
        16 holds more than 256 classes, but no palette.

    Raises
    ------
    TypeError, ValueError
        If ``labels`` is not such an array, or the name does not end in ``.png``.
    OSError
        If the file cannot be written; nothing is left half written.

    Examples
    --------
    >>> write_labels("labels.png", np.array([[0, 15, 255]]))
    >>> write_labels("labels.png", np.array([[256]]))
    Traceback (most recent call last):
    ValueError: labels: expected values in 0..255, got 256
    >>> write_labels("labels.png", np.array([[256]]), bits=16)
    """
    if bits not in (8, 16):
        raise ValueError(f"bits: expected 8 or 16, got {bits}")
    _check_labels(labels, ("H", "W"), 2**bits)
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: expected a name ending in .png, got {Path(path).name}")
    numbers = labels.astype(f"u{bits // 8}")
    picture = require("PIL.Image", extra="images").fromarray(numbers)
    if bits == 8:
        picture.putpalette(_colours(palette).ravel())
    _save(path, picture)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Try whether an RGB picture can be written, before the work whose result it is to show.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ValueError
        If the suffix names no format that can hold it.
    OSError, FormatError
        As for `files.check_writable`.

    Examples
    --------
    >>> check_picture("masks.txt")
    Traceback (most recent call last):
    ValueError: path: expected the suffix of an image format, got masks.txt
    """
    pixel = require("PIL.Image", extra="images").new("RGB", (1, 1))
    try:
        pixel.save(BytesIO(), format=_format(path))
    except OSError as error:  # of grey alone, as Pillow says only now
        raise ValueError(f"path: expected a format of pictures in colour ({error})") from error
    check_writable(path)


def _format(path: str | os.PathLike[str]) -> str:
    """The name of the format of a file's suffix."""
    image = require("PIL.Image", extra="images")
    kind = image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in image.SAVE:
        raise ValueError(f"path: expected the suffix of an image format, got {Path(path).name}")
    return kind


def _save(path: str | os.PathLike[str], picture: Any) -> None:
    kind = _format(path)
    with atomic_write(path) as file:
        picture.save(file, format=kind)


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    strength: float = 0.5,
    ignore_label: int | None = 255,
    palette: np.ndarray | None = None,
) -> np.ndarray:
    """Tint a picture with the palette's colours of its labels.

    ``(1 - strength) * image + strength * palette[labels]``; ignored pixels keep their colour.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    labels : numpy.ndarray
        (H, W) integer, 0..65535.
    strength : float
        From 0 (the picture) to 1 (the labels).
    ignore_label : int, optional
    palette : (n, 3) uint8 array, optional
        As for `write_labels`.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8.

    Raises
    ------
    TypeError, ValueError
        If the arrays are not such, or `strength` is out of range.

    Examples
    --------
    >>> overlay(np.zeros((1, 2, 3), np.uint8), np.array([[1, 255]])).tolist()  # 1 is (128, 0, 0)
    [[[64, 0, 0], [0, 0, 0]]]
    """
    _check_picture(image)
    check_array("image", image, ("H", "W", 3), kind="integer")
    _check_labels(labels, image.shape[:2], 2**16)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: expected a number from 0 to 1, got {strength}")
    weight = np.full(labels.shape, strength, np.float32)
    if ignore_label is not None:
        weight[labels == ignore_label] = 0
    tint = _colours(palette, max(256, int(labels.max()) + 1))[labels].astype(np.float32) - image
    return np.rint(image + weight[..., None] * tint).astype(np.uint8)


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Return the image, at most ``size`` pixels long and wide.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    size : int
        In pixels.

    Examples
    --------
    >>> shrink(np.zeros((60, 90, 3), np.uint8), 30).shape
    (20, 30, 3)
    """
    pillow = require("PIL.Image", extra="images")
    picture = pillow.fromarray(image)
    picture.thumbnail((size, size), pillow.Resampling.LANCZOS)
    return np.asarray(picture)


def voc_palette(colours: int = 256) -> np.ndarray:
    """The colours of PASCAL VOC's label maps, (colours, 3) uint8.

    Bits 0, 1, 2 of a label are the highest bits of red, green and blue, bits 3, 4, 5 the next ...

    Parameters
    ----------
    colours : int
        Their number; VOC itself has 256.

    Returns
    -------
    (colours, 3) uint8 array

    Examples
    --------
    >>> voc_palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(colours)
    palette = np.zeros((colours, 3), np.uint8)
    for bit in range(24):
        channel, level = bit % 3, 7 - bit // 3
        palette[:, channel] |= ((labels >> bit & 1) << level).astype(np.uint8)
    return palette


def _colours(palette: np.ndarray | None, count: int = 256) -> np.ndarray:
    """So many colours, the first as given."""
    colours = voc_palette(count)
    if palette is not None:
        check_array("palette", palette, ("n", 3), kind="integer")
        colours[: len(palette)] = palette[:count]
    return colours


def _check_picture(image: np.ndarray) -> None:
    check_array("image", image, kind="integer")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(f"image: expected a uint8 NumPy array, got {image.dtype}")
    if not image.size:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")


def _check_labels(labels: np.ndarray, shape: tuple[int | str, ...], count: int) -> None:
    check_array("labels", labels, shape, kind="integer")
    if not labels.size:
        raise ValueError(f"labels: expected at least one pixel, got shape {labels.shape}")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise ValueError(f"labels: expected values in 0..{count - 1}, got {wrong}")
