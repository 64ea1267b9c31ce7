"""The whole ladder of proofs for one operation, in one call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from segaware_np.testing.adjoint import check_adjoint
from segaware_np.testing.gradients import check_gradients
from segaware_np.testing.nest import argument_names, convert, is_real
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
        ``forward(*inputs) -> (output, cache)``
    backward : callable
        ``backward(d_output, cache) -> gradients`` in the order of the inputs.
    inputs : sequence, or hypothesis strategy of sequences
        A strategy is sampled under the current hypothesis profile, and a failure is shrunk.
    oracle : callable, optional
        ``oracle(*inputs) -> output``, written in another way.
    linear : sequence of str
        Names of inputs in which the output is linear, or affine.
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
    from hypothesis import given

    @given(inputs)
    def every(example: Sequence[Any]) -> None:
        climb(example)

    every()
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
    names = argument_names(forward, len(inputs), names)
    unknown = set(linear) - set(names)
    if unknown:
        raise ValueError(f"linear: expected names out of {list(names)}, got {sorted(unknown)}")
    inputs = convert(inputs, np.float64)

    def output(*arguments: Any) -> Array:
        return forward(*arguments)[0]

    def gradients(d_output: Array, *arguments: Any) -> Any:
        return backward(d_output, forward(*arguments)[1])

    check_same(output, oracle or output, inputs, dtypes=dtypes)
    for name in linear:
        _check_linear(forward, backward, inputs, list(names).index(name), names)
    report = check_gradients(forward, backward, inputs, names=names, method=method, rtol=rtol)
    y = output(*inputs)
    d_output = array_module(y).asarray(np.random.default_rng(0).standard_normal(y.shape))
    check_same(gradients, gradients, [d_output, *inputs], dtypes=dtypes)
    check_pure(output, inputs, names=names, may_alias=may_alias)
    check_pure(gradients, [d_output, *inputs], names=["d_output", *names], may_alias=may_alias)
    return report


def _check_linear(
    forward: Callable, backward: Callable, inputs: tuple[Any, ...], at: int, names: Sequence[str]
) -> None:
    """Hold backward against forward as a map of input ``at`` alone."""
    real = [i for i, value in enumerate(inputs) if is_real(value)]

    def run(x: Array) -> tuple[Array, Any]:
        return forward(*inputs[:at], x, *inputs[at + 1 :])

    xp = array_module(inputs[at])
    constant, cache = run(xp.zeros_like(inputs[at]))

    def adjoint(y: Array) -> Array:
        found = backward(y, cache)
        found = found if isinstance(found, (tuple, list)) else (found,)
        return found[at if len(found) == len(inputs) else real.index(at)]

    shapes = inputs[at].shape, constant.shape
    check_adjoint(lambda x: run(x)[0] - constant, adjoint, shapes, xp=xp)
