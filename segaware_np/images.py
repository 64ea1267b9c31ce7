"""Image files in and out: pictures as uint8 RGB arrays, label maps as integer arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.decoding import decode
from segaware_np.extras import require
from segaware_np.files import atomic_write
from segaware_np.xp import check_array


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as uint8 RGB, (H, W, 3).

    Grey is repeated in the three channels, 16 bits are cut to the upper 8, transparency is
    dropped, and the pixels come as they are stored (an EXIF orientation is not applied).
    Floating-point, signed and 32-bit pictures are refused: nothing in the file says which of their
    values is white.

    Parameters
    ----------
    path : path-like

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
    return decode(path).rgb()


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
        numbers are: a palette of greys that are not their own indices, transparent pixels or 0
        for white.

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
    path: str | os.PathLike[str], labels: np.ndarray, palette: np.ndarray | None = None
) -> None:
    """Write a label map, integer (H, W) in 0..255, as a PNG with a palette.

    Parameters
    ----------
    path : path-like
    labels : (H, W) integer array
    palette : (n, 3) uint8 array, optional
        Colours of the first labels; the others have those of PASCAL VOC.

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
    """
    _check_labels(labels, ("H", "W"))
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: expected a name ending in .png, got {Path(path).name}")
    picture = require("PIL.Image", extra="images").fromarray(labels.astype(np.uint8))
    picture.putpalette(_colours(palette).ravel())
    _save(path, picture)


def _save(path: str | os.PathLike[str], picture: Any) -> None:
    suffix = Path(path).suffix.lower()
    image = require("PIL.Image", extra="images")
    kind = image.registered_extensions().get(suffix)
    if kind not in image.SAVE:
        raise ValueError(f"path: expected the suffix of an image format, got {Path(path).name}")
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
        (H, W) integer, 0..255.
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
    _check_labels(labels, image.shape[:2])
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: expected a number from 0 to 1, got {strength}")
    weight = np.full(labels.shape, strength, np.float32)
    if ignore_label is not None:
        weight[labels == ignore_label] = 0
    tint = _colours(palette)[labels].astype(np.float32) - image
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


def voc_palette() -> np.ndarray:
    """The 256 colours of PASCAL VOC's label maps, (256, 3) uint8.

    Bits 0, 1, 2 of a label are the highest bits of red, green and blue, bits 3, 4, 5 the next ...

    Returns
    -------
    (256, 3) uint8 array

    Examples
    --------
    >>> voc_palette()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, level = bit % 3, 7 - bit // 3
        palette[:, channel] |= ((labels >> bit & 1) << level).astype(np.uint8)
    return palette


def _colours(palette: np.ndarray | None) -> np.ndarray:
    """256 colours, the first as given."""
    colours = voc_palette()
    if palette is not None:
        check_array("palette", palette, ("n", 3), kind="integer")
        colours[: len(palette)] = palette[:256]
    return colours


def _check_picture(image: np.ndarray) -> None:
    check_array("image", image, kind="integer")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(f"image: expected a uint8 NumPy array, got {image.dtype}")
    if not image.size:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")


def _check_labels(labels: np.ndarray, shape: tuple[int | str, ...]) -> None:
    check_array("labels", labels, shape, kind="integer")
    if not labels.size:
        raise ValueError(f"labels: expected at least one pixel, got shape {labels.shape}")
    low, high = labels.min(), labels.max()
    if low < 0 or high > 255:
        raise ValueError(f"labels: expected values in 0..255, got {low if low < 0 else high}")
