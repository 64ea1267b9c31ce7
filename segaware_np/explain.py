"""A peephole: what each layer computes on given inputs, and whether its backward is right."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from segaware_np.layers import Convolution, Distance, EmbeddingLoss, Layer, SegawareConvolution
from segaware_np.net import Net
from segaware_np.xp import Array, host

_STEP = 1e-30  # of the complex step: no difference is taken, so nothing cancels
_ASIDE = 1e-6  # how far the inputs are moved, relative to their size, to leave ties and kinks


@dataclass(frozen=True)
class LayerReport:
    """One layer, on the inputs that it received.

    Attributes
    ----------
    name, kind, formula : str
    inputs : dict of str to tuple
        Names and shapes.
    output : tuple
        Shape.
    values : tuple of float
        Of the output: least, mean, largest, and the entry in the middle.
    parameters : dict of str to tuple
        Names and shapes.
    slope, derivative : float
        The derivative of a random combination of the outputs along a random direction in inputs
        and parameters: by `backward`, and by the complex step through `forward`. NaN where there
        is nothing to derive.
    error : float
        Their distance, relative to the sum of the terms of `slope` in absolute value.
    output_bytes, kept_bytes : int
        Memory of the output, and of what backward needs besides inputs and parameters.
    flops : int
        Additions and multiplications of the forward pass, about.

    Examples
    --------
    >>> from segaware_np import Window, layers
    >>> net = Net(inputs=("image",))
    >>> net.add("conv", layers.Convolution(3, 4, Window.same(3)), "image")
    >>> (report,) = explain(net, {"image": np.ones((1, 3, 5, 6), "float32")}).layers
    >>> report.formula, report.flops  # 30 pixels of 4 channels: 27 products each, and their sums
    ('y = b + sum_k W_k shift_k(x)', 6480)
    """

    name: str
    kind: str
    formula: str
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    values: tuple[float, float, float, float]
    parameters: dict[str, tuple[int, ...]]
    slope: float
    derivative: float
    error: float
    output_bytes: int
    kept_bytes: int
    flops: int

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.kind}    {self.formula}"]
        for name, shape in self.inputs.items():
            lines.append(f"  reads      {name} {_shape(shape)}")
        lines.append(f"  makes      {_shape(self.output)}")
        least, mean, largest, middle = self.values
        lines.append(
            f"  values     {least:.4g} ... {largest:.4g}, mean {mean:.4g}, "
            f"in the middle {middle:.4g}"
        )
        if self.parameters:
            learned = ", ".join(f"{n} {_shape(s)}" for n, s in self.parameters.items())
            lines.append(f"  parameters {learned}")
        if self.slope == self.slope:
            lines.append(
                f"  gradient   {self.slope:.12g} by backward, {self.derivative:.12g} by complex "
                f"step: off by {self.error:.0e}"
            )
        else:
            lines.append("  gradient   none: the output does not depend on a real input smoothly")
        lines.append(
            f"  costs      {_human(self.flops)}flop, output {_human(self.output_bytes)}B, kept for "
            f"backward {_human(self.kept_bytes)}B"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Explanation:
    """What `explain` found, layer by layer; ``str`` of it is a report to read.

    Attributes
    ----------
    layers : tuple of LayerReport

    Examples
    --------
    >>> from segaware_np import layers
    >>> net = Net(inputs=("image",))
    >>> net.add("relu", layers.ReLU(), "image")
    >>> print(explain(net, {"image": np.ones((1, 1, 2, 2))}))
    relu: ReLU    y = max(x, 0)
      reads      image 1 x 1 x 2 x 2
      makes      1 x 1 x 2 x 2
      ...
    """

    layers: tuple[LayerReport, ...]

    def __str__(self) -> str:
        flops = sum(layer.flops for layer in self.layers)
        kept = sum(layer.output_bytes + layer.kept_bytes for layer in self.layers)
        worst = max(self.layers, key=lambda layer: np.nan_to_num(layer.error, nan=-1.0))
        parts = [str(layer) for layer in self.layers]
        parts.append(
            f"{len(self.layers)} layers, {_human(flops)}flop forward, {_human(kept)}B until "
            f"backward; the gradient that is off most: {worst.name}, by {worst.error:.0e}"
        )
        return "\n\n".join(parts)


def explain(net: Net, inputs: Mapping[str, Array], *, seed: int = 0) -> Explanation:
    """Run a network layer by layer and tell what each layer does.

    Every layer runs, as in use (nothing drops out), on a copy in float64 on the host: the network
    is not changed. Its backward is compared with the complex step
    ``Im f(z + i h v) / h`` through its forward, along a random direction ``v``, one millionth aside
    of the layer's inputs, where rectifiers and maxima have no kinks.

    Parameters
    ----------
    net : Net
    inputs : mapping of str to array
        Inputs of the network; layers that need one which is missing are left out. Small images
        are best: everything is kept and run three times.
    seed : int
        Of the random directions.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If an input is unknown to the network, or too few are given for any layer.

    Examples
    --------
    >>> from segaware_np import Window, layers
    >>> net = Net(inputs=("image",))
    >>> net.add("conv", layers.Convolution(3, 4, Window.same(3)), "image")
    >>> net.add("relu", layers.ReLU(), "conv")
    >>> report = explain(net, {"image": np.ones((1, 3, 5, 6), "float32")})
    >>> [layer.output for layer in report.layers]
    [(1, 4, 5, 6), (1, 4, 5, 6)]
    >>> report.layers[0].error < 1e-12
    True
    """
    unknown = sorted(inputs.keys() - set(net.inputs))
    if unknown:
        raise ValueError(f"inputs: expected names out of {list(net.inputs)}, got {unknown}")
    values = {name: _wide(host(value)) for name, value in inputs.items()}
    itemsize = net.xp.dtype(net.dtype).itemsize
    rng, reports = np.random.default_rng(seed), []
    for node in net.nodes.values():
        if not all(name in values for name in node.inputs):
            continue
        layer = _copy(node.layer)
        arrays = [values[name] for name in node.inputs]
        values[node.name] = output = layer.forward(*arrays)
        kept = _kept(layer.cache, [*arrays, output, *(p.data for p in layer.params.values())])
        slope, derivative, error = _compare(layer, arrays, rng)
        reports.append(
            LayerReport(
                node.name,
                type(layer).__name__,
                layer.formula,
                {name: array.shape for name, array in zip(node.inputs, arrays, strict=True)},
                output.shape,
                _sample(output),
                {name: p.data.shape for name, p in layer.params.items()},
                slope,
                derivative,
                error,
                output.size * itemsize,
                sum(a.nbytes * itemsize // 8 if a.dtype.kind == "f" else a.nbytes for a in kept),
                _flops(layer, arrays, output),
            )
        )
    if not reports:
        raise ValueError(f"inputs: expected some of {list(net.inputs)}, got {sorted(inputs)}")
    return Explanation(tuple(reports))


def _compare(
    layer: Layer, arrays: list[Array], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Derivative of ``<dy, output>`` along a direction: by backward and by the complex step."""
    arrays = [_aside(array, rng) for array in arrays]
    output = layer.forward(*arrays)
    if output.dtype.kind != "f":
        return (np.nan,) * 3
    dy = rng.standard_normal(output.shape)
    learned = {name: p for name, p in layer.params.items() if p.lr_mult}
    gradients = dict(enumerate(layer.backward(dy)))
    moving: dict[Any, tuple[Array, Array]] = {
        at: (arrays[at], g) for at, g in gradients.items() if g is not None
    }
    moving |= {name: (p.data, p.grad) for name, p in learned.items()}
    if not moving:
        return (np.nan,) * 3
    directions = {key: rng.standard_normal(value.shape) for key, (value, _) in moving.items()}
    terms = [gradient * directions[key] for key, (_, gradient) in moving.items()]
    stepped = {key: value + 1j * _STEP * directions[key] for key, (value, _) in moving.items()}
    complex_layer = _copy(layer)
    for name, parameter in complex_layer.params.items():
        parameter.data = stepped.get(name, parameter.data.astype(complex))
    wide = [a.astype(complex) if a.dtype.kind == "f" else a for a in arrays]
    moved = complex_layer.forward(*(stepped.get(at, a) for at, a in enumerate(wide)))
    slope = float(sum(term.sum() for term in terms))
    derivative = float((dy * moved.imag).sum() / _STEP)
    size = float(sum(np.abs(term).sum() for term in terms))
    return slope, derivative, abs(slope - derivative) / (size or 1.0)


def _aside(array: Array, rng: np.random.Generator) -> Array:
    """The array, moved a little: a maximum of equal entries has no derivative."""
    if array.dtype.kind != "f":
        return array
    size = np.abs(array[np.isfinite(array)]).max(initial=0)
    return array + _ASIDE * size * rng.standard_normal(array.shape)


def _copy(layer: Layer) -> Layer:
    """The layer in use, in float64 on the host, without gradients."""
    params, cache = layer.params, layer.cache
    layer.params, layer.cache = {}, None  # neither is copied: they may be large, or on a GPU
    try:
        twin = copy.deepcopy(layer)
    finally:
        layer.params, layer.cache = params, cache
    twin.training = False
    for name, parameter in params.items():
        data = _wide(host(parameter.data))
        twin.params[name] = type(parameter)(data, parameter.lr_mult, parameter.decay_mult)
    return twin


def _wide(array: np.ndarray) -> np.ndarray:
    return array.real.astype(np.float64) if array.dtype.kind in "fc" else array


def _sample(output: np.ndarray) -> tuple[float, float, float, float]:
    if not output.size:
        return (np.nan,) * 4
    finite = output[np.isfinite(output)]  # removed distances are infinite
    finite = finite if finite.size else np.array([np.nan])
    middle = output[tuple(length // 2 for length in output.shape)]
    return float(finite.min()), float(finite.mean()), float(finite.max()), float(middle)


def _kept(cache: Any, known: list[Array]) -> list[np.ndarray]:
    """Arrays in a cache whose memory is not that of an array in ``known``."""
    found: dict[int, np.ndarray] = {}
    for array in _arrays(cache):
        if not any(np.may_share_memory(array, other) for other in known):
            found[array.__array_interface__["data"][0]] = array
    return list(found.values())


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _arrays(item)


def _flops(layer: Layer, arrays: list[Array], output: Array) -> int:
    if isinstance(layer, Convolution):
        weight = layer.params["weight"].data
        count = 2 * output.shape[0] * prod(output.shape[2:]) * weight.size
        if isinstance(layer, SegawareConvolution):
            distance = arrays[1]  # exp and a product for the mask, one product for each neighbour
            count += distance.size * (2 + arrays[0].shape[1])
        return count
    if isinstance(layer, Distance):
        return 3 * arrays[0].shape[1] * output.size  # difference, absolute value, sum
    if isinstance(layer, EmbeddingLoss):
        return 3 * arrays[0].size * layer.window.size
    return max(output.size, *(array.size for array in arrays))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _human(count: float) -> str:
    for unit in ("", "k", "M", "G"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} T"
