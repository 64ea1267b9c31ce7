"""Blobs: the arrays of a network as Caffe's users know them, `data` and `diff` side by side."""

from __future__ import annotations

from typing import Any

from segaware_np.parameter import Parameter
from segaware_np.xp import Array, array_module

Shape = tuple[int, ...]


class ParameterBlob(Parameter):
    """A learned array and its gradient, perhaps shared by several layers.

    Attributes
    ----------
    data, diff : array
        `diff` accumulates over backward passes until `Net.clear_diffs`.
    lr_mult, decay_mult : float
    wanted : bool
        Whether backward computes a gradient for it.
    owner : ParameterBlob
        Itself, or that whose numbers it shows in another shape: the one that is learned.
    """

    def __init__(self, data: Array, lr_mult: float, decay_mult: float, wanted: bool) -> None:
        self.data = data
        self.lr_mult, self.decay_mult = lr_mult, decay_mult
        self.wanted, self.owner = wanted, self
        self._grad: Array | None = None

    @property
    def grad(self) -> Array:  # type: ignore[override]
        if self._grad is None:  # made when first asked for: networks in use never ask
            self._grad = array_module(self.data).zeros_like(self.data)
        return self._grad

    @property
    def diff(self) -> Array:
        return self.grad

    @property
    def shape(self) -> Shape:
        return self.data.shape

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_grad": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def view(self, shape: Shape) -> ParameterBlob:
        """The same numbers, and the same gradient, in another shape."""
        view = ParameterBlob(self.data.reshape(shape), self.lr_mult, self.decay_mult, self.wanted)
        view._grad, view.owner = self.grad.reshape(shape), self.owner
        return view

    def accumulate(self, gradient: Array | None) -> None:
        if gradient is not None:
            grad = self.grad
            grad += gradient

    def clear(self) -> None:
        if self._grad is not None:
            self._grad[...] = 0

    def __repr__(self) -> str:
        return f"ParameterBlob({self.data.shape}, {self.data.dtype})"
