"""What the proofs raise: assertion errors that say where to look."""

from __future__ import annotations

Index = tuple[int, ...]


class ProofError(AssertionError):
    """A proof failed. The message names the argument, the index and both values.

    Attributes
    ----------
    name : str or None
        The argument (or result) that is wrong.
    index : tuple of int or None
        The entry that is wrong.
    """

    def __init__(self, message: str, *, name: str | None = None, index: Index | None = None):
        super().__init__(message)
        self.name, self.index = name, index


class GradientError(ProofError):
    """A backward function does not return the derivative of its forward function."""


class AdjointError(ProofError):
    """Two linear maps are not each other's adjoint, or one of them is not linear."""


class MismatchError(ProofError):
    """Two functions that should agree do not."""


class PurityError(ProofError):
    """A function writes to its arguments, shares their memory or depends on their layout."""


def entry(name: str, index: Index) -> str:
    """Return ``name[i, j]``, or the bare name for a 0-d array."""
    return f"{name}[{', '.join(map(str, index))}]" if index else name
