"""Proof that two linear maps are each other's adjoint."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from segaware_np.testing.errors import AdjointError, Index, entry
from segaware_np.testing.hints import hint
from segaware_np.testing.nest import first_difference, is_real, to_host
from segaware_np.testing.search import bisect, unit, unravel
from segaware_np.xp import Array

Map = Callable[[Array], Array]
_ENTRIES = 512  # at how many the adjoint is worked out to name a wrong one


def check_adjoint(
    apply: Map,
    adjoint: Map,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    rtol: float = 1e-12,
    seed: int = 0,
    xp: ModuleType = np,
) -> None:
    """Prove ``<apply(x), y> == <x, adjoint(y)>``, and that both maps are linear.

    The numbers drawn are small and whole. A map whose coefficients are so too is then computed
    without rounding, and ``rtol=0`` demands equality to the last bit.

    Parameters
    ----------
    apply, adjoint : callable
        One float64 array in, one out.
    shapes : pair of tuple of int
        Of x and of y.
    rtol : float
        Allowed difference of both sides relative to the sum of the absolute values of the terms.
    seed : int
        For the random numbers.
    xp : module
        ``numpy`` or ``cupy``: where the arrays are made.

    Raises
    ------
    AdjointError
        If a result has another shape, a map is not linear, or the identity does not hold; the
        message names an entry of x at which it fails.

    Examples
    --------
    >>> check_adjoint(lambda x: x[1:] - x[:-1],
    ...               lambda y: np.concatenate([-y[:1], y[:-1] - y[1:], y[-1:]]),
    ...               ((5,), (4,)), rtol=0)
    """
    rng = np.random.default_rng(seed)
    for _ in range(2):
        x, other_x = (_draw(rng, shapes[0], xp) for _ in range(2))
        y, other_y = (_draw(rng, shapes[1], xp) for _ in range(2))
        ax = _result("apply", apply(x), shapes[1])
        aty = _result("adjoint", adjoint(y), shapes[0])
        _check_linear("apply", apply, x, other_x, ax, rtol)
        _check_linear("adjoint", adjoint, y, other_y, aty, rtol)
        left, right = ax * y, x * aty
        apart = abs(float(left.sum()) - float(right.sum()))
        if not apart <= rtol * float(abs(left).sum() + abs(right).sum()):
            raise _error(apply, x, y, aty, float(left.sum()), float(right.sum()))


def _draw(rng: np.random.Generator, shape: tuple[int, ...], xp: ModuleType) -> Array:
    return xp.asarray(rng.integers(1, 9, shape) * rng.choice([-1.0, 1.0], shape))


def _result(name: str, value: Array, shape: tuple[int, ...]) -> Array:
    if not is_real(value):
        raise AdjointError(f"{name} must return one array of real numbers, got {value!r}")
    if value.shape != shape:
        raise AdjointError(f"{name}: expected shape {shape}, got {value.shape}", name=name)
    return value


def _check_linear(name: str, function: Map, a: Array, b: Array, fa: Array, rtol: float) -> None:
    fb = function(b)
    got, want = function(2 * a + b), 2 * fa + fb  # unequal to affine maps: 2 + 1 is not 1
    limit = rtol * (2 * float(abs(fa).sum()) + float(abs(fb).sum()))
    index = first_difference(got, want) if not bool((abs(got - want) <= limit).all()) else None
    if index is not None:
        raise AdjointError(
            f"{name} is not linear: at {entry('', index)} {name}(2a + b) is {got[index]:.15g}, but "
            f"2 {name}(a) + {name}(b) is {want[index]:.15g}. Leave out constants such as a bias",
            name=name,
            index=index,
        )


def _spread(size: int) -> list[int]:
    """Numbers below ``size``: all of them, or as many as are tried."""
    if size <= _ENTRIES:
        return list(range(size))
    return np.random.default_rng(0).choice(size, _ENTRIES, replace=False).tolist()


def _error(apply: Map, x: Array, y: Array, aty: Array, left: float, right: float) -> AdjointError:
    def truth(direction: Array) -> float:
        return float((apply(direction) * y).sum())

    whole = x.size <= _ENTRIES
    places = [unravel(i, x.shape) for i in _spread(x.size)]
    if not whole:
        places.insert(0, bisect(x, lambda part: abs(truth(part) - float((part * aty).sum()))))
    right_one = {place: truth(unit(x, place)) for place in places}
    claim = to_host(aty)
    off = {place: abs(claim[place] - value) for place, value in right_one.items()}
    index: Index = max(off, key=lambda place: off[place]) if whole else places[0]
    limit = 1e-9 * max(map(abs, right_one.values()))
    text = hint(claim, right_one, {place for place, apart in off.items() if apart > limit})
    return AdjointError(
        f"<apply(x), y> = {left:.15g}, but <x, adjoint(y)> = {right:.15g}\n"
        f"  at x{list(index)}: adjoint(y) is {float(aty[index]):.15g}, and y met with "
        f"apply(the unit array there) is {truth(unit(x, index)):.15g}"
        + (f"\n  hint: {text}" if text else ""),
        name="adjoint",
        index=index,
    )
