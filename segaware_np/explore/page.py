"""Build the mask explorer's page from a picture and, if there is one, a learned embedding."""

from __future__ import annotations

import html
import json
import math
import re
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from segaware_np.explore.network import describe_network
from segaware_np.explore.packing import Packed, pack_embedding, pack_image
from segaware_np.inference import embed
from segaware_np.net import Net
from segaware_np.xp import check_array

_FRAME = 50_000  # bytes, more than the page without its data
_EXACT = 0.01  # of a weight: less is not to be seen


class Page(NamedTuple):
    """A page, and how exact it is.

    Attributes
    ----------
    html : str
    note : str
        The page's last line: what it holds, and how far its masks are off.

    Examples
    --------
    >>> make_page(np.zeros((4, 6, 3), np.uint8), title="black").note
    'black: 6 × 4 pixels, the picture without loss.'
    """

    html: str
    note: str


def build_page(
    image: np.ndarray,
    embedding: np.ndarray | Net | None = None,
    *,
    title: str = "",
    megabytes: float = 4.0,
) -> str:
    """Return an HTML page on which the local masks of a picture can be explored.

    The page holds everything it needs and asks for nothing: it works from a file, offline. It
    computes, in the browser and for neighbours inside the picture,

    ``m_k = exp(-s d_k)`` or ``m_k = exp(-s d_k) / sum_j exp(-s d_j)``

    with ``d_k`` the L1 norm of ``e_p - e_{p+k}`` or half its squared L2 norm. With RGB as the
    embedding, ``e`` runs from 0 to 1.

    Parameters
    ----------
    image : (H, W, 3) uint8
        Stored without loss.
    embedding : Net or (E, H, W) float, optional
        An embedding network is stored itself and computes the embedding in the page, to
        rounding (`describe_network`). An array, or what another network makes, is stored as
        principal components, rounded as finely as the page's size allows; the page says how far
        its masks are off (`embedding_error`).
    title : str
        The page's title, the name of the picture say.
    megabytes : float
        Largest size of a page with an embedding.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        If an array is of the wrong kind or shape, the embedding is not finite, or it does not fit
        the page at all.

    Examples
    --------
    >>> page = build_page(np.zeros((4, 6, 3), np.uint8), title="black")
    >>> "<title>black" in page
    True
    """
    return make_page(image, embedding, title=title, megabytes=megabytes).html


def make_page(
    image: np.ndarray,
    embedding: np.ndarray | Net | None = None,
    *,
    title: str = "",
    megabytes: float = 4.0,
) -> Page:
    """Return the page and its last line. The arguments and errors are those of `build_page`.

    Examples
    --------
    >>> make_page(np.zeros((4, 6, 3), np.uint8)).html[:15]
    '<!doctype html>'
    """
    check_array("image", image, ("H", "W", 3), kind="integer")
    if image.dtype != np.uint8:
        raise TypeError(f"image: expected dtype uint8, got {image.dtype}")
    if 0 in image.shape:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")
    picture = pack_image(image)
    data: dict[str, Any] = {"rgb": picture.as_json()}
    note = f"{title}: {image.shape[1]} × {image.shape[0]} pixels, the picture without loss."
    room = (megabytes * 1e6 - _FRAME) * 3 / 4 - len(picture.stream)  # base64: 4 for 3
    network = describe_network(embedding) if isinstance(embedding, Net) else None
    if network is not None and len(network["stream"]) <= room * 4 / 3:
        data["learned"] = network
        note += f" The page computes the embedding itself, by {network['parameters']:,} parameters."
    elif embedding is not None:
        if isinstance(embedding, Net):
            embedding = embed(embedding, image)
        packed, error = _rounded(image, embedding, room, megabytes)
        data["learned"] = packed.as_json()
        note += error
    scripts = ["page.js", *(["network.js"] if network is not None else [])]
    parts = {
        "css": _asset("page.css"),
        "js": "\n".join(map(_asset, scripts)),
        "data": json.dumps(data),
        "title": html.escape(title),
        "footer": html.escape(note),
    }
    return Page(re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html")), note)


def _rounded(
    image: np.ndarray, embedding: np.ndarray, room: float, megabytes: float
) -> tuple[Packed, str]:
    """Pack an embedding into ``room`` bytes, and say how far that moves its masks."""
    check_array("embedding", embedding, ("E", *image.shape[:2]))
    if not np.isfinite(embedding).all():
        raise ValueError("embedding: expected finite numbers, got NaN or infinity")
    if room < image.shape[0] * image.shape[1]:
        least = (7 / 3 * image.size + _FRAME) / 1e6
        raise ValueError(f"megabytes: expected about {least:.1f} or more, got {megabytes}")
    packed = pack_embedding(embedding, room)
    mean, worst = embedding_error(embedding, packed)
    note = (
        f" The embedding's {len(embedding)} channels are rounded: that moves a mask's weight "
        f"by {mean:.1g} on average and {worst:.1g} at worst"
    )
    if worst > _EXACT:  # each bit more for a level halves that
        more = math.log2(worst / _EXACT) * packed.levels.size / 8 * 4 / 3
        note += f" (a page of {math.ceil(megabytes + more / 1e6)} megabytes: about {_EXACT})"
    return packed, note + "."


def embedding_error(embedding: np.ndarray, packed: Packed) -> tuple[float, float]:
    """Return how far packing moves a weight of exponential masks: on average, and at worst.

    Measured on 20,000 pairs of pixels up to 10 rows and columns apart, L1 and L2, at the scale for
    which ``s d = 2`` for their mean distance.

    Parameters
    ----------
    embedding : (E, H, W) float array
    packed : Packed
        What is left of it.

    Returns
    -------
    mean, worst : float

    Examples
    --------
    >>> embedding = np.random.default_rng(0).normal(size=(2, 8, 8))
    >>> mean, worst = embedding_error(embedding, pack_embedding(embedding, room=1000))
    >>> mean < worst < 1e-2
    True
    """
    _, height, width = embedding.shape
    rng = np.random.default_rng(0)
    y, x = rng.integers(0, height, 20_000), rng.integers(0, width, 20_000)
    v = np.clip(y + rng.integers(-10, 11, y.size), 0, height - 1)
    u = np.clip(x + rng.integers(-10, 11, x.size), 0, width - 1)
    moves, stored = [], packed.values
    for norm in (lambda e: np.abs(e).sum(0), lambda e: 0.5 * (e**2).sum(0)):
        exact, rounded = (norm(e[:, y, x] - e[:, v, u]) for e in (embedding, stored))
        scale = 2 / (exact.mean() or 1)
        moves.append(np.abs(np.exp(-scale * exact) - np.exp(-scale * rounded)))
    return float(np.mean(moves)), float(np.max(moves))


def _asset(name: str) -> str:
    return (files("segaware_np.explore") / name).read_text("utf-8")
