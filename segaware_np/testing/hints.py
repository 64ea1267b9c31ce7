"""From the pattern of a wrong gradient to the mistake that usually makes it."""

from __future__ import annotations

from itertools import permutations

import numpy as np


def hint(claim: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> str:
    """Return a guess, in a sentence, at what makes ``claim`` differ from ``truth``.

    Parameters
    ----------
    claim, truth : numpy.ndarray
        The gradient that backward returned and the derivative, of one shape.
    wrong : numpy.ndarray of bool
        Where they disagree.

    Returns
    -------
    str
        Empty when no known pattern fits.
    """
    if not np.isfinite(claim).all():
        return "backward returned values that are not finite"
    if not claim.any():
        return "backward is zero everywhere: the gradient is not computed, or not returned"
    for guess in (_factor, _rearranged, _confined):
        if text := guess(claim, truth, wrong):
            return text
    return ""


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-8 * float(np.abs(b).max(initial=0.0))))


def _factor(claim: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> str:
    largest = np.abs(truth).argmax()
    if truth.flat[largest] == 0:
        return ""
    ratio = claim.flat[largest] / truth.flat[largest]
    if abs(ratio - 1) < 1e-6 or not _close(claim, ratio * truth):
        return ""
    if abs(ratio + 1) < 1e-6:
        return "every entry has the wrong sign"
    return f"every entry is {ratio:.6g} times the derivative: a factor is wrong"


def _rearranged(claim: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> str:
    axes = tuple(range(claim.ndim))
    if 1 < claim.ndim <= 5:
        for order in permutations(axes):
            swapped = truth.transpose(order)
            if order != axes and swapped.shape == claim.shape and _close(claim, swapped):
                return f"it is the derivative with its axes transposed to {order}"
    for axis in axes:
        if claim.shape[axis] > 1 and _close(claim, np.flip(truth, axis)):
            return f"it is the derivative mirrored along axis {axis}"
        for shift in (-1, 1):
            if claim.shape[axis] > 2 and _interior_close(claim, np.roll(truth, shift, axis), axis):
                return f"it is the derivative shifted by {shift:+d} along axis {axis}"
    return ""


def _interior_close(claim: np.ndarray, rolled: np.ndarray, axis: int) -> bool:
    inside = [slice(None)] * claim.ndim
    inside[axis] = slice(1, -1)  # what a shift brings in at the border is not comparable
    return bool(claim[tuple(inside)].any()) and _close(claim[tuple(inside)], rolled[tuple(inside)])


def _confined(claim: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> str:
    """Entries that are wrong at some indices of one axis only."""
    for axis in range(claim.ndim):
        others = tuple(a for a in range(claim.ndim) if a != axis)
        bad = np.flatnonzero(wrong.any(axis=others))
        if 0 < len(bad) < claim.shape[axis]:
            places = ", ".join(map(str, bad[:8])) + (" ..." if len(bad) > 8 else "")
            lost = "; the rest is right" if claim[wrong].any() else ", where it is zero"
            return f"wrong only at {places} of axis {axis} (of length {claim.shape[axis]}){lost}"
    return ""
