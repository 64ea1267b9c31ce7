"""Columns and their adjoint, a band of windows at a time."""

from __future__ import annotations

import numpy as np

from segaware_np.cpu import small
from segaware_np.cpu.threads import get_num_threads, parallel
from segaware_np.cpu.views import Gathering, WindowViews, gather
from segaware_np.window import Pair, Window


def im2col(x: np.ndarray, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.columns.im2col`."""
    found = small.im2col(x, window)
    if found is not None:
        return found
    n, c, h, w = x.shape
    windows = WindowViews(window, (h, w))
    images = np.ascontiguousarray(x).reshape(n, c, h * w)
    columns = np.empty((n, c, *window.kernel, *windows.count), x.dtype)

    def work(job: tuple[int, Pair]) -> None:
        image, band = job
        out = columns[image, ..., band[0] : band[1], :]
        np.copyto(out, windows.look(images[image], band))
        windows.clear(out, band)

    jobs = [(image, band) for image in range(n) for band in windows.bands()]
    parallel(work, jobs, columns.size)
    return columns.reshape(n, c, window.size, *windows.count)


def col2im(cols: np.ndarray, shape: Pair, window: Window) -> np.ndarray:
    """Fast form of `segaware_np.ops.columns.col2im`."""
    found = small.col2im(cols, shape, window)
    if found is not None:
        return found
    n, c = cols.shape[:2]
    windows = WindowViews(window, (shape[0], shape[1]))
    columns = cols.reshape(n, c, *window.kernel, *windows.count)
    x = np.zeros((n, c, windows.pixels), cols.dtype)

    def work(job: tuple[int, slice]) -> None:
        image, channels = job
        pixels = Gathering(x[image, channels], windows, (0, windows.count[0]))
        for band in windows.bands():
            part = columns[image, channels, ..., band[0] : band[1], :]
            pixels.add(slice(None), *gather(part, windows, band))

    step = max(1, n * c // (4 * get_num_threads()))
    blocks = [slice(start, start + step) for start in range(0, c, step)]
    parallel(work, [(image, block) for image in range(n) for block in blocks], cols.size)
    return x.reshape(n, c, *shape)
