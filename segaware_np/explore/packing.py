"""Pictures and embeddings as small strings: principal components, one step, deflate.

The page decodes what is packed here (``decode`` in ``page.js``): change both together.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, NamedTuple

import numpy as np

_FINEST = 1e-4  # of the embedding's standard deviation: finer steps cost bytes that nobody sees


class Packed(NamedTuple):
    """An embedding as integers: ``embedding - mean = step * basis @ levels``."""

    levels: np.ndarray  # (k, H, W) int32, strongest component first
    step: float
    basis: np.ndarray  # (E, k), orthonormal columns
    stream: bytes  # the levels, predicted and deflated

    @property
    def values(self) -> np.ndarray:
        """What the page will see, (E, H, W), without the mean (distances do not feel it)."""
        return np.tensordot(self.basis, self.step * self.levels, axes=1)

    def as_json(self) -> dict[str, Any]:
        """The packed embedding as the page reads it."""
        basis = [[float(f"{value:.6g}") for value in row] for row in self.basis]
        components, height, width = self.levels.shape
        return {
            "width": width,
            "height": height,
            "components": components,
            "step": self.step,
            "basis": basis,
            "stream": base64.b64encode(self.stream).decode(),
        }


def pack_image(image: np.ndarray) -> Packed:
    """Pack an RGB picture without loss, as an embedding with values from 0 to 1.

    Parameters
    ----------
    image : (H, W, 3) uint8
    """
    levels = np.moveaxis(image, -1, 0).astype(np.int32)
    return Packed(levels, 1 / 255, np.eye(3), _deflate(levels))


def pack_embedding(embedding: np.ndarray, room: float) -> Packed:
    """Pack an embedding as finely as the room allows.

    The embedding is rotated to its principal components, which are all rounded to multiples of
    one step: for a given error this spends the fewest bits, and components smaller than the step
    vanish by themselves. The step is the smallest, down to 1e-4 of the standard deviation, that
    fits the room. The root mean square error of a value is at most ``step / sqrt(12)``, plus what
    the vanished components held.

    Parameters
    ----------
    embedding : (E, H, W) float
    room : float
        Bytes for the deflated stream.
    """
    channels, height, width = embedding.shape
    flat = embedding.reshape(channels, -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    variance, basis = np.linalg.eigh(flat @ flat.T / flat.shape[1])
    basis = basis[:, ::-1]  # eigh sorts upwards
    components = basis.T @ flat
    spread = float(np.sqrt(max(variance.sum(), 0.0))) or 1.0
    step = max(_FINEST * spread, float(np.abs(components).max()) / 2**14)  # residuals of 16 bits
    room += flat[0].size / 400 + 64  # what deflate needs to say that all levels are zero
    while True:
        levels = np.rint(components / step).astype(np.int32)
        kept = levels.any(axis=1)
        kept[0] = True
        levels = levels[kept].reshape(-1, height, width)
        stream = _deflate(levels)
        if len(stream) <= room:
            return Packed(levels, step, basis[:, kept], stream)
        # A step twice as large saves about one bit for each level.
        step *= 2 ** max(0.05, 8 * (len(stream) - room) / levels.size)


def _deflate(levels: np.ndarray) -> bytes:
    """Levels (k, H, W), |level| < 2^15, as residuals of the median predictor, high bytes first."""
    padded = np.pad(levels, ((0, 0), (1, 0), (1, 0)))
    left, up, corner = padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]
    predicted = np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
    residual = levels - predicted
    zigzag = np.where(residual < 0, -2 * residual - 1, 2 * residual).astype(np.uint16)
    planes = np.stack([zigzag >> 8, zigzag & 255]).astype(np.uint8)
    return zlib.compress(planes.tobytes(), 6)
