"""From the pattern of a wrong gradient to the mistake that usually makes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from segaware_np.testing.errors import Index


@dataclass(frozen=True)
class _Case:
    """A claimed gradient, the derivative at some of its entries, and which of these are wrong."""

    claim: np.ndarray
    where: tuple[np.ndarray, ...]
    truth: np.ndarray
    wrong: np.ndarray

    @property
    def claimed(self) -> np.ndarray:
        return np.broadcast_to(self.claim[self.where], self.truth.shape)  # 0-d has no index

    @property
    def whole(self) -> bool:
        return len(self.truth) == self.claim.size

    def explained(self, claim: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> bool:
        """Whether ``claim``, rearranged or scaled, is the derivative at the entries chosen."""
        return _close(claim[self.where][chosen], self.truth[chosen])


def hint(claim: np.ndarray, truth: Mapping[Index, float], wrong: Collection[Index]) -> str:
    """Return a guess, in a sentence, at what makes ``claim`` differ from the derivative.

    Parameters
    ----------
    claim : numpy.ndarray
        The whole gradient that backward returned.
    truth : mapping of index to float
        The derivative at the entries that were checked: all of them, or a sample.
    wrong : collection of index
        Those at which the two disagree.

    Returns
    -------
    str
        Empty when no known pattern fits.
    """
    if not np.isfinite(claim).all():
        return "backward returned values that are not finite"
    if not claim.any():
        return "backward is zero everywhere: the gradient is not computed, or not returned"
    where = tuple(np.array(list(truth), dtype=int).reshape(len(truth), claim.ndim).T)
    bad = np.array([index in wrong for index in truth])
    case = _Case(claim, where, np.array(list(truth.values())), bad)
    for guess in (_factor, _transposed, _mirrored_or_shifted, _confined):
        if text := guess(case):
            return text
    return ""


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-8 * float(np.abs(b).max(initial=0.0))))


def _factor(case: _Case) -> str:
    largest = np.abs(case.truth).argmax()
    if case.truth[largest] == 0:
        return ""
    ratio = case.claimed[largest] / case.truth[largest]
    if abs(ratio - 1) < 1e-6 or not _close(case.claimed, ratio * case.truth):
        return ""
    if abs(ratio + 1) < 1e-6:
        return "every entry has the wrong sign"
    return f"every entry is {ratio:.6g} times the derivative: a factor is wrong"


def _transposed(case: _Case) -> str:
    axes = tuple(range(case.claim.ndim))
    for order in permutations(axes) if 1 < len(axes) <= 5 else ():
        undone = case.claim.transpose(np.argsort(order))
        if order != axes and undone.shape == case.claim.shape and case.explained(undone):
            return f"it is the derivative with its axes transposed to {order}"
    return ""


def _mirrored_or_shifted(case: _Case) -> str:
    for axis, length in enumerate(case.claim.shape):
        if length > 1 and case.explained(np.flip(case.claim, axis)):
            return f"it is the derivative mirrored along axis {axis}"
        for shift in (-1, 1) if length > 2 else ():
            to = case.where[axis] + shift  # what a shift brings in at the border is not comparable
            inside = (to >= 1) & (to <= length - 2)
            undone = np.roll(case.claim, -shift, axis)
            moved = undone[case.where][inside]
            if moved.any() and case.explained(undone, inside):
                return f"it is the derivative shifted by {shift:+d} along axis {axis}"
    return ""


def _confined(case: _Case) -> str:
    """Entries that are wrong at some indices of one axis only: of the axis with the fewest."""
    found = []
    for axis, length in enumerate(case.claim.shape):
        bad, tried = np.unique(case.where[axis][case.wrong]), np.unique(case.where[axis])
        if len(bad) < len(tried):
            found.append((len(bad) / len(tried), axis, length, bad))
    if not found:
        return ""
    _, axis, length, bad = min(found, key=lambda one: one[0])
    places = ", ".join(map(str, bad[:8])) + (" ..." if len(bad) > 8 else "")
    lost = "; the rest is right" if case.claimed[case.wrong].any() else ", where it is zero"
    sample = "" if case.whole else f", among {len(case.truth)} entries that were checked"
    return f"wrong only at {places} of axis {axis} (of length {length}){sample}{lost}"
