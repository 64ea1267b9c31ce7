"""What a network asks of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from segaware_np.parameter import Parameter
from segaware_np.xp import Array

Need = tuple[bool, ...]


class Layer(ABC):
    """What a network asks of a layer.

    Attributes
    ----------
    formula : str
        What the layer computes, in one line.
    params : dict of str to Parameter
        Empty before `initialize`.
    training : bool
        Whether the layer runs as in training (dropout drops) or as in use.
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

    def __init__(self) -> None:
        self.params: dict[str, Parameter] = {}
        self.training = False
        self.cache: Any = None

    def initialize(  # noqa: B027  (most layers have nothing to draw)
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        """Draw the parameters. Layers without any do nothing."""

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
