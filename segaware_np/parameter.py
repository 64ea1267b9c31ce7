"""A learned array and its gradient: what layers hold and solvers change."""

from __future__ import annotations

from typing import Any

from segaware_np.ranges import FINITE, check
from segaware_np.xp import Array, array_module


class Parameter:
    """A learned array and its gradient.

    Parameters
    ----------
    data : array
        Kept, not copied: solvers write into it.
    lr_mult, decay_mult : float
        Factors on the solver's learning rate and weight decay. With ``lr_mult == 0`` the
        parameter is frozen: no gradient is computed for it.

    Raises
    ------
    TypeError, ValueError
        If a factor is no finite number.

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
        check("lr_mult", lr_mult, FINITE)
        check("decay_mult", decay_mult, FINITE)
        self.data = data
        self.grad = array_module(data).zeros_like(data)
        self.lr_mult = lr_mult
        self.decay_mult = decay_mult

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle and a copy keep: all but the gradient."""
        return {name: value for name, value in vars(self).items() if name != "grad"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, grad=array_module(state["data"]).zeros_like(state["data"]))

    def accumulate(self, gradient: Array | None) -> None:
        """Add to the gradient; None stands for nothing."""
        if gradient is not None:
            array_module(self.grad, gradient)
            self.grad += gradient
