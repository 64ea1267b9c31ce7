"""Pixels that gather from all the windows they are in, a band of windows at a time."""

from __future__ import annotations

import numpy as np

from segaware_np.cpu.bands import BandedWindows, overlap
from segaware_np.cpu.workspace import scratch
from segaware_np.window import Pair


class Gathering:
    """The adjoint of looking through windows, for the windows of some output rows.

    Sums go straight into the pixels that lie within these rows. The windows reach beyond them,
    where other threads may be adding: what belongs there is kept in two strips, for the caller to
    add when all threads are done, always in the same order.

    Parameters
    ----------
    dx : (C, H*W) array
        Flat image, to which everything is added.
    windows : BandedWindows
    rows : (first, last + 1) output row
    """

    def __init__(self, dx: np.ndarray, windows: BandedWindows, rows: Pair) -> None:
        self.dx, self.windows = dx, windows
        low, high = windows.reach(rows)
        self.own = self._edge(rows[0]), self._edge(rows[1])
        self.above = np.zeros((dx.shape[0], max(0, self.own[0] - max(0, low))), dx.dtype)
        self.below = np.zeros(
            (dx.shape[0], max(0, min(windows.pixels, high) - self.own[1])), dx.dtype
        )

    def _edge(self, row: int) -> int:
        """First pixel that belongs to the windows from this output row on."""
        if row in (0, self.windows.count[0]):
            return self.windows.pixels if row else 0
        height, width = self.windows.shape
        centre = row * self.windows.window.stride[0] + self.windows.window.origin[0]
        return min(max(0, centre), height) * width

    @property
    def borders(self) -> list[tuple[int, np.ndarray]]:
        start = self.own[0] - self.above.shape[1]
        return [(start, self.above), (self.own[1], self.below)]

    def add(self, channels: slice, columns: np.ndarray, band: Pair) -> None:
        """Let the pixels of some channels gather what arrived for them in a band's columns."""
        low, high = self.windows.reach(band)
        if self.own[0] <= low and high <= self.own[1]:
            self._gather(self.windows.view(self.dx[channels], 0, band), columns)
            return
        local = scratch("pixels", (columns.shape[0], high - low), columns.dtype)
        local[:] = 0
        self._gather(self.windows.view(local, low, band), columns)
        own = self.own[0], self.dx[:, self.own[0] : self.own[1]]
        for start, strip in [own, *self.borders]:
            inner, outer = overlap(low, high, start, start + strip.shape[1])
            strip[channels, outer] += local[:, inner]

    def _gather(self, view: np.ndarray, columns: np.ndarray) -> None:
        for i in range(view.shape[1]):
            for j, inside in enumerate(self.windows.inside_columns):
                view[:, i, j, :, inside] += columns[:, i, j, :, inside]
