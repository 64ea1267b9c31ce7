"""A forward and a backward function, run together and watched for side effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segaware_np.lazy import lazy
from segaware_np.testing.errors import GradientError, ProofError, entry
from segaware_np.testing.nest import (
    argument_names,
    convert,
    copied,
    first_change,
    first_difference,
    is_real,
    kind,
    leaves,
    map_leaves,
    replace_leaves,
    to_host,
    walk,
)
from segaware_np.xp import Array, array_module


@dataclass(frozen=True)
class Pair:
    """An operation and its inputs, also as a function of flat lists of leaves.

    Attributes
    ----------
    forward : callable
        ``forward(*inputs) -> (*outputs, cache)``: nests of arrays.
    backward : callable
        ``backward(*d_outputs, cache) -> gradients``.
    inputs : tuple
        In float64.
    names : list of str
        Of the inputs.
    optional : frozenset of int
        Positions of the inputs that may do without a gradient: Python floats.
    """

    forward: Callable
    backward: Callable
    inputs: tuple[Any, ...]
    names: list[str]
    optional: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        forward: Callable,
        backward: Callable,
        inputs: Sequence[Any],
        names: Sequence[str] | None,
    ) -> Pair:
        """Convert the inputs to float64 and find their names."""
        inputs = tuple(inputs)
        optional = frozenset(i for i, value in enumerate(inputs) if type(value) is float)
        names = argument_names(forward, len(inputs), names)
        return cls(forward, backward, convert(inputs, np.float64), names, optional)

    @lazy
    def leaves(self) -> list[tuple[int, str, Any]]:
        """Position of the input, name and value of every leaf."""
        inputs = enumerate(zip(self.names, self.inputs, strict=True))
        return [(at, *leaf) for at, (name, value) in inputs for leaf in walk(value, name)]

    @property
    def values(self) -> list[Any]:
        """The leaves without their names."""
        return [value for _, _, value in self.leaves]

    def run(self, *values: Any) -> tuple[tuple[Any, ...], Any]:
        """Run forward on leaves; return the outputs and the cache."""
        return self.outputs(self.forward(*replace_leaves(self.inputs, values)))

    def output(self, *values: Any) -> Array:
        """Run forward on leaves; return all real outputs as one array."""
        return join(self.run(*values)[0])

    def outputs(self, result: Any) -> tuple[tuple[Any, ...], Any]:
        """Take forward's result apart."""
        if not isinstance(result, tuple) or len(result) < 2:
            raise GradientError(f"forward must return (output, cache), got {kind(result)}")
        *outputs, cache = result
        if not any(leaf.dtype.kind in "fc" for _, leaf in leaves(outputs, "")):
            found = ", ".join(kind(leaf) for _, leaf in walk(outputs, "")) or "nothing"
            raise GradientError(f"forward must return an array of real numbers, got {found}")
        return tuple(outputs), cache

    def claims(self, result: Any) -> dict[int, Array]:
        """Return backward's result by number of the leaf, after checking count and shapes."""
        gradients = zip(self._by_input(result), self.inputs, self.names, strict=True)
        flat = [claim for each in gradients for claim in _aligned(*each)]
        found = {}
        for i, ((at, name, value), claim) in enumerate(zip(self.leaves, flat, strict=True)):
            if is_real(value) and not (claim is None and at in self.optional):
                claim = np.asarray(claim) if isinstance(claim, float) else claim
                found[i] = _checked(claim, value, f"input {at} ({name})", name)
        return found

    def _by_input(self, result: Any) -> list[Any]:
        if len(self.inputs) == 1 and _fits(result, self.inputs[0]):
            return [result]
        if isinstance(result, dict):
            return self._by_name(result)
        gradients = list(result) if isinstance(result, (tuple, list)) else [result]
        count = len(self.inputs)
        while len(gradients) > count and gradients[-1] is None:
            gradients.pop()  # of optional inputs that were left out
        if len(gradients) == count:
            return gradients
        real = [at for at in range(count) if any(map(is_real, self._input_leaves(at)))]
        needed = [at for at in real if at not in self.optional]
        for those in (real, needed):
            if len(gradients) == len(those):
                given = dict(zip(those, gradients, strict=True))
                return [given.get(at) for at in range(count)]
        raise GradientError(
            f"backward returned {len(gradients)} gradients for {count} inputs "
            f"({', '.join(self.names)})"
        )

    def _by_name(self, result: dict[Any, Any]) -> list[Any]:
        if unknown := [key for key in result if key not in self.names]:
            raise GradientError(
                f"backward returned a gradient for {unknown[0]!r}; the inputs are "
                f"{', '.join(self.names)}"
            )
        return [result.get(name) for name in self.names]

    def _input_leaves(self, at: int) -> list[Any]:
        return [value for owner, _, value in self.leaves if owner == at]


def join(outputs: Any) -> Array:
    """Return the real (or complex) arrays of a nest as one: a single one itself, several flat."""
    found = [leaf for _, leaf in leaves(outputs, "") if leaf.dtype.kind in "fc"]
    if len(found) == 1:
        return found[0]
    if len({leaf.dtype.kind for leaf in found}) > 1:  # some outputs have dropped imaginary parts
        found = [leaf.real for leaf in found]
    return array_module(found[0]).concatenate([leaf.reshape(-1) for leaf in found])


def split(joined: Array, outputs: Any) -> Any:
    """Undo `join`: return a nest like ``outputs``, with None for what is not real."""
    if sum(leaf.dtype.kind == "f" for _, leaf in leaves(outputs, "")) == 1:
        return map_leaves(lambda leaf: joined if _counts(leaf) else None, outputs)
    start = 0

    def piece(leaf: Any) -> Any:
        nonlocal start
        if not _counts(leaf):
            return None
        shape = np.shape(leaf)
        start, stop = start + int(np.prod(shape)), start
        return joined[stop:start].reshape(shape).copy()

    return map_leaves(piece, outputs)


def _counts(leaf: Any) -> bool:
    return is_real(leaf) or isinstance(leaf, float)


def check_repeats(pair: Pair, error: type[ProofError]) -> None:
    """Raise unless two calls of forward with the same inputs return the same.

    Raises
    ------
    ProofError
        Of class ``error``.
    """
    first = copied(pair.outputs(pair.forward(*copied(pair.inputs)))[0])
    again = pair.outputs(pair.forward(*copied(pair.inputs)))[0]
    if change := first_change(_whole(again), _whole(first), _name(first)):
        raise error(
            f"forward is not a function of its inputs: two calls with the same input differ; "
            f"{entry(change.name, change.at)} was {change.before}, then {change.after}. If it "
            f"draws random numbers (as dropout does), draw them outside and pass them in, or pass "
            f"a seed",
            name=change.name,
            index=change.at,
        )


def run_pair(pair: Pair, rng: np.random.Generator) -> tuple[Array, Array, dict[int, Array]]:
    """Return the output, a random d_output and backward's gradient for each real leaf.

    On the way, forward and backward are watched for side effects: that forward repeats itself,
    that nothing is written to, and that a later forward does not change what backward returns.
    """
    check_repeats(pair, GradientError)
    inputs = copied(pair.inputs)
    outputs, cache = pair.outputs(pair.forward(*inputs))
    _check_inputs_unwritten(pair, inputs, "forward")
    _check_nan(outputs)
    y = join(outputs)
    d_output = array_module(y).asarray(rng.standard_normal(y.shape))
    d_outputs = split(d_output.copy(), outputs)
    given = copied(d_outputs)

    def claims() -> dict[int, Array]:
        return pair.claims(pair.backward(*d_outputs, cache))

    found = {at: claim.copy() for at, claim in claims().items()}  # backward may reuse memory
    _check_unwritten(_name(outputs, "d_output"), _whole(d_outputs), _whole(given), "backward")
    _check_inputs_unwritten(pair, inputs, "backward")
    _check_unchanged(pair, found, claims(), "It writes to its cache, or draws random numbers")
    pair.forward(*map_leaves(_shrunk, pair.inputs))
    _check_unchanged(pair, found, claims(), "It reads something that a later forward has changed")
    return y, d_output, found


def _name(outputs: Sequence[Any], name: str = "output") -> str:
    return name if len(outputs) == 1 else name + "s"


def _whole(outputs: Sequence[Any]) -> Any:
    """The one output, or all of several."""
    return outputs[0] if len(outputs) == 1 else outputs


def _check_nan(outputs: tuple[Any, ...]) -> None:
    for name, y in leaves(_whole(outputs), _name(outputs)):
        if bool((y != y).any()):
            where = tuple(int(i) for i in np.argwhere(to_host(y != y))[0])
            raise GradientError(f"forward returned NaN at {entry(name, where)}", index=where)


def _check_unchanged(
    pair: Pair, claims: dict[int, Array], again: dict[int, Array], guess: str
) -> None:
    for i, claim in claims.items():
        index = first_difference(claim, again[i])
        if index is not None:
            at, name, _ = pair.leaves[i]
            raise GradientError(
                f"backward is not a function of its arguments: called again with the same cache, "
                f"its gradient for input {at} ({name}) changed at {entry(name, index)} "
                f"from {claim[index]} to {again[i][index]}. {guess}",
                name=name,
                index=index,
            )


def _check_inputs_unwritten(pair: Pair, inputs: tuple[Any, ...], writer: str) -> None:
    for name, now, then in zip(pair.names, inputs, pair.inputs, strict=True):
        _check_unwritten(name, now, then, writer)


def _check_unwritten(name: str, now: Any, then: Any, writer: str) -> None:
    if change := first_change(now, then, name):
        raise GradientError(
            f"{writer} wrote to its argument {name}, first at {entry(change.name, change.at)}: "
            f"{change.before} became {change.after}",
            name=change.name,
            index=change.at,
        )


def _fits(result: Any, value: Any) -> bool:
    """Whether ``result`` is a nest of the structure of ``value``, which is one."""
    if isinstance(value, dict):
        return (
            isinstance(result, dict)
            and result.keys() <= value.keys()
            and all(_fits(item, value[key]) for key, item in result.items())
        )
    if isinstance(value, (tuple, list)):
        return (
            isinstance(result, (tuple, list))
            and len(result) == len(value)
            and all(map(_fits, result, value))
        )
    return not isinstance(result, (dict, tuple, list))


def _aligned(gradient: Any, value: Any, name: str) -> Iterator[Any]:
    """Yield the gradient of every leaf of ``value``: None where there is none."""
    if isinstance(value, dict):
        if gradient is not None and not (
            isinstance(gradient, dict) and gradient.keys() <= value.keys()
        ):
            got = list(gradient) if isinstance(gradient, dict) else kind(gradient)
            raise GradientError(
                f"backward: expected the gradient for {name} as a dictionary with the keys "
                f"{list(value)}, got {got}",
                name=name,
            )
        for key, item in value.items():
            yield from _aligned((gradient or {}).get(key), item, f"{name}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        given = [None] * len(value) if gradient is None else gradient
        if not isinstance(given, (tuple, list)) or len(given) != len(value):
            size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
            raise GradientError(
                f"backward: expected the gradient for {name} as a {type(value).__name__} of "
                f"{len(value)}, got {kind(gradient)}{size}",
                name=name,
            )
        for i, (each, item) in enumerate(zip(given, value, strict=True)):
            yield from _aligned(each, item, f"{name}[{i}]")
    else:
        yield gradient


def _checked(gradient: Any, value: Array, what: str, name: str) -> Array:
    if not is_real(gradient):
        raise GradientError(
            f"backward returned {kind(gradient)} as the gradient for {what}; if this input is "
            f"a constant, bind it with functools.partial",
            name=name,
        )
    if gradient.shape != value.shape:
        raise GradientError(
            f"backward returned a gradient of shape {gradient.shape} for {what} of shape "
            f"{value.shape}",
            name=name,
        )
    return gradient


def _shrunk(value: Any) -> Any:
    return array_module(value).asarray(value * (1 - 2.0**-10)) if is_real(value) else value
