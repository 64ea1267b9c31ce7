"""Segmentation-aware conditional random field."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.layers.base import Layer, Need, Span
from segaware_np.ops.mean_field import mean_field_backward, mean_field_forward
from segaware_np.parameter import Parameter
from segaware_np.ranges import COUNT, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array


class MeanField(Layer):
    """Mean-field CRF of ``(unary, first q, features, position)``; see `mean_field_forward`.

    Parameters
    ----------
    classes : int
    window1, window2 : Window
        Of the filter of the features and of that of the position.
    iterations : int

    Raises
    ------
    TypeError, ValueError
        If `window1` or `window2` is no `Window`, or a number is no count.

    Examples
    --------
    >>> layer = MeanField(2, Window.same(5, dilation=2), Window.same(3))
    >>> layer.initialize(np.random.default_rng(0), "float64")
    >>> score, features, position = (np.zeros((1, c, 6, 8)) for c in (2, 5, 2))
    >>> layer.forward(score, score, features, position).shape, sorted(layer.params)
    ((1, 2, 6, 8), ['bilateral', 'compatibility', 'spatial'])
    """

    formula = "Q <- U - Wc (Ws a + Wb b), a and b averages of softmax(Q)"

    def __init__(self, classes: int, window1: Window, window2: Window, iterations: int = 2) -> None:
        super().__init__()
        check_window(window1, "window1")
        check_window(window2, "window2")
        check("classes", classes, COUNT)
        check("iterations", iterations, COUNT)
        self.classes = classes
        self.options: dict[str, Any] = dict(window1=window1, window2=window2, iterations=iterations)

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the length of the scores."""
        return lengths[0]

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return what an iteration reaches, as often as there are iterations."""
        windows = [w for w in (self.options["window1"], self.options["window2"]) if w is not None]
        step = max(w.dilation[axis] * (w.kernel[axis] // 2) for w in windows)
        far = step * self.options["iterations"]
        return [(max(span[0] - far, 0), min(span[1] + far, lengths[0] - 1))] * len(lengths)

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        for name, start in (("spatial", 1), ("bilateral", 1), ("compatibility", -1)):
            self.params[name] = Parameter(start * xp.eye(self.classes, dtype=dtype))

    def forward(self, *inputs: Array) -> Array:
        matrices = [p.data for p in self.params.values()]
        q, self.cache = mean_field_forward(*inputs, *matrices, **self.options)
        return q

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        *d_inputs, dws, dwb, dwc = mean_field_backward(dy, self.cache)
        for parameter, gradient in zip(self.params.values(), (dws, dwb, dwc), strict=True):
            parameter.accumulate(gradient)
        return tuple(d_inputs)
