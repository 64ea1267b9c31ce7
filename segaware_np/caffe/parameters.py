"""Parameters: made as the fillers say, shared by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from segaware_np.caffe.blobs import ParameterBlob
from segaware_np.caffe.fillers import fill
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Declaration, Layer

MAX_SIZE = 1 << 28  # numbers of one parameter; the largest of VGG-16 has 1 << 26.6
MAX_TOTAL = 1 << 29  # of all together; VGG-16 has 1 << 27
_RATES = ("lr_mult", "decay_mult")


class Shared(NamedTuple):
    """A parameter that has a name, and which of its rates a layer has set so far."""

    blob: ParameterBlob
    told: set[str]


def check_sizes(declared: Iterable[tuple[Layer, Sequence[Declaration]]]) -> None:
    """Raise FormatError if the parameters of layers, those shared by name once, are too large.

    So that a small file cannot ask for hours of filling or for all memory.
    """
    total, named = 0, set()
    for layer, parameters in declared:
        for k, (shape, *_) in enumerate(parameters):
            name = layer.spec.param[k].name if k < len(layer.spec.param) else ""
            if prod(shape) > MAX_SIZE:
                raise layer.error(f"a parameter of shape {shape} is beyond all reason")
            total += 0 if name in named else prod(shape)
            named |= {name} - {""}
        if total > MAX_TOTAL:
            raise layer.error(f"the parameters up to here have {total:,} numbers, beyond all "
                              "reason")


def make_parameters(
    layer: Layer, declared: Sequence[Declaration], named: dict[str, Shared], forced: bool
) -> list[ParameterBlob]:
    """Make a layer's parameters, or take those that an earlier layer made under the same name.

    Parameters
    ----------
    layer : Layer
    declared : sequence of Declaration
    named : dict
        Parameters that have a name, of all layers before; new ones are added.
    forced : bool
        Gradients are wanted even where the learning rate is 0.

    Raises
    ------
    FormatError
        If shared parameters differ in shape, learning rate or decay, or there are more
        specifications than parameters.
    """
    specs = layer.spec.param
    if len(specs) > len(declared):
        raise layer.error(f"{len(specs)} param for {len(declared)} parameters")
    rng = layer.context.rng(layer.index)
    out = []
    for k, (shape, initial, learned) in enumerate(declared):
        spec = specs[k] if k < len(specs) else Message("ParamSpec")
        if spec.name and spec.name in named:
            blob = _join(layer, spec, named[spec.name], declared[k], forced)
            if blob.data.shape != shape:  # permitted to differ: another view of the same numbers
                blob = blob.view(shape)
        else:
            values = initial(shape) if callable(initial) else fill(initial, shape, rng)
            data = layer.context.xp.array(values, layer.context.dtype)  # a copy: nobody else's
            rate = spec.lr_mult if learned else 0.0
            wanted = learned and (rate != 0 or forced)
            blob = ParameterBlob(data, rate, spec.decay_mult, wanted)
            if spec.name:
                named[spec.name] = Shared(blob, set(_RATES).intersection(spec))
        out.append(blob)
    return out


def check_parameters(layer: Layer, declared: Sequence[Declaration]) -> None:
    """Raise FormatError unless a layer's parameters are those that it would need now."""
    for k, (blob, (shape, *_)) in enumerate(zip(layer.params, declared, strict=True)):
        if blob.data.shape != shape:
            raise layer.error(f"parameter {k} has shape {blob.data.shape}, these bottoms need "
                              f"{shape}")


def _join(
    layer: Layer, spec: Message, shared: Shared, declared: Declaration, forced: bool
) -> ParameterBlob:
    """Let one more layer share a parameter; rates that no layer before has set are its to set."""
    (blob, told), shape = shared, declared.shape
    loose = spec.share_mode == "PERMISSIVE" and prod(shape) == blob.data.size
    if blob.data.shape != shape and not loose:
        raise layer.error(f"shared parameter {spec.name!r} has shape {blob.data.shape}, "
                          f"this layer needs {shape}")
    for rate in _RATES if declared.learned else ():
        value = getattr(spec, rate)
        if rate in told and rate in spec and getattr(blob, rate) != value:
            raise layer.error(f"shared parameter {spec.name!r} has {rate} {getattr(blob, rate)} "
                              f"elsewhere, {value} here")
        if rate in spec:
            setattr(blob, rate, value)
            told.add(rate)
            blob.wanted = blob.lr_mult != 0 or forced
    return blob
