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
_LONG_STEPS = (2.0**-2, 2.0**-4)  # for functions that are rough at shorter ones
SINGLE = 2.0**-23  # what float32 rounds to
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
    """The line ``inputs[at] + t * direction``, along which ``<d_output, output>`` is followed.

    The output is rounded to ``roundoff`` of its size.
    """

    output: Output
    inputs: Sequence[Any]
    at: int
    direction: Array
    d_output: Array
    roundoff: float = _EPSILON

    @property
    def size(self) -> float:
        """The size of the entries that are moved, as a power of two; at least 1."""
        xp = array_module(self.direction)
        moved = xp.where(self.direction != 0, xp.abs(self.inputs[self.at]), 0.0)
        return float(2.0 ** np.ceil(np.log2(max(1.0, float(moved.max())))))

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
        except Exception as error:  # of whatever class: real inputs have passed
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
    best = Derivative(float("nan"), float("inf"))
    touched: Array = False  # which outputs have moved at any step: others have no rounding
    for step in _STEPS if ray.roundoff == _EPSILON else _LONG_STEPS + _STEPS:
        with np.errstate(all="ignore"):  # a long step may leave the domain; a shorter one follows
            found, touched = _difference(ray, step * ray.size, ray.size, touched)
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
    bound = _truncation(orders) + 4 * ray.roundoff * (rounding + abs(value) * size / step)
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


def roundoff(ray: Ray) -> float:
    """Return to what fraction of its size the output is rounded: that of float64, or coarser.

    A forward that rounds to float32 returns the same until its inputs have moved by enough, and
    then jumps. So the ray is followed in ever shorter steps: an entry that does not move at the
    shortest is rounded to the least it does move by, compared with its size, or with what its slope
    makes of that of the input, or (where its terms cancel) a thousandth of that of the input.
    Typical is the median entry.
    """
    xp = array_module(ray.direction)
    y = ray.outputs_at(0.0)
    steps = [2.0**-k * ray.size for k in range(12, 53, 4)]
    with np.errstate(all="ignore"):
        moves = xp.stack([xp.abs(ray.outputs_at(step) - y) for step in steps])
        slope = moves[0] / 2.0**-12
        scale = xp.maximum(xp.maximum(xp.abs(y), slope), 2.0**-10 * ray.size)
        jumps = xp.where(moves > 0, moves, xp.inf).min(axis=0) / scale
    jumps = xp.where((moves[-3:] > 0).any(axis=0), 0.0, jumps)
    jumps = jumps[xp.isfinite(jumps)]
    found = float(xp.median(jumps)) if jumps.size else 0.0
    return max(found, SINGLE) if found > 2.0**-40 else _EPSILON


def one_sided(ray: Ray) -> tuple[float, float]:
    """Return the slopes to the left and to the right: they differ where there is a kink."""
    step = 2.0**-20 if ray.roundoff == _EPSILON else 2.0**-10
    xp = array_module(ray.direction)
    y = ray.outputs_at(0.0)
    slopes = []
    for t in (-step, step):
        moved = ray.outputs_at(t)
        with np.errstate(invalid="ignore"):  # infinite entries that do not move
            change = xp.where(moved != y, moved - y, 0.0)
        slopes.append(float((ray.d_output * change).sum()) / t)
    return slopes[0], slopes[1]
