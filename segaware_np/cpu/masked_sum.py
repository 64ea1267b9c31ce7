"""Masked sums in bands: one contraction over strided views of an image with zeros around it.

Such a window may be large (13x13 with dilation 9 in the mean-field CRF), so the image is copied
once onto a canvas on which no window leaves the memory; every band is then one `einsum`. With
stride 1 the gradient of x is a masked sum as well: of dy, with the window and the mask turned
round, ``dx[q] = sum_k m[k, q - delta_k] dy[q - delta_k]``.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from segaware_np.cpu.bands import BandedWindows, overlap
from segaware_np.cpu.workspace import scratch
from segaware_np.ops import masked_sum as plain
from segaware_np.threads import parallel
from segaware_np.window import Pair, Window


def masked_sum(x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.masked_sum.masked_sum`."""
    canvas = _Canvas(x, window)
    weights = mask.reshape(len(mask), *window.kernel, *mask.shape[2:])
    y = np.empty((*x.shape[:2], *mask.shape[2:]), x.dtype)

    def work(job: tuple[int, Pair]) -> None:
        n, (first, stop) = job
        out = y[n, :, first:stop]
        _contract(canvas.look(n, (first, stop)), weights[n, :, :, first:stop], out, window)

    parallel(work, canvas.jobs)
    return y


def masked_sum_grad(
    dy: np.ndarray, x: np.ndarray, mask: np.ndarray, window: Window, need: Collection[str]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Fast form of `segaware_np.ops.masked_sum.masked_sum_grad`."""
    dx = _x_grad(dy, x, mask, window) if "x" in need else None
    return dx, _mask_grad(dy, x, window) if "mask" in need else None


def _mask_grad(dy: np.ndarray, x: np.ndarray, window: Window) -> np.ndarray:
    canvas, (h, w) = _Canvas(x, window), x.shape[2:]
    dmask = np.empty((len(x), *window.kernel, *dy.shape[2:]), x.dtype)
    windows = BandedWindows(window, (h, w))

    def work(job: tuple[int, Pair]) -> None:
        n, (first, stop) = job
        out = dmask[n, :, :, first:stop]
        seen = canvas.look(n, (first, stop))
        np.einsum("cijyx,cyx->ijyx", seen, dy[n, :, first:stop], out=out)
        windows.clear(out, (first, stop))

    parallel(work, canvas.jobs)
    return dmask.reshape(len(x), window.size, *dy.shape[2:])


def _x_grad(dy: np.ndarray, x: np.ndarray, mask: np.ndarray, window: Window) -> np.ndarray:
    (kh, kw), (ph, pw), (dh, dw) = window.kernel, window.pad, window.dilation
    pad = dh * (kh - 1) - ph, dw * (kw - 1) - pw
    if window.stride != (1, 1) or min(pad) < 0:
        dx, _ = plain.masked_sum_grad(dy, x, mask, window, {"x"})
        return np.asarray(dx)
    turned = Window(window.kernel, 1, pad, window.dilation)
    canvas = _Canvas(dy, turned)
    weights = mask.reshape(len(mask), kh, kw, *mask.shape[2:])
    dx = np.empty(x.shape, x.dtype)

    def work(job: tuple[int, Pair]) -> None:
        n, band = job
        turned_weights = _turn(weights[n], window, band, x.shape[3])
        _contract(canvas.look(n, band), turned_weights, dx[n, :, band[0] : band[1]], turned)

    parallel(work, canvas.jobs)
    return dx


def _turn(weights: np.ndarray, window: Window, band: Pair, width: int) -> np.ndarray:
    """``turned[-k, q] = weights[k, q - delta_k]`` for a band of image rows, 0 for no window."""
    kh, kw, *count = weights.shape
    out = scratch("weights", (kh, kw, band[1] - band[0], width), weights.dtype)
    out[:] = 0
    for i in range(kh):
        up = window.pad[0] - i * window.dilation[0]
        rows, from_rows = overlap(band[0] + up, band[1] + up, 0, count[0])
        for j in range(kw):
            left = window.pad[1] - j * window.dilation[1]
            columns, from_columns = overlap(left, width + left, 0, count[1])
            out[kh - 1 - i, kw - 1 - j, rows, columns] = weights[i, j, from_rows, from_columns]
    return out


def _contract(seen: np.ndarray, weights: np.ndarray, out: np.ndarray, window: Window) -> None:
    """``out[c, y, x] = sum_ij seen[c, i, j, y, x] weights[i, j, y, x]``."""
    # Where a step to the next tap is as long as a step to the next window, einsum would take the
    # taps for its inner loop, six times slower: it then gets them one at a time.
    taps = [slice(None)]
    if window.dilation[1] == window.stride[1]:
        taps = [slice(j, j + 1) for j in range(window.kernel[1])]
    np.einsum("cijyx,ijyx->cyx", seen[:, :, taps[0]], weights[:, taps[0]], out=out)
    for j in taps[1:]:
        out += np.einsum("cijyx,ijyx->cyx", seen[:, :, j], weights[:, j])


class _Canvas:
    """Images (N, C, H, W) with as many zeros around them as the windows see."""

    def __init__(self, images: np.ndarray, window: Window) -> None:
        n, c, h, w = images.shape
        count = window.output_shape((h, w))
        bare = Window(window.kernel, window.stride, 0, window.dilation)
        height, width = (
            (number - 1) * stride + dilation * (kernel - 1) + 1
            for number, stride, dilation, kernel in zip(
                count, bare.stride, bare.dilation, bare.kernel, strict=True
            )
        )
        top, left = window.pad
        self.windows = BandedWindows(bare, (height, width))
        self.flat = np.zeros((n, c, height * width), images.dtype)
        inner = self.flat.reshape(n, c, height, width)[:, :, top : top + h, left : left + w]
        inner[:] = images[:, :, : inner.shape[2], : inner.shape[3]]
        self.jobs = [(i, band) for i in range(n) for band in self.windows.bands()]

    def look(self, n: int, band: Pair) -> np.ndarray:
        """The windows of a band, (C, kh, kw, rows, Wo)."""
        return self.windows.look(self.flat[n], band)
