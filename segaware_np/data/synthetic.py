"""Drawn scenes with exact labels: data for someone who has none.

A scene is a collage under soft light: a background of marble, dunes or camouflage, scattered
with chips, and on it shapes that overlap and throw shadows. Each class has its own form and
texture and leans towards a hue of its own; background and chips borrow the same hues, so that
colour alone does not tell where an object ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from segaware_np.ranges import COUNT, WHOLE, check, check_all

Field = np.ndarray  # (h, w) float32
TURN = 2 * np.pi


class Form(NamedTuple):
    """A shape and its surface, over local coordinates in which the shape fills the unit circle."""

    distance: Field  # negative inside; near the outline the distance to it
    tone: Field  # 0 .. 1: from the shape's dark colour to its bright one


class SyntheticScenes:
    """Scenes of textured shapes; scene ``i`` depends on nothing but (seed, i) and the size.

    Parameters
    ----------
    count : int
        Number of scenes.
    size : (int, int)
        Height and width in pixels.
    seed : int
        Not negative; different seeds give unrelated scenes (one to train on, one to test on).

    Attributes
    ----------
    class_names : tuple of str
        Names of labels 0 (background) to 5. Shadows and chips belong to the background, and so
        does what is seen through a ring.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> scenes = SyntheticScenes(10, size=(32, 48))
    >>> image, labels = scenes[3]
    >>> image.shape, labels.shape, scenes.class_names[:2]
    ((32, 48, 3), (32, 48), ('background', 'pebble'))
    """

    class_names = ("background", "pebble", "leaf", "tile", "flower", "ring")

    def __init__(
        self, count: int = 200, size: tuple[int, int] = (128, 128), seed: int = 0
    ) -> None:
        check("count", count, COUNT)
        check_all("size", size, COUNT, 2)
        check("seed", seed, WHOLE)
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB and labels (H, W) int32."""
        rng = np.random.default_rng((self.seed, self._number(index)))
        height, width = self.size
        reach = float(np.sqrt(height * width))  # sizes of things follow the picture's
        image = _background(self.size, reach, rng)
        labels = np.zeros(self.size, np.int32)
        for _ in range(rng.integers(25, 45)):
            _place(_chip, rng.uniform(0.01, 0.03) * reach, rng.random(), image, None, 0, rng)
        for _ in range(rng.integers(9, 15)):
            label = int(rng.integers(1, len(_FORMS) + 1))
            hue = (label - 1) / len(_FORMS) + rng.normal(0, 0.07)
            radius = reach * rng.uniform(0.09, 0.22)
            _place(_FORMS[label - 1], radius, hue, image, labels, label, rng)
        return _lit(image, reach, rng), labels

    def name(self, index: int) -> str:
        """``scene`` and a number of five digits."""
        return f"scene{self._number(index):05d}"

    def _number(self, index: int) -> int:
        if not -self.count <= index < self.count:
            raise IndexError(f"index: expected below {self.count}, got {index}")
        return index % self.count


def _place(
    draw: Callable[[Field, Field, np.random.Generator], Form],
    radius: float,
    hue: float,
    image: np.ndarray,
    labels: np.ndarray | None,
    label: int,
    rng: np.random.Generator,
) -> None:
    """Draw a shape at a random place, with a shadow under it, into ``image`` and ``labels``."""
    height, width = image.shape[:2]
    centre_y, centre_x = rng.uniform(0, height), rng.uniform(0, width)
    margin = 1.3 * radius + 2
    top, left = max(0, int(centre_y - margin)), max(0, int(centre_x - margin))
    area = np.s_[top : int(centre_y + margin) + 1, left : int(centre_x + margin) + 1]
    patch = image[area]
    dy = (np.arange(top, top + patch.shape[0])[:, None] - centre_y) / radius
    dx = (np.arange(left, left + patch.shape[1]) - centre_x) / radius
    angle = rng.uniform(0, TURN)
    u = (np.cos(angle) * dx + np.sin(angle) * dy).astype(np.float32)
    v = (np.cos(angle) * dy - np.sin(angle) * dx).astype(np.float32)

    form = draw(u, v, rng)
    pixels = form.distance * radius
    patch *= 1 - 0.35 * np.clip(1 - 6 * form.distance, 0, 1)[..., None]  # the shadow
    dark, bright = _colours(hue, rng)
    surface = dark + form.tone[..., None] * (bright - dark)
    cover = np.clip(0.5 - pixels, 0, 1)[..., None]
    patch += cover * (surface - patch)
    if labels is not None:
        labels[area][pixels < 0] = label


def _pebble(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """A lumpy oval, speckled like granite."""
    r, angle = np.hypot(u, v * rng.uniform(1, 1.5)), np.arctan2(v, u)
    outline = 0.85 + sum(
        rng.uniform(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, TURN)) for k in (2, 3, 4)
    )
    speckle = rng.random(u.shape, np.float32) ** 2
    return Form(r - outline, 0.15 + 0.75 * speckle - 0.25 * (u + v))


def _leaf(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """Two arcs that meet in points, with a midrib and slanting veins."""
    slim = rng.uniform(0.6, 1.4)
    distance = np.hypot(u, np.abs(v) + slim) - np.float32(np.sqrt(1 + slim**2))
    veins = np.sin(TURN * (rng.uniform(3, 4.5) * (u - 0.9 * np.abs(v))))
    rib = np.exp(-((v / 0.05) ** 2))
    return Form(distance, np.maximum(0.4 + 0.3 * veins, rib))


def _tile(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """A rectangle with round corners, in checks."""
    half = np.array((rng.uniform(0.6, 0.8), rng.uniform(0.4, 0.6)), np.float32)
    a, b = np.abs(u) - half[0] + 0.1, np.abs(v) - half[1] + 0.1
    distance = np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - 0.1
    steps = TURN * rng.uniform(1.6, 2.4)
    checks = np.tanh(6 * np.sin(steps * u) * np.sin(steps * v))
    return Form(distance, 0.5 + 0.4 * checks)


def _flower(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """Petals, streaked from a bright heart."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    petals = int(rng.integers(5, 9))
    outline = 0.55 + 0.4 * np.abs(np.cos(angle * petals / 2))
    streaks = np.cos(angle * petals * 3)
    tone = 0.2 + 0.6 * np.clip(r, 0, 1) + 0.15 * streaks * r
    return Form(0.7 * (r - outline), np.where(r < 0.2, 1.2, tone))


def _ring(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """A twisted rope, closed to a ring."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    half = rng.uniform(0.12, 0.24)
    across = (r - (1 - half)) / half
    twist = np.sin(angle * int(rng.integers(10, 18)) + 2.5 * across)
    return Form(half * (np.abs(across) - 1), 0.55 + 0.35 * twist - 0.3 * across**2)


def _chip(u: Field, v: Field, rng: np.random.Generator) -> Form:
    """A plain sliver, part of the background."""
    thin = rng.uniform(1, 5)
    return Form(np.hypot(u, v * thin) - 1, np.full(u.shape, rng.uniform(0.2, 0.9), np.float32))


_FORMS = (_pebble, _leaf, _tile, _flower, _ring)


def _background(size: tuple[int, int], reach: float, rng: np.random.Generator) -> np.ndarray:
    """Marble, dunes or camouflage between three hues: (H, W, 3) float32, 0 .. 1."""
    first, second, third = (_noise(size, reach * cell, rng) for cell in (0.45, 0.25, 0.06))
    kind = rng.integers(3)
    if kind == 0:  # marble: stripes bent by noise
        tone = 0.5 + 0.5 * np.sin(TURN * (3 * first + 2 * second))
    elif kind == 1:  # dunes: fine ripples that follow a slow one
        tone = 0.7 * second + 0.3 * np.sin(TURN * (9 * first + second))
    else:  # camouflage: flat patches with sharp edges
        tone = 0.15 + 0.6 * (np.floor(4 * second) % 2)
    dark, bright = _colours(rng.random(), rng)
    other, _ = _colours(rng.random(), rng)
    tone, mix = (0.8 * tone + 0.2 * third)[..., None], np.clip(2.5 * first - 0.75, 0, 1)[..., None]
    low = dark + mix * (other - dark)
    return (low + tone * (bright - low)).astype(np.float32)


def _noise(size: tuple[int, int], cell: float, rng: np.random.Generator) -> Field:
    """Smooth noise about 0.5, mostly within 0 .. 1, with features ``cell`` pixels wide.

    A sum of plane waves of random direction, length and phase: it has no grid that could show.
    """
    waves = 12
    angle, phase = rng.uniform(0, TURN, (2, waves))
    speed = np.pi / cell * rng.uniform(0.4, 1.2, waves)
    down = np.arange(size[0])[:, None] * (speed * np.sin(angle)) + phase
    along = np.arange(size[1])[:, None] * (speed * np.cos(angle))
    rows = np.hstack((np.cos(down), -np.sin(down))).astype(np.float32)
    columns = np.hstack((np.cos(along), np.sin(along))).astype(np.float32)
    return 0.5 + np.float32(0.25 / np.sqrt(waves / 2)) * (rows @ columns.T)


def _colours(hue: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark and a bright colour of a hue (in turns) with some difference between them."""
    phase = np.array((0, 1 / 3, 2 / 3)) - hue
    wave = np.cos(TURN * phase)
    shifted = np.cos(TURN * (phase + rng.uniform(-0.08, 0.08)))
    strength = rng.uniform(0.5, 1)
    dark = rng.uniform(0.22, 0.36) + 0.18 * strength * wave
    bright = rng.uniform(0.62, 0.75) + 0.22 * strength * shifted
    return dark.astype(np.float32), bright.astype(np.float32)


def _lit(image: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Uneven light and a camera's noise: uint8."""
    light = 0.85 + 0.3 * _noise(image.shape[:2], 0.7 * reach, rng)
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(0.015)
    return np.rint(np.clip(image * light[..., None] + grain, 0, 1) * 255).astype(np.uint8)
