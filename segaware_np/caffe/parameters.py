"""Parameters: made as the fillers say, shared by name."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from segaware_np.caffe.blobs import ParameterBlob
from segaware_np.caffe.fillers import fill
from segaware_np.caffe.layer import Declaration, Layer
from segaware_np.caffe.schema import Message

MAX_SIZE = 1 << 28  # numbers of one parameter; the largest of VGG-16 has 1 << 26.6


def make_parameters(
    layer: Layer, declared: Sequence[Declaration], named: dict[str, ParameterBlob], forced: bool
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
    for k, (shape, initial) in enumerate(declared):
        if prod(shape) > MAX_SIZE:
            raise layer.error(f"a parameter of shape {shape} is beyond all reason")
        spec = specs[k] if k < len(specs) else Message("ParamSpec")
        if spec.name and spec.name in named:
            blob = named[spec.name]
            _check_shared(layer, spec, blob, shape)
            if blob.data.shape != shape:  # permitted to differ: another view of the same numbers
                blob = _view(blob, shape)
        else:
            values = initial(shape) if callable(initial) else fill(initial, shape, rng)
            data = layer.context.xp.array(values, layer.context.dtype)  # a copy: nobody else's
            rate = 0.0 if layer.type == "BatchNorm" else spec.lr_mult  # statistics, not learned
            wanted = layer.type != "BatchNorm" and (rate != 0 or forced)
            blob = ParameterBlob(data, rate, spec.decay_mult, wanted)
            if spec.name:
                named[spec.name] = blob
        out.append(blob)
    return out


def _view(blob: ParameterBlob, shape: tuple[int, ...]) -> ParameterBlob:
    view = ParameterBlob(blob.data.reshape(shape), blob.lr_mult, blob.decay_mult, blob.wanted)
    view._grad = blob.grad.reshape(shape)
    return view


def _check_shared(
    layer: Layer, spec: Message, blob: ParameterBlob, shape: tuple[int, ...]
) -> None:
    loose = spec.share_mode == "PERMISSIVE" and prod(shape) == blob.data.size
    if blob.data.shape != shape and not loose:
        raise layer.error(f"shared parameter {spec.name!r} has shape {blob.data.shape}, "
                          f"this layer needs {shape}")
    for field, value in (("lr_mult", blob.lr_mult), ("decay_mult", blob.decay_mult)):
        if field in spec and getattr(spec, field) != value and layer.type != "BatchNorm":
            raise layer.error(f"shared parameter {spec.name!r} has {field} {value} elsewhere, "
                              f"{getattr(spec, field)} here")
