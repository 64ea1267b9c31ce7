"""Derivatives of a function of arrays along a direction, without its backward function."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from segaware_np.testing.nest import is_real
from segaware_np.xp import Array, array_module

Output = Callable[..., Array]

COMPLEX_STEP = 1e-30
_EPSILON = float(np.finfo(np.float64).eps)
_STEPS = tuple(2.0**-k for k in range(6, 27, 4))
# Weights of y(x + m h) - y(x - m h), m = 1..4, in central differences of order 2, 4, 6 and 8.
_ORDERS = np.array([
    (1 / 2, 0, 0, 0),
    (2 / 3, -1 / 12, 0, 0),
    (3 / 4, -3 / 20, 1 / 60, 0),
    (4 / 5, -1 / 5, 4 / 105, -1 / 280),
])  # fmt: skip

_ComplexWarning = getattr(np, "exceptions", np).ComplexWarning


class NotComplexError(TypeError):
    """The function does not carry complex numbers through from its inputs to its output."""


class Derivative(NamedTuple):
    """A derivative and an estimate of how far off it may be."""

    value: float
    bound: float


class Ray(NamedTuple):
    """The line ``inputs[at] + t * direction``, along which ``<d_output, output>`` is followed."""

    output: Output
    inputs: Sequence[Any]
    at: int
    direction: Array
    d_output: Array

    def outputs_at(self, t: float) -> Array:
        """Return the output at ``t``."""
        moved = list(self.inputs)
        xp = array_module(self.direction)
        moved[self.at] = xp.asarray(moved[self.at] + t * self.direction)
        return self.output(*moved)


def complex_step(ray: Ray) -> Derivative:
    """Return the derivative by a complex step: ``Im <d_output, output(x + i h v)> / h``.

    Nothing is subtracted, so nothing cancels, and h = 1e-30 leaves no truncation error: the
    result is exact to rounding (Squire and Trapp, SIAM Review 40, 1998).

    Raises
    ------
    NotComplexError
        If complex inputs are refused, or the output comes back real.
    """
    inputs = [x.astype(complex) if is_real(x) else x for x in ray.inputs]
    inputs[ray.at].imag = COMPLEX_STEP * ray.direction
    with warnings.catch_warnings():
        warnings.simplefilter("error", _ComplexWarning)
        try:
            y = ray.output(*inputs)
        except (TypeError, _ComplexWarning) as error:
            raise NotComplexError(f"complex inputs are refused: {error}") from error
    if y.dtype.kind != "c":
        raise NotComplexError(f"the output of complex inputs is {y.dtype}")
    xp = array_module(y)
    slope = xp.where(xp.isfinite(y.real), y.imag, 0.0)  # an infinite entry stays where it is
    return Derivative(float((ray.d_output * slope).sum()) / COMPLEX_STEP, 0.0)


def central_difference(ray: Ray) -> Derivative:
    """Return the derivative by central differences of order 8, at the best of several steps.

    The bound is the truncation of order 6 (see `_truncation`) plus the rounding of the outputs,
    divided by the step. Of the steps 2^-6 ... 2^-26, relative to the size of the moved entries,
    the one with the least bound is taken; the search ends when the bound no longer matters.
    """
    xp = array_module(ray.direction)
    moved = xp.where(ray.direction != 0, xp.abs(ray.inputs[ray.at]), 0.0)
    size = 2.0 ** np.ceil(np.log2(max(1.0, float(moved.max()))))
    best = Derivative(float("nan"), float("inf"))
    touched: Array = False  # which outputs have moved at any step: others have no rounding
    for step in _STEPS:
        with np.errstate(all="ignore"):  # a long step may leave the domain; a shorter one follows
            found, touched = _difference(ray, step * size, size, touched)
        if found.bound < best.bound:
            best = found
        if best.bound <= 1e-10 * abs(best.value):
            break
    return best


def _difference(ray: Ray, step: float, size: float, touched: Array) -> tuple[Derivative, Array]:
    rises, rounding = np.zeros(4), 0.0
    xp = array_module(ray.direction)
    for m in (3, 2, 1, 0):
        right, left = ray.outputs_at((m + 1) * step), ray.outputs_at(-(m + 1) * step)
        moved = right != left  # leaves out infinite entries, which do not move
        touched = touched | moved  # a step too short to move one says nothing for sure
        rises[m] = float((ray.d_output * xp.where(moved, right - left, 0.0)).sum())
        noise = xp.where(touched, xp.abs(right) + xp.abs(left), 0.0)
        noise = xp.where(moved | xp.isfinite(noise), noise, 0.0)
        rounding += abs(_ORDERS[3, m]) * float((xp.abs(ray.d_output) * noise).sum())
    orders = _ORDERS @ rises
    value = float(orders[3])
    bound = _truncation(orders) + 4 * _EPSILON * (rounding + abs(value) * size / step)
    bound = float("inf") if np.isnan(bound) else bound
    return Derivative(value / step, bound / step), touched


def _truncation(orders: np.ndarray) -> float:
    """How far order 6 is off: more than order 8 is.

    Its distance to order 8 would do, but where the seventh derivative is near zero both agree by
    chance. So it is also extrapolated from the steps between lower orders, as if each were the
    same fraction of the one before.
    """
    gaps = np.abs(np.diff(orders, prepend=0.0))  # order 2 itself, then what each order adds
    fraction = np.sqrt(gaps[2:].sum() / max(gaps[:2].sum(), 1e-300))
    return float(max(gaps[3], gaps[2] * min(fraction, 1.0)))


def one_sided(ray: Ray) -> tuple[float, float]:
    """Return the slopes to the left and to the right: they differ where there is a kink."""
    step = 2.0**-20
    xp = array_module(ray.direction)
    y = ray.outputs_at(0.0)
    slopes = []
    for t in (-step, step):
        moved = ray.outputs_at(t)
        with np.errstate(invalid="ignore"):  # infinite entries that do not move
            change = xp.where(moved != y, moved - y, 0.0)
        slopes.append(float((ray.d_output * change).sum()) / t)
    return slopes[0], slopes[1]
