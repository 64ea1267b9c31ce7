"""What a gradient check found: entry by entry, input by input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segaware_np.testing.errors import Index


@dataclass(frozen=True)
class Entry:
    """One entry of a gradient, or (index None) the gradient along one direction.

    Attributes
    ----------
    index : tuple of int or None
    claimed : float
        What backward returned.
    derivative : float
        What it is.
    bound : float
        How far off that may be.
    allowed : float
        How far the two may be apart.

    Examples
    --------
    >>> Entry((0, 2), claimed=2.0, derivative=1.0, bound=0.0, allowed=1e-12).relative_error
    0.5
    """

    index: Index | None
    claimed: float
    derivative: float
    bound: float
    allowed: float

    @property
    def excess(self) -> float:
        """How far the two values are apart, in units of what is allowed."""
        apart = abs(self.claimed - self.derivative)
        if not np.isfinite(apart):
            return float("inf")
        return apart / self.allowed if apart else 0.0

    @property
    def relative_error(self) -> float:
        """The difference relative to the larger of both values."""
        size = max(abs(self.claimed), abs(self.derivative))
        return abs(self.claimed - self.derivative) / size if size else 0.0


@dataclass(frozen=True)
class InputReport:
    """What was found for one input.

    Attributes
    ----------
    name : str
    shape : tuple of int
    method : str
        How the derivative was found.
    checked : str
        How many entries, or along what.
    worst : Entry or None
        The entry that is off most; None where there is none.
    kinks : int
        Entries at which the function has a kink.
    roundoff : float
        To what fraction of its size forward rounds its output, where that is coarser than
        float64: 1e-7 or so means that it computes in float32, and is proved to no more than that.

    Examples
    --------
    >>> print(InputReport("x", (3,), "complex step", "3 of 3 entries", None))
    x (3,): 3 of 3 entries by complex step
    """

    name: str
    shape: tuple[int, ...]
    method: str
    checked: str
    worst: Entry | None
    kinks: int = 0
    roundoff: float = 0.0

    def __str__(self) -> str:
        line = f"{self.name} {self.shape}: {self.checked} by {self.method}"
        if self.worst is not None:
            where = "a random direction" if self.worst.index is None else str(self.worst.index)
            line += (
                f", worst at {where}: backward {self.worst.claimed:.15g}, derivative "
                f"{self.worst.derivative:.15g}, relative error {self.worst.relative_error:.2g}"
            )
            if self.worst.bound:
                line += f", error bound {self.worst.bound:.2g}"
        if self.roundoff:
            line += f", forward rounds to {self.roundoff:.1g}"
        return line + (f", {self.kinks} at kinks" if self.kinks else "")


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found: one `InputReport` for each differentiable input.

    Attributes
    ----------
    inputs : tuple of InputReport

    Examples
    --------
    >>> from segaware_np.testing import check_gradients
    >>> report = check_gradients(lambda x: (3 * x, None), lambda dy, _: 3 * dy, [np.ones(2)])
    >>> report.inputs[0].worst.relative_error < 1e-15
    True
    """

    inputs: tuple[InputReport, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.inputs))
