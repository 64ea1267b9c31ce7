"""Where the pixels of a top lie on its bottom, along one axis."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from segaware_np.window import Window


class Line(NamedTuple):
    """Pixel ``x`` of the top lies at ``scale x + shift`` of the bottom."""

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def at(self, x: int) -> Fraction:
        return self.scale * x + self.shift

    def on(self, below: Line) -> Line:
        """Where it lies on the bottom's own bottom, ``below(self(x))``."""
        return Line(below.scale * self.scale, below.scale * self.shift + below.shift)

    def back(self) -> Line:
        """Where the bottom's pixels lie on the top."""
        return Line(1 / self.scale, -self.shift / self.scale)


Lines = tuple[Line, Line]  # of rows and of columns


def through(window: Window) -> Lines:
    """Where the centres of a window's places lie."""
    rows, columns = (
        Line(Fraction(stride), Fraction(dilation * (kernel - 1), 2) - pad)
        for kernel, stride, pad, dilation in zip(
            window.kernel, window.stride, window.pad, window.dilation, strict=True
        )
    )
    return rows, columns


def spread(window: Window) -> Lines:
    """Where pixels lie that the places of a window were spread over: the way back."""
    rows, columns = through(window)
    return rows.back(), columns.back()


def corners(length: int, size: int) -> Line:
    """Where ``size`` pixels lie whose first and last are those of ``length``."""
    return Line(Fraction(max(length - 1, 1), max(size - 1, 1)))
