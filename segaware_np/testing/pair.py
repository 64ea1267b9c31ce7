"""A forward and a backward function, run together and watched for side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segaware_np.testing.errors import GradientError, entry
from segaware_np.testing.nest import first_difference, is_array, is_real, to_host
from segaware_np.xp import Array, array_module


def run_pair(
    forward: Callable,
    backward: Callable,
    inputs: tuple[Any, ...],
    names: Sequence[str],
    rng: np.random.Generator,
) -> tuple[Array, Array, dict[int, Array]]:
    """Return the output, a random d_output and backward's gradient for each real input.

    On the way, forward and backward are watched for side effects: that nothing is written to, and
    that a later forward does not change what backward returns.
    """
    before = [value.copy() if is_array(value) else value for value in inputs]
    result = forward(*inputs)
    if not isinstance(result, tuple) or len(result) != 2:
        raise GradientError(f"forward must return (output, cache), got {_kind(result)}")
    y, cache = result
    if not is_real(y):
        raise GradientError(f"forward must return one array of real numbers, got {_kind(y)}")
    if bool((y != y).any()):
        where = tuple(int(i) for i in np.argwhere(to_host(y != y))[0])
        raise GradientError(f"forward returned NaN at {entry('output', where)}", index=where)
    d_output = array_module(y).asarray(rng.standard_normal(y.shape))
    dy = d_output.copy()
    claims = _gradients(backward(dy, cache), inputs, names)
    claims = {at: gradient.copy() for at, gradient in claims.items()}  # a backward may reuse memory
    forward(*(_shrunk(value) for value in inputs))
    again = _gradients(backward(dy, cache), inputs, names)
    for name, now, then in [("d_output", dy, d_output), *zip(names, inputs, before, strict=True)]:
        index = first_difference(now, then) if is_array(then) else None
        if index is not None:
            writer = "backward" if name == "d_output" else "forward or backward"
            raise GradientError(
                f"{writer} wrote to its argument {name}, first at {entry(name, index)}: "
                f"{then[index]} became {now[index]}",
                name=name,
                index=index,
            )
    for at, claim in claims.items():
        index = first_difference(claim, again[at])
        if index is not None:
            raise GradientError(
                f"backward is not a function of its arguments: called again with the same cache, "
                f"its gradient for input {at} ({names[at]}) changed at {entry(names[at], index)} "
                f"from {claim[index]} to {again[at][index]}. It writes to its cache, or reads "
                f"something that a later forward has changed",
                name=names[at],
                index=index,
            )
    return y, d_output, claims


def _gradients(result: Any, inputs: Sequence[Any], names: Sequence[str]) -> dict[int, Array]:
    """Return backward's result by position of the input, after checking count and shapes."""
    gradients = list(result) if isinstance(result, (tuple, list)) else [result]
    while len(gradients) > len(inputs) and gradients[-1] is None:
        gradients.pop()  # of optional inputs that were left out
    real = [at for at, value in enumerate(inputs) if is_real(value)]
    if len(gradients) == len(inputs):
        gradients = [gradients[at] for at in real]
    elif len(gradients) != len(real):
        raise GradientError(
            f"backward returned {len(gradients)} gradients for {len(inputs)} inputs "
            f"({', '.join(names)})"
        )
    for at, gradient in zip(real, gradients, strict=True):
        what = f"input {at} ({names[at]})"
        if not is_real(gradient):
            raise GradientError(
                f"backward returned {_kind(gradient)} as the gradient for {what}; if this input is "
                f"a constant, bind it with functools.partial",
                name=names[at],
            )
        if gradient.shape != inputs[at].shape:
            raise GradientError(
                f"backward returned a gradient of shape {gradient.shape} for {what} of shape "
                f"{inputs[at].shape}",
                name=names[at],
            )
    return dict(zip(real, gradients, strict=True))


def _shrunk(value: Any) -> Any:
    return array_module(value).asarray(value * (1 - 2.0**-10)) if is_real(value) else value


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if is_array(value) else type(value).__name__
