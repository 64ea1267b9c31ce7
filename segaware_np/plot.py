"""Pictures: local masks, embeddings as colours, images side by side, training curves.

Pictures are uint8 RGB arrays ``(H, W, 3)``. `draw_curves` needs matplotlib, titles need Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segaware_np.extras import require
from segaware_np.files import atomic_write
from segaware_np.ops.distance import distance_forward
from segaware_np.ops.mask import exponential_mask_forward, normalized_mask_forward
from segaware_np.window import Window, check_window
from segaware_np.xp import check_array

Image = np.ndarray
Pixel = tuple[int, int]

# Dark to bright in equal steps of lightness, with hues that colour-blind people can tell apart.
_RAMP = np.array(
    [
        (9, 8, 32),
        (38, 33, 99),
        (43, 74, 142),
        (37, 118, 150),
        (42, 161, 140),
        (110, 197, 105),
        (190, 222, 80),
        (253, 240, 170),
    ],
    float,
)
# Okabe and Ito's colours: distinct on pictures, also to colour-blind people.
MARKERS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0), (240, 228, 66))


_WIDEST = 2000  # pixels, of an image that is enlarged


def masks_at(
    embedding: np.ndarray,
    pixels: Sequence[Pixel],
    window: Window,
    scale: float,
    *,
    norm: str = "L1",
    normalized: bool = False,
) -> list[np.ndarray]:
    """Local attention masks of a few pixels, as the networks see them.

    Parameters
    ----------
    embedding : (E, H, W) float array
    pixels : sequence of (y, x)
        Rows and columns, from 0.
    window : Window
        Its kernel and dilation count; stride and padding do not.
    scale : float
        s in ``exp(-s d)`` (or in the softmax of ``-s d``).
    norm : {"L1", "L2"}
    normalized : bool
        The mask sums to 1 (softmax) instead of being 1 at its centre.

    Returns
    -------
    list of (kh, kw) arrays
        0 where a neighbour lies outside the image.

    Raises
    ------
    TypeError, ValueError
        If the embedding is no such array, or a pixel lies outside the image.

    Examples
    --------
    >>> embedding = np.repeat([[[0.0, 9.0]]], 3, axis=2)  # an edge in the middle of six pixels
    >>> masks_at(embedding, [(0, 2)], Window((1, 5)), scale=1.0)[0].round(3).tolist()
    [[1.0, 1.0, 1.0, 0.0, 0.0]]
    """
    check_array("embedding", embedding, ("E", "H", "W"))
    check_window(window)
    height, width = embedding.shape[1:]
    masks = []
    for y, x in pixels:
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(
                f"pixels: expected (row, column) inside {height} x {width}, got {(y, x)}"
            )
        # One window only: its pixels are gathered, the rest is not computed.
        rows, columns, inside = _neighbours((y, x), window, (height, width))
        patch = np.ascontiguousarray(embedding[:, rows, columns]).reshape(1, -1, *window.kernel)
        distance, _ = distance_forward(patch, Window(window.kernel), norm)
        distance[~inside.reshape(1, -1, 1, 1)] = np.inf
        mask, _ = (normalized_mask_forward if normalized else exponential_mask_forward)(
            distance, scale
        )
        masks.append(mask.reshape(window.kernel))
    return masks


def _neighbours(
    pixel: Pixel, window: Window, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the window around a pixel, kept in the image, and which lie inside."""
    places = np.array(pixel) + np.array(window.offsets)
    kept = places.clip(0, np.array(shape) - 1)
    return kept[:, 0], kept[:, 1], (kept == places).all(axis=1)


def colorize(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> Image:
    """Map numbers to colours from dark (``low``) to bright (``high``).

    Parameters
    ----------
    values : (H, W) array
    low, high : float

    Returns
    -------
    (H, W, 3) uint8 array

    Examples
    --------
    >>> colorize(np.array([[0.0, 1.0]])).shape
    (1, 2, 3)
    """
    position = ((np.asarray(values, float) - low) / (high - low or 1)).clip(0, 1) * (len(_RAMP) - 1)
    channels = [np.interp(position, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def embedding_to_rgb(embedding: np.ndarray) -> Image:
    """Show an embedding ``(E, H, W)`` by its three principal components as red, green, blue.

    Pixels of like colour have like embeddings. Each component is stretched between its 1st and
    99th percentile; fewer than three channels leave the rest at mid grey.

    Parameters
    ----------
    embedding : (E, H, W) float array

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    TypeError, ValueError
        If `embedding` is no such array.

    Examples
    --------
    >>> embedding_to_rgb(np.random.default_rng(0).normal(size=(8, 4, 6))).shape
    (4, 6, 3)
    """
    check_array("embedding", embedding, ("E", "H", "W"))
    channels = embedding.reshape(len(embedding), -1).astype(float)
    channels = channels - channels.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(channels @ channels.T)
    axes = vectors[:, ::-1][:, :3].T
    # An eigenvector's sign is arbitrary: make the largest entry positive, so that colours repeat.
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1, 1)[:, None]
    components = axes @ channels
    low, high = np.percentile(components, (1, 99), axis=1)[..., None]
    stretched = ((components - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    rgb = np.full((3, channels.shape[1]), 0.5)
    rgb[: len(stretched)] = stretched
    return (rgb.T * 255).round().astype(np.uint8).reshape(*embedding.shape[1:], 3)


def enlarge(picture: Image, factor: int) -> Image:
    """Repeat every pixel ``factor`` times in both directions.

    Parameters
    ----------
    picture : (H, W, 3) uint8 array
    factor : int

    Returns
    -------
    (H factor, W factor, 3) uint8 array

    Examples
    --------
    >>> enlarge(np.zeros((2, 3, 3), np.uint8), 4).shape
    (8, 12, 3)
    """
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def tile(rows: Sequence[Sequence[tuple[str, Image]]], *, gap: int = 10, title: int = 16) -> Image:
    """Put titled pictures side by side, one list a row, on white.

    Parameters
    ----------
    rows : sequence of sequences of (title, picture)
        An empty title takes no room if the whole row has none.
    gap : int
        Space around the pictures, pixels.
    title : int
        Height of the letters, pixels.

    Returns
    -------
    (H, W, 3) uint8 array

    Examples
    --------
    >>> black = np.zeros((20, 30, 3), np.uint8)
    >>> tile([[("", black), ("", black)]], gap=10).shape
    (40, 90, 3)
    """
    strips = [_strip(row, gap, title) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    strips = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
        for strip in strips
    ]
    below = np.full((gap, width, 3), 255, np.uint8)
    return np.concatenate([*strips, below])


def _strip(row: Sequence[tuple[str, Image]], gap: int, title: int) -> Image:
    top = gap + (title + gap // 2 if any(text for text, _ in row) else 0)
    height = top + max(picture.shape[0] for _, picture in row)
    width = gap + sum(picture.shape[1] + gap for _, picture in row)
    strip = np.full((height, width, 3), 255, np.uint8)
    left = gap
    for text, picture in row:
        strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        if text:
            room = picture.shape[1] + gap
            strip[:top, left : left + room] = _text(text, (top, room), title)
        left += picture.shape[1] + gap
    return strip


def _text(text: str, shape: tuple[int, int], size: int) -> Image:
    pillow = require("PIL.Image", extra="images")
    draw = require("PIL.ImageDraw", extra="images")
    font = require("PIL.ImageFont", extra="images").load_default(size)
    canvas = pillow.new("RGB", (shape[1], shape[0]), "white")
    draw.Draw(canvas).text((0, shape[0] - size // 3), text, "black", font=font, anchor="ls")
    return np.asarray(canvas)


def draw_masks(
    image: Image,
    embedding: np.ndarray,
    pixels: Sequence[Pixel],
    window: Window,
    scale: float,
    *,
    norm: str = "L1",
    normalized: bool = False,
    size: int = 150,
) -> Image:
    """Picture of an image with marked pixels and, for each, the window, the mask, what it lets by.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    embedding, pixels, window, scale, norm, normalized
        As in `masks_at`.
    size : int
        Least side of a mask in the picture, pixels.

    Returns
    -------
    (H, W, 3) uint8 array

    Raises
    ------
    TypeError, ValueError
        As for `masks_at`, or if the image does not match the embedding or there is no pixel.

    Examples
    --------
    >>> image, embedding = np.zeros((24, 32, 3), np.uint8), np.zeros((2, 24, 32))
    >>> draw_masks(image, embedding, [(5, 7)], Window.same(9), scale=1.0).ndim
    3
    """
    masks = masks_at(embedding, pixels, window, scale, norm=norm, normalized=normalized)
    check_array("image", image, (*embedding.shape[1:], 3), kind="integer")
    if not masks:
        raise ValueError("pixels: expected at least one, got none")
    factor = max(1, -(-size // max(window.kernel)))
    columns: list[list[tuple[str, Image]]] = [[], [], []]
    marked = image.copy()
    for index, ((y, x), mask) in enumerate(zip(pixels, masks, strict=True)):
        colour = MARKERS[index % len(MARKERS)]
        patch, bright = _patch(image, (y, x), window), mask / (mask.max() or 1)
        shown = (patch * bright[..., None] + 255 * (1 - bright[..., None])).astype(np.uint8)
        for column, picture in zip(columns, (patch, colorize(bright), shown), strict=True):
            column.append(("", _frame(enlarge(picture, factor), colour, 3)))
        _mark(marked, (y, x), window, colour)
    for name, column in zip(("window", "mask", "seen through it"), columns, strict=True):
        column[0] = (name, column[0][1])
    masks_picture = tile(columns)
    zoom = round(masks_picture.shape[0] / image.shape[0])
    zoom = max(1, min(zoom, _WIDEST // image.shape[1]))
    return tile([[("", enlarge(marked, zoom)), ("", masks_picture)]], gap=6)


def _patch(image: Image, pixel: Pixel, window: Window) -> Image:
    """The image in the window around a pixel, white outside."""
    rows, columns, inside = _neighbours(pixel, window, image.shape[:2])
    patch = np.where(inside[:, None], image[rows, columns], np.uint8(255))
    return patch.reshape(*window.kernel, 3)


def _frame(picture: Image, colour: Sequence[int], thickness: int) -> Image:
    framed = np.empty((*(side + 2 * thickness for side in picture.shape[:2]), 3), np.uint8)
    framed[:] = colour
    framed[thickness:-thickness, thickness:-thickness] = picture
    return framed


def _mark(image: Image, pixel: Pixel, window: Window, colour: Sequence[int]) -> None:
    """Draw the window's outline and its centre into the image."""
    (top, left), (bottom, right) = window.offsets[0], window.offsets[-1]
    y, x = pixel
    ys, xs = (y + top, y + bottom), (x + left, x + right)
    height, width = image.shape[:2]
    y0, y1, x0, x1 = max(ys[0], 0), min(ys[1], height - 1), max(xs[0], 0), min(xs[1], width - 1)
    for row in ys:
        if 0 <= row < height:
            image[row, x0 : x1 + 1] = colour
    for column in xs:
        if 0 <= column < width:
            image[y0 : y1 + 1, column] = colour
    image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = colour


def draw_curves(
    path: str | os.PathLike[str],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
) -> None:
    """Write a PNG of curves ``name -> (x, y)``: the points faint, their running mean bold.

    Parameters
    ----------
    path : path-like
        Ends in ``.png``.
    curves : mapping of str to (sequence of float, sequence of float)
    x_label, y_label : str

    Examples
    --------
    >>> curves = {"plain": ([1, 2, 3], [3.0, 2.0, 1.5])}
    >>> draw_curves("loss.png", curves, x_label="step", y_label="loss")
    >>> from segaware_np.images import read_image
    >>> read_image("loss.png").ndim
    3
    """
    figure_class = require("matplotlib.figure", extra="plot").Figure
    figure = figure_class(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for index, (name, (x, y)) in enumerate(curves.items()):
        colour = np.array(MARKERS[(index + 1) % len(MARKERS)]) / 255
        span = max(1, len(y) // 20)
        smooth = np.convolve(y, np.ones(span) / span, "valid")
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(np.asarray(x)[span - 1 :], smooth, color=colour, linewidth=2, label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    with atomic_write(Path(path)) as file:
        figure.savefig(file, format="png")
