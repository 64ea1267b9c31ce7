"""What a network asks of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from segaware_np.parameter import Parameter
from segaware_np.window import Axis, Window
from segaware_np.xp import Array

Need = tuple[bool, ...]
Span = tuple[int, int]  # first and last pixel along one axis of an image


class Layer(ABC):
    """What a network asks of a layer.

    Attributes
    ----------
    formula : str
        What the layer computes, in one line.
    pointwise : bool
        Whether a pixel of the output depends on the same pixel of the inputs and on no other.
    params : dict of str to Parameter
        Empty before `initialize`.
    training : bool
        Whether the layer runs as in training (dropout drops) or as in use.
    first : int
        Number of the first sample of the inputs within its batch, where a part of one is given.
    cache : object
        What the last `forward` left for `backward`; None when there is nothing.

    Examples
    --------
    A layer of one's own takes a forward, a backward and a formula:

    >>> class Square(Layer):
    ...     formula = "y = x^2"
    ...     def forward(self, x):
    ...         self.cache = x
    ...         return x * x
    ...     def backward(self, dy, need=None):
    ...         return (2 * self.cache * dy,)
    >>> layer = Square()
    >>> layer.forward(np.array([3.0])).item(), layer.backward(np.array([1.0]))[0].item()
    (9.0, 6.0)
    """

    formula: ClassVar[str] = ""
    pointwise: ClassVar[bool] = False

    def __init__(self) -> None:
        self.params: dict[str, Parameter] = {}
        self.training = False
        self.first = 0
        self.cache: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle and a copy keep: all but what the last forward pass left."""
        return vars(self) | {"cache": None}

    def initialize(  # noqa: B027  (most layers have nothing to draw)
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        """Draw the parameters. Layers without any do nothing."""

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the output's length along an axis (0: rows, 1: columns) from those of the inputs.

        Raises
        ------
        TypeError
            If the layer does not say what it reads: it is neither `pointwise` nor has methods of
            its own here and in `reads`.
        """
        self._check_pointwise()
        return lengths[0]

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return what a span of the output depends on: a span of each input, None for nothing.

        `reach` walks these spans from a network's output back to its image.

        Raises
        ------
        TypeError
            As for `length`.
        """
        self._check_pointwise()
        return [span] * len(lengths)

    def count(self) -> float | None:
        """Return what a loss was divided by, before the floor of 1; None: by no count.

        Parts of a batch weigh as their counts do.
        """
        return None

    def _check_pointwise(self) -> None:
        if not self.pointwise:
            raise TypeError(
                f"{type(self).__name__}: expected a layer that says what it reads: `pointwise = "
                "True` if a pixel reads its own place alone, else methods `length` and `reads`"
            )

    @abstractmethod
    def forward(self, *inputs: Array) -> Array:
        """Return the output and keep in `cache` what `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        """Accumulate parameter gradients; return the inputs' gradients where `need` says so."""

    def _wanted(self, inputs: dict[str, bool]) -> set[str]:
        """Names for an op's `need`: inputs that are asked for, parameters that are not frozen."""
        names = {name for name, wanted in inputs.items() if wanted}
        return names | {name for name, p in self.params.items() if p.lr_mult}


class WindowedLayer(Layer):
    """A layer whose output at a window reads its first input there, and any others at its centre.

    Attributes
    ----------
    window : Window
    """

    window: Window

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """Return the number of windows."""
        return self._axis(lengths, axis).windows

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return the pixels that these windows cover."""
        return [self._axis(lengths, axis).covered(*span), *[span] * (len(lengths) - 1)]

    def _axis(self, lengths: Sequence[int], axis: int) -> Axis:
        return self.window.axes((lengths[0], lengths[0]))[axis]
