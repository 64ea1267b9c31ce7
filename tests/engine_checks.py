"""What a fast engine must compute: what the plain formulas compute of the same numbers in float64.

Used for the CPU by test_cpu.py; for the GPU by test_kernels_exact.py and, under sanitizers, by
test_kernels_sanitized.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st
from op_cases import CASES, FORMULAS, OPS, plain_formulas
from problems import Problem, problems
from test_dispatch import FORMS

from segaware_np.gpu import kernels
from segaware_np.xp import array_module

# Allowed errors of output and gradients, relative to the largest entry.
TOLERANCE = {"e": (4e-3, 1e-2), "f": (2e-6, 1e-5), "d": (1e-13, 1e-12)}
gpu = SimpleNamespace(**{name: form for (room, name), form in FORMS.items() if room == "gpu"})


def hot(room: str) -> list[str]:
    """Return the names of the cases for which an engine has a fast form."""
    return [
        name
        for name, case in CASES.items()
        if not (case.host and room == "gpu")
        and any((room, formula) in FORMS for formula in FORMULAS[name])
    ]


def check(name: str, problem: Problem, dtype: str, arrange: Callable, poison: bool = False) -> None:
    """Compare output and gradients, those that are needed, with the plain formula's."""
    case = OPS[name](problem)
    inputs = [narrow(problem, value, dtype) for value in case.inputs.values()]
    spoilt = poison and spoil(problem, inputs)
    choosy = case.backward and "need" in signature(case.backward).parameters
    need = {"need": {key for key in case.inputs if problem.pick(True, False)}} if choosy else {}
    with plain_formulas(), np.errstate(invalid="ignore"):
        wide = [widened(value) for value in inputs]
        dy = narrow(problem, problem.normal(*case.run(wide, gradients=False)[0].shape), dtype)
        if poison and not spoilt:
            spoil(problem, [dy])
        want = case.run(wide, widened(dy), **need)
    with np.errstate(invalid="ignore"):
        have = case.run([*map(arrange, inputs)], arrange(dy), **need)
    for place, (a, b) in enumerate(zip(have, want, strict=True)):
        if b is None:
            assert a is None
            continue
        assert array_module(a) is array_module(arrange(np.zeros(1)))
        assert a.dtype.char == dtype or a.dtype.kind in "iub"
        host = a if isinstance(a, np.ndarray | np.generic) else a.get()
        assert_near(host, np.asarray(b), TOLERANCE[dtype][min(place, 1)])


def narrow(problem: Problem, value: Any, dtype: str) -> Any:
    """Round real arrays; make a number of a scalar, perhaps."""
    if value is None or value.dtype.kind != "f":
        return value
    value = np.asarray(value).astype(dtype)
    return value if value.ndim or problem.pick(True, False) else value.item()


def widened(value: Any) -> Any:
    return value.astype(float) if hasattr(value, "dtype") and value.dtype.kind == "f" else value


def spoil(problem: Problem, arrays: list) -> bool:
    """Put what is not finite into one of the arrays, or into none; return whether it did."""
    real = [a for a in arrays if np.ndim(a) and a.dtype.kind == "f" and a.size]
    spoilt = bool(real) and problem.pick(True, True, False)
    if spoilt:
        array = real[problem.rng.integers(len(real))]
        array.flat[problem.rng.integers(array.size)] = problem.pick(np.nan, np.inf, -np.inf)
    return spoilt


def assert_near(have: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    assert have.shape == want.shape
    finite = np.isfinite(want)  # inf - inf is NaN in one order of a sum, and inf in another
    np.testing.assert_array_equal(np.isfinite(have), finite)
    if finite.any():
        worst = np.abs(have[finite].astype(float) - want[finite]).max()
        assert worst <= tolerance * (1 + np.abs(want[finite].astype(float)).max()), worst


def launches() -> st.SearchStrategy[dict]:
    """Draw a problem for the GPU: its numbers, how they lie there, how a launch is cut."""
    return st.fixed_dictionaries(
        {
            "problem": problems(channels=(1, 2, 3, 4, 9, 12), outputs=(1, 2, 4, 22)),
            "dtype": st.sampled_from("fde"),
            "strided": st.booleans(),
            "few_blocks": st.booleans(),  # threads have to stride over the work
            "implicit": st.sampled_from([0, 128]),
            "piece": st.sampled_from([1, 2000, 10**6]),
            "poison": st.sampled_from([False, False, True]),
        }
    )


def check_on_gpu(cupy: ModuleType, name: str, launch: dict) -> None:
    def arrange(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if not launch["strided"] or not value.ndim:
            return cupy.asarray(value)
        return cupy.asarray(np.repeat(value, 2, -1))[..., ::2]

    # Which infinities meet in a mean field depends on the order of sums; its parts are held to it.
    poison = launch["poison"] and name != "mean field"
    with cut(launch):
        check(name, launch["problem"], launch["dtype"], arrange, poison)


@contextmanager
def cut(launch: dict) -> Iterator[None]:
    """Cut launches into small pieces, and take the forms for many channels."""
    blocks = 1 if launch["few_blocks"] else kernels.MAX_BLOCKS
    sizes = {"IMPLICIT_CHANNELS": launch["implicit"], "PIECE_BYTES": launch["piece"]}
    module = import_module("segaware_np.gpu.convolution")
    with patch.object(kernels, "MAX_BLOCKS", blocks), patch.multiple(module, **sizes):
        yield
