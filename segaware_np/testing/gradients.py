"""Proof that a backward function returns the derivative of its forward function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segaware_np.lazy import lazy
from segaware_np.testing.derivatives import (
    Derivative,
    NotComplexError,
    Ray,
    central_difference,
    complex_step,
    one_sided,
    roundoff,
)
from segaware_np.testing.errors import GradientError, Index, entry
from segaware_np.testing.hints import hint
from segaware_np.testing.nest import to_host
from segaware_np.testing.pair import Pair, run_pair
from segaware_np.testing.reports import Entry, GradientReport, InputReport
from segaware_np.testing.search import bisect, unit, unravel
from segaware_np.xp import Array, array_module

Differentiate = Callable[[Ray], Derivative]

_EPSILON = float(np.finfo(np.float64).eps)
_METHODS: dict[Differentiate, str] = {
    complex_step: "complex step",
    central_difference: "central differences",
}


def check_gradients(
    forward: Callable,
    backward: Callable,
    inputs: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    method: str = "auto",
    rtol: float = 1e-12,
    entries: int = 256,
    seed: int = 0,
) -> GradientReport:
    """Prove that ``backward`` returns the derivative of ``forward``, in float64.

    With ``y = forward(x1, x2, ...)`` and a random ``dy``, backward must return
    ``dx_j = d<dy, y> / dx_j`` for every entry j of every real input.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs) -> (output, cache)``, or ``(output1, output2, ..., cache)``. An output is
        an array, or a nest: tuples, lists and dictionaries of arrays.
    backward : callable
        ``backward(d_output, cache) -> gradients``, with a d_output for each output and of its
        structure (None in the place of what is not real): a tuple in the order of the inputs
        (those that are not real may be left out, or be None), a dictionary by their names, or the
        one gradient itself. The gradient for a nest is a nest.
    inputs : sequence
        NumPy or CuPy arrays, or nests; real arrays are converted to float64. Integer arrays, None
        and other objects, and numbers within a nest, are passed on and have no gradient. Bind a
        constant of floating point with `functools.partial`.
    names : sequence of str, optional
        Names for the messages; by default those of forward's parameters.
    method : {"auto", "complex", "differences"}
        How derivatives are found. The complex step is exact to rounding but needs a forward that
        carries complex numbers through (no abs, max or comparison of complex numbers that was
        not written for it). Central differences are of order 8, the step is chosen entry by entry
        and the estimated error is allowed for. "auto" takes the complex step for each input
        along which both agree.
    rtol : float
        Allowed difference relative to the entry, on top of rounding.
    entries : int
        Inputs up to this size are checked entry by entry. Larger ones are checked along three
        random directions; if one fails, the range is halved until a wrong entry is found.
    seed : int
        For the random numbers.

    Returns
    -------
    GradientReport
        ``print`` it to see, for each input, the worst entry and how it was checked.

    Raises
    ------
    GradientError
        If a gradient is wrong, missing or of another shape; if forward or backward writes to its
        arguments; or if one of them depends on anything but its arguments. At an entry where the
        function has a kink, any value between the slopes on both sides is right. If forward rounds
        to float32, only what is off by more than that is wrong.
    TypeError
        If method is "complex" and forward does not take complex numbers.
    ValueError
        If an argument has no meaning.

    Examples
    --------
    >>> def square_forward(x):
    ...     return x * x, x
    >>> def square_backward(dy, x):
    ...     return 2 * x * dy
    >>> report = check_gradients(square_forward, square_backward, [np.arange(3.0)])
    >>> report.inputs[0].method, report.inputs[0].checked
    ('complex step', '3 of 3 entries')
    """
    if method not in ("auto", "complex", "differences"):
        raise ValueError(f'method: expected "auto", "complex" or "differences", got {method!r}')
    pair = Pair.of(forward, backward, inputs, names)
    rng = np.random.default_rng(seed)
    y, d_output, claims = run_pair(pair, rng)
    size = _finite_size(y, d_output)
    reports = []
    for leaf, claim in claims.items():
        checker = _Checker(pair, leaf, d_output, claim, rtol, size)
        reports.append(checker.check(method, entries, rng))
    return GradientReport(tuple(reports))


def _finite_size(y: Array, d_output: Array) -> float:
    xp = array_module(y)
    return float(xp.abs(d_output * xp.where(xp.isfinite(y), y, 0.0)).sum())


@dataclass(frozen=True)
class _Checker:
    """The claim about one array of the inputs, and the means to hold it against the derivative."""

    pair: Pair
    leaf: int
    d_output: Array
    claim: Array
    rtol: float
    size: float

    @property
    def name(self) -> str:
        return self.pair.leaves[self.leaf][1]

    @property
    def x(self) -> Array:
        return self.pair.leaves[self.leaf][2]

    def check(self, method: str, entries: int, rng: np.random.Generator) -> InputReport:
        differentiate = self._choose(method, rng)
        if self.x.size == 0:
            return self._report(differentiate, "nothing to check", None)
        if self.x.size > entries:
            along = max(
                (self._measure(differentiate, self._direction(rng)) for _ in range(3)),
                key=lambda found: found.excess,
            )
            if along.excess <= 1 and not self._vague(along):
                return self._report(differentiate, "3 random directions", along)
            blamed = bisect(self._direction(rng), partial(self._apart, differentiate))
            chosen = rng.choice(self.x.size, entries, replace=False)
            picked = [blamed, *(unravel(int(i), self.x.shape) for i in chosen)]
        else:
            picked = [unravel(i, self.x.shape) for i in range(self.x.size)]
        found = [self._measure(differentiate, unit(self.x, index), index) for index in picked]
        wrong = [one for one in found if one.excess > 1 or self._vague(one)]
        kinks = [one for one in wrong if self._at_kink(one)]
        wrong = [one for one in wrong if one not in kinks]
        if wrong:
            raise self._error(found, wrong, _METHODS[differentiate])
        rest = [one for one in found if one not in kinks]
        worst = max(rest, key=lambda one: one.excess, default=None)
        checked = f"{len(found)} of {self.x.size} entries"
        return self._report(differentiate, checked, worst, len(kinks))

    def _report(
        self, how: Differentiate, checked: str, worst: Entry | None, kinks: int = 0
    ) -> InputReport:
        roundoff = self._roundoff if self.x.size and self._rough else 0.0
        return InputReport(self.name, self.x.shape, _METHODS[how], checked, worst, kinks, roundoff)

    def _choose(self, method: str, rng: np.random.Generator) -> Differentiate:
        if method == "differences" or self.x.size == 0:
            return central_difference
        ray = self._ray(self._direction(rng))
        try:
            exact = complex_step(ray)
        except NotComplexError as error:
            if method == "complex":
                raise TypeError(f'{error}; use method="differences"') from error
            return central_difference
        if method == "auto":
            near = central_difference(ray._replace(roundoff=self._roundoff))
            apart = abs(exact.value - near.value)
            if not apart <= 1e-6 * abs(near.value) + 4 * near.bound + self._floor:
                return central_difference
        return complex_step

    def _ray(self, direction: Array) -> Ray:
        return Ray(self.pair.output, self.pair.values, self.leaf, direction, self.d_output)

    def _direction(self, rng: np.random.Generator) -> Array:
        xp = array_module(self.x)
        signs = rng.choice([-1.0, 1.0], self.x.shape)
        direction = xp.asarray(rng.uniform(0.5, 1.0, self.x.shape) * signs)
        return xp.where(xp.isfinite(self.x), direction, 0.0)

    @lazy
    def _roundoff(self) -> float:
        """To what fraction of its size the output is rounded."""
        return roundoff(self._ray(self._direction(np.random.default_rng(0))))

    @property
    def _rough(self) -> bool:
        return self._roundoff > _EPSILON

    @lazy
    def _floor(self) -> float:
        """What rounding may do to an entry whose terms cancel."""
        xp = array_module(self.x)
        finite = xp.abs(xp.where(xp.isfinite(self.x), self.x, 0.0))
        largest = float(xp.abs(self.claim).max()) if self.claim.size else 0.0
        return 8 * self._roundoff * (self.size / max(1.0, float(finite.max())) + largest)

    def _measure(
        self,
        differentiate: Differentiate,
        direction: Array,
        index: Index | None = None,
    ) -> Entry:
        xp = array_module(self.x)
        if index is not None and not bool(xp.isfinite(self.x[index])):
            found = Derivative(0.0, 0.0)  # inf + h is inf: a step does not move it
        else:
            found = differentiate(self._ray(direction)._replace(roundoff=self._roundoff))
        terms = self.claim * direction if index is None else self.claim[index]
        scale = max(float(xp.abs(terms).sum()), abs(found.value))
        floor = self._floor * float(xp.abs(direction).sum())
        rtol = max(self.rtol, 8 * self._roundoff) if self._rough else self.rtol
        allowed = rtol * scale + floor + 4 * found.bound
        return Entry(index, float(terms.sum()), found.value, found.bound, max(allowed, 1e-300))

    def _vague(self, one: Entry) -> bool:
        """Whether the differences are too unsteady to say anything."""
        size = max(abs(one.claimed), abs(one.derivative), 1e-3 * self._floor / self._roundoff)
        return 4 * one.bound > (0.1 if self._rough else 1e-3) * size

    def _at_kink(self, one: Entry) -> bool:
        """Whether the slopes to both sides differ and the claim lies between them."""
        assert one.index is not None
        if not bool(array_module(self.x).isfinite(self.x[one.index])):
            return False
        ray = self._ray(unit(self.x, one.index))._replace(roundoff=self._roundoff)
        left, right = sorted(one_sided(ray))
        slack = (1e-2 if self._rough else 1e-5) * max(abs(left), abs(right))
        return right - left > 10 * slack and left - slack <= one.claimed <= right + slack

    def _apart(self, differentiate: Differentiate, direction: Array) -> float:
        found = self._measure(differentiate, direction)
        return abs(found.claimed - found.derivative)

    def _error(self, found: list[Entry], wrong: list[Entry], method: str) -> GradientError:
        worst = max(wrong, key=lambda one: one.excess)
        assert worst.index is not None
        bound = f", error bound {worst.bound:.2g}" if worst.bound else ""
        at = self.pair.leaves[self.leaf][0]
        lines = [
            f"backward {self._verdict(worst)} for input {at} ({self.name}), shape {self.x.shape}",
            f"  worst entry     {entry(self.name, worst.index)} "
            f"(of {len(wrong)} wrong among {len(found)} checked)",
            f"  backward says   {worst.claimed:.15g}",
            f"  derivative is   {worst.derivative:.15g}  ({method}{bound})",
            f"  relative error  {worst.relative_error:.3g}  (allowed {self.rtol:.1g})",
        ]
        if self._vague(worst):
            lines.append("  the differences do not settle: is there noise, or a kink, near by?")
        if self._rough:
            lines.append(
                f"  forward rounds to {self._roundoff:.1g} of its output: in float64 more is proved"
            )
        truth = {one.index: one.derivative for one in found if one.index is not None}
        bad = {one.index for one in wrong if one.index is not None}
        text = "" if self._doubtful(worst) else hint(to_host(self.claim), truth, bad)
        if text:
            lines.append(f"  hint            {text}")
        return GradientError("\n".join(lines), name=self.name, index=worst.index)

    def _doubtful(self, one: Entry) -> bool:
        """Whether an entry is not right for certain, but not wrong either."""
        return abs(one.claimed - one.derivative) <= 4 * one.bound

    def _verdict(self, worst: Entry) -> str:
        if self._doubtful(worst):
            return "cannot be proved"
        if abs(worst.claimed - worst.derivative) <= 1e-6 * float(abs(self.claim).max()):
            return "is right to single precision only (does it compute in float32?)"
        return "is wrong"
