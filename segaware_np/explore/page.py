"""Build the mask explorer's page from a picture and, if there is one, a learned embedding."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files

import numpy as np

from segaware_np.explore.packing import Packed, pack_embedding, pack_image
from segaware_np.xp import check_array

_FRAME = 50_000  # bytes, more than the page without its data


def build_page(
    image: np.ndarray,
    embedding: np.ndarray | None = None,
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
    embedding : (E, H, W) float, optional
        Stored as principal components, rounded as finely as the page's size allows; the page says
        how far its masks are off (`embedding_error`).
    title : str
        The page's title, the name of the picture say.
    megabytes : float
        Largest size of a page with an embedding.

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
    check_array("image", image, ("H", "W", 3), kind="integer")
    if image.dtype != np.uint8:
        raise TypeError(f"image: expected dtype uint8, got {image.dtype}")
    if 0 in image.shape:
        raise ValueError(f"image: expected at least one pixel, got shape {image.shape}")
    packed = {"rgb": pack_image(image)}
    footer = f"{title}: {image.shape[1]} × {image.shape[0]} pixels, the picture without loss."
    if embedding is not None:
        check_array("embedding", embedding, ("E", *image.shape[:2]))
        if not np.isfinite(embedding).all():
            raise ValueError("embedding: expected finite numbers, got NaN or infinity")
        room = (megabytes * 1e6 - _FRAME) * 3 / 4 - len(packed["rgb"].stream)  # base64: 4 for 3
        if room < image.shape[0] * image.shape[1]:
            least = (7 / 3 * image.size + _FRAME) / 1e6
            raise ValueError(f"megabytes: expected about {least:.1f} or more, got {megabytes}")
        packed["learned"] = pack_embedding(embedding, room)
        mean, worst = embedding_error(embedding, packed["learned"])
        footer += (
            f" The embedding's {len(embedding)} channels are rounded: that moves a mask's weight "
            f"by {mean:.1g} on average and {worst:.1g} at worst."
        )
    data = json.dumps({name: each.as_json() for name, each in packed.items()})
    parts = {"css": _asset("page.css"), "js": _asset("page.js"), "data": data}
    parts |= {"title": html.escape(title), "footer": html.escape(footer)}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


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
