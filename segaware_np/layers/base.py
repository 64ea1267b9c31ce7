"""What a network asks of a layer, and the parameters that layers hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from segaware_np.xp import Array, array_module

Need = tuple[bool, ...]


class Parameter:
    """A learned array and its gradient.

    Parameters
    ----------
    data : array
        Kept, not copied: solvers write into it.
    lr_mult, decay_mult : float
        Factors on the solver's learning rate and weight decay. With ``lr_mult == 0`` the
        parameter is frozen: no gradient is computed for it.

    Attributes
    ----------
    grad : array
        dL/d(data), of the same shape, accumulated until it is cleared.

    Examples
    --------
    >>> weight = Parameter(np.zeros(2))
    >>> weight.accumulate(np.array([1.0, 2.0]))
    >>> weight.accumulate(np.array([1.0, 0.0]))
    >>> weight.grad.tolist()
    [2.0, 2.0]
    """

    def __init__(self, data: Array, lr_mult: float = 1.0, decay_mult: float = 1.0) -> None:
        self.data = data
        self.grad = array_module(data).zeros_like(data)
        self.lr_mult = lr_mult
        self.decay_mult = decay_mult

    def accumulate(self, gradient: Array | None) -> None:
        """Add to the gradient; None stands for nothing."""
        if gradient is not None:
            self.grad += gradient


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
