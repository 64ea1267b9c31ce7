"""Fillers: initial values of parameters, and the contents of dummy data."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message


def fill(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return an array of float64 as the filler describes it.

    The random ones have Caffe's distributions, not its very numbers.

    Raises
    ------
    FormatError
        If the filler is unknown, or does not suit the shape.
    """
    if filler.type not in _FILLERS:
        known = ", ".join(_FILLERS)
        raise filler.error(f"unknown filler {filler.type!r} (there are {known})")
    if filler.sparse >= 0 and filler.type != "gaussian":
        raise filler.error(f"filler {filler.type!r} cannot be sparse")
    if 0 in shape:
        return np.zeros(shape)
    return _FILLERS[filler.type](filler, shape, rng)


def _constant(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, filler.value)


def _uniform(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    if filler.min > filler.max:
        raise filler.error(f"filler 'uniform': min {filler.min} is above max {filler.max}")
    return rng.uniform(filler.min, filler.max, shape)


def _gaussian(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    if filler.std < 0:
        raise filler.error(f"filler 'gaussian': negative std {filler.std}")
    values = rng.normal(filler.mean, filler.std, shape)
    if filler.sparse >= 0 and shape:
        values *= rng.random(shape) < filler.sparse / shape[0]
    return values


def _xavier(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    bound = sqrt(3 / _fan(filler, shape))
    return rng.uniform(-bound, bound, shape)


def _msra(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, sqrt(2 / _fan(filler, shape)), shape)


def _fan(filler: Message, shape: Shape) -> float:
    size = int(np.prod(shape))
    fan_in = size / (shape[0] if shape else 1)
    fan_out = size / (shape[1] if len(shape) > 1 else 1)
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[
        filler.variance_norm
    ]


def _bilinear(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise filler.error(f"filler 'bilinear' needs square 4-axis weights, got {shape}")
    f = ceil(shape[3] / 2)
    c = (2 * f - 1 - f % 2) / (2 * f)
    tent = 1 - np.abs(np.arange(shape[3]) / f - c)
    return np.broadcast_to(np.outer(tent, tent), shape).copy()


def _xy(filler: Message, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """The position image, with the authors' arithmetic for batches.

    Their filler strides samples by the channel, so that in a batch of N plane 0 holds x, planes 1
    to N hold y and the rest stays 0: right for the batch of 1 that the published networks use.
    """
    if len(shape) != 4 or shape[1] != 2:
        raise filler.error(f"filler 'xy' needs a shape (N, 2, H, W), got {shape}")
    n, _, h, w = shape
    planes = np.zeros((2 * n, h, w))
    planes[:1] = np.arange(w)
    planes[1 : n + 1] = np.arange(h)[:, None]
    return planes.reshape(shape)


_FILLERS = {
    "constant": _constant,
    "gaussian": _gaussian,
    "uniform": _uniform,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
    "bilinear_upsampling": _bilinear,  # CCNN's name for it
    "xy": _xy,
}
