"""Softmax over the channels of some pixels at a time, see `pixels`."""

from __future__ import annotations

import numpy as np

from segaware_np.cpu.pixels import Part, flat, parts
from segaware_np.cpu.threads import parallel


def softmax(x: np.ndarray) -> np.ndarray:
    """Fast form of `segaware_np.ops.softmax.softmax`."""
    pixels, p = flat(x), np.empty(x.shape, x.dtype)
    out = flat(p)

    def work(part: Part) -> None:
        block = out[part]
        np.subtract(pixels[part], pixels[part].max(1, keepdims=True), out=block)
        np.exp(block, out=block)
        block /= block.sum(1, keepdims=True)

    parallel(work, parts(pixels), pixels.size)
    return p


def softmax_grad(dp: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Fast form of `segaware_np.ops.softmax.softmax_grad`."""
    dpixels, pixels, dx = flat(dp), flat(p), np.empty(p.shape, p.dtype)
    out = flat(dx)

    def work(part: Part) -> None:
        block = out[part]
        total = np.einsum("ncp,ncp->np", pixels[part], dpixels[part])
        np.subtract(dpixels[part], total[:, None], out=block)
        block *= pixels[part]

    parallel(work, parts(pixels), pixels.size)
    return dx
