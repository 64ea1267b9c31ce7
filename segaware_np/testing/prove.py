"""The whole ladder of proofs for one operation, in one call."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from segaware_np.testing.adjoint import check_adjoint
from segaware_np.testing.derivatives import Ray, roundoff
from segaware_np.testing.errors import PurityError
from segaware_np.testing.examples import search
from segaware_np.testing.gradients import check_gradients
from segaware_np.testing.nest import is_real
from segaware_np.testing.pair import Pair, check_repeats, join, split
from segaware_np.testing.purity import check_pure
from segaware_np.testing.reports import GradientReport
from segaware_np.testing.same import check_same
from segaware_np.xp import Array, array_module


def prove(
    forward: Callable,
    backward: Callable,
    inputs: Any,
    *,
    oracle: Callable | None = None,
    linear: Sequence[str] = (),
    names: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    method: str = "auto",
    rtol: float = 1e-12,
    may_alias: bool = False,
) -> GradientReport | None:
    """Prove an operation: values, adjoints, gradients, dtypes and purity.

    0. Two calls of forward with the same inputs return the same.
    1. The output agrees with `oracle` (if there is none: with itself in float64), in all dtypes,
       and has the dtype of the inputs. `check_same`
    2. In every input named in `linear` (what is constant in it set aside), backward is the exact
       adjoint of forward. `check_adjoint`
    3. Backward returns the derivative of forward. `check_gradients`
    4. Gradients in all dtypes agree with those in float64, and have the dtype of the inputs.
    5. Forward and backward are pure, in every layout of every argument. `check_pure`

    Parameters
    ----------
    forward : callable
        ``forward(*inputs) -> (output, cache)``, or ``(output1, output2, ..., cache)``.
    backward : callable
        ``backward(d_output, cache) -> gradients`` in the order of the inputs; a d_output for each
        output. Inputs, outputs and gradients may be nests: see `check_gradients`.
    inputs : sequence, or hypothesis strategy of sequences
        A strategy is sampled under the current hypothesis profile, without a deadline. A failure
        is shrunk, saved in hypothesis' database under the current test and the names of forward
        and backward, and its message ends in code that meets it again.
    oracle : callable, optional
        ``oracle(*inputs) -> output``, written in another way; several outputs as a tuple.
    linear : sequence of str
        Names of inputs in which the output is linear, or affine; of a nest, in each array.
    names : sequence of str, optional
        Names of the inputs; by default those of forward's parameters.
    dtypes : sequence of str
    method, rtol
        For `check_gradients`.
    may_alias : bool
        Whether gradients may be views of ``d_output`` and the output a view of an input.

    Returns
    -------
    GradientReport or None
        None where the inputs are a strategy.

    Raises
    ------
    ProofError
        The first of the proofs that fails: `MismatchError`, `AdjointError`, `GradientError` or
        `PurityError`.
    ValueError
        If a name in `linear` is none of the inputs'.

    Examples
    --------
    >>> def softplus_forward(x):
    ...     return np.log(1 + np.exp(x)), x
    >>> def softplus_backward(dy, x):
    ...     return dy / (1 + np.exp(-x))
    >>> prove(softplus_forward, softplus_backward, [np.linspace(-2, 2, 7)]).inputs[0].checked
    '7 of 7 entries'
    """
    climb = partial(
        _ladder,
        forward,
        backward,
        oracle=oracle,
        linear=linear,
        names=names,
        dtypes=dtypes,
        method=method,
        rtol=rtol,
        may_alias=may_alias,
    )
    if not _is_strategy(inputs):
        return climb(inputs)
    search(climb, inputs, _key(forward, backward, inputs))
    return None


def _is_strategy(value: object) -> bool:
    hypothesis = sys.modules.get("hypothesis.strategies")
    return hypothesis is not None and isinstance(value, hypothesis.SearchStrategy)


def _ladder(
    forward: Callable,
    backward: Callable,
    inputs: Sequence[Any],
    *,
    oracle: Callable | None,
    linear: Sequence[str],
    names: Sequence[str] | None,
    dtypes: Sequence[str],
    method: str,
    rtol: float,
    may_alias: bool,
) -> GradientReport:
    pair = Pair.of(forward, backward, inputs, names)
    _check_names(linear, pair.names)
    check_repeats(pair, PurityError)
    outputs, _ = pair.run(*pair.values)
    count = len(outputs)

    def output(*arguments: Any) -> Any:
        found, _ = pair.outputs(forward(*arguments))
        return found[0] if count == 1 else found

    def gradients(*arguments: Any) -> Any:
        _, cache = pair.outputs(forward(*arguments[count:]))
        return backward(*arguments[:count], cache)

    check_same(output, oracle or output, pair.inputs, dtypes=dtypes)
    for name in linear:
        _check_linear(pair, name)
    report = check_gradients(forward, backward, inputs, names=names, method=method, rtol=rtol)
    y = join(outputs)
    drawn = array_module(y).asarray(np.random.default_rng(0).standard_normal(y.shape))
    d_outputs = split(drawn, outputs)
    check_same(gradients, gradients, [*d_outputs, *pair.inputs], dtypes=dtypes)
    pure = partial(check_pure, may_alias=may_alias, rtol=_between_layouts(report))
    pure(output, pair.inputs, names=pair.names)
    d_names = ["d_output"] if count == 1 else [f"d_output[{i}]" for i in range(count)]
    pure(gradients, [*d_outputs, *pair.inputs], names=[*d_names, *pair.names])
    return report


def _between_layouts(report: GradientReport) -> float | None:
    """How far results may differ between layouts, if that is more than usual."""
    return 1000 * max((one.roundoff for one in report.inputs), default=0.0) or None


def _check_names(linear: Sequence[str], names: Sequence[str]) -> None:
    unknown = set(linear) - set(names)
    if unknown:
        raise ValueError(f"linear: expected names out of {list(names)}, got {sorted(unknown)}")


def _check_linear(pair: Pair, name: str) -> None:
    """Hold backward against forward as a map of one input, array by array."""
    for i, (at, _, x) in enumerate(pair.leaves):
        if pair.names[at] == name and is_real(x):
            _check_linear_leaf(pair, i, x)


def _check_linear_leaf(pair: Pair, i: int, x: Array) -> None:
    values = pair.values

    def moved(x: Array) -> list[Any]:
        return [*values[:i], x, *values[i + 1 :]]

    xp = array_module(x)
    outputs, cache = pair.run(*moved(xp.zeros_like(x)))
    constant = join(outputs)

    def adjoint(y: Array) -> Array:
        return pair.claims(pair.backward(*split(y, outputs), cache))[i]

    ray = Ray(pair.output, values, i, xp.ones_like(x), constant)
    check_adjoint(
        lambda x: pair.output(*moved(x)) - constant,
        adjoint,
        (x.shape, constant.shape),
        rtol=max(1e-12, 8 * roundoff(ray)),
        xp=xp,
    )


def _key(forward: Callable, backward: Callable, inputs: Any) -> str:
    """What the failures of this proof are saved by: its test, its functions and its inputs."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    drawn = re.sub(r" at 0x[0-9a-f]+", "", repr(inputs))
    return "\n".join(["segaware_np.testing.prove", test, _name(forward), _name(backward), drawn])


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}.{owner.__qualname__}"
