"""A network's parameters in and out of files: caffemodel, .npz, .safetensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.wire import LayerWeights, read_caffemodel, write_caffemodel
from segaware_np.caffe.graph import Step
from segaware_np.caffe.layers.base import Context
from segaware_np.files import FormatError, load_arrays, save_arrays
from segaware_np.xp import host

_ARRAYS = (".npz", ".safetensors")  # files of arrays LAYER/NUMBER; all others are caffemodels


def read_layers(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """Read the parameters of all layers in a file, of the kind that its suffix names.

    Raises FileNotFoundError if it is missing, FormatError if it is damaged or of another kind.
    """
    if Path(path).suffix not in _ARRAYS:
        return read_caffemodel(path)
    arrays, metadata = load_arrays(path)
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, _, number = name.rpartition("/")
        if not (layer and number.isdecimal()) or array.dtype.kind not in "fiu":
            raise FormatError(f"{path}: expected arrays of numbers named LAYER/NUMBER, "
                              f"got {name!r} of {array.dtype}")
        found.setdefault(layer, {})[int(number)] = array
    types = _types(metadata.get("layers"))
    order = [*(name for name in types if name in found), *(n for n in found if n not in types)]
    return [LayerWeights(name, types.get(name, ""), [found[name][k] for k in sorted(found[name])])
            for name in order]


def write_layers(
    path: str | os.PathLike[str], layers: Sequence[LayerWeights], name: str = ""
) -> None:
    """Write parameters to a file of the kind that its suffix names; it appears whole or not."""
    if Path(path).suffix not in _ARRAYS:
        write_caffemodel(path, layers, name)
        return
    arrays = {f"{layer.name}/{k}": blob for layer in layers for k, blob in enumerate(layer.blobs)}
    save_arrays(path, arrays, {"layers": [[layer.name, layer.type] for layer in layers]})


def _types(known: Any) -> dict[str, str]:
    """The layers' types by their names, in order, of a file that holds them."""
    pairs = known if isinstance(known, list) else []
    return {str(pair[0]): str(pair[1])
            for pair in pairs if isinstance(pair, list) and len(pair) == 2}


def load_weights(
    path: str | os.PathLike[str], steps: Sequence[Step], context: Context
) -> list[str]:
    """Copy parameters from a file into the first layer of each name; all or nothing.

    Returns the names of the layers found.
    """
    targets = {step.layer.name: step.layer for step in reversed(steps)}
    copies, found = [], []
    for source in read_layers(path):
        layer = targets.get(source.name)
        if layer is None:
            continue
        if len(source.blobs) != len(layer.params):
            raise ValueError(f"{path}: layer {layer.name!r} has {len(layer.params)} parameters "
                             f"here, {len(source.blobs)} in the file")
        for k, (array, blob) in enumerate(zip(source.blobs, layer.params, strict=True)):
            if not _same_shape(array.shape, blob.data.shape):
                raise ValueError(f"{path}: parameter {k} of layer {layer.name!r} has shape "
                                 f"{blob.data.shape} here, {array.shape} in the file")
            copies.append((blob.data, array))
        found.append(layer.name)
    if not found:
        raise ValueError(f"{path}: holds no layer that has its name in this network")
    for data, array in copies:
        data[...] = context.xp.asarray(array.reshape(data.shape), context.dtype)
    return found


def save_weights(path: str | os.PathLike[str], steps: Sequence[Step], name: str) -> None:
    """Write the parameters of all layers that have some."""
    layers = [
        LayerWeights(s.layer.name, s.layer.type, [host(blob.data) for blob in s.layer.params])
        for s in steps
        if s.layer.params
    ]
    write_layers(path, layers, name)


def share_weights(source: Sequence[Step], target: Sequence[Step]) -> None:
    """Give layers the parameter arrays of the layers of the same name in another network."""
    arrays = {step.layer.name: step.layer.params for step in reversed(source)}
    for step in target:
        shared = arrays.get(step.layer.name, [])
        if not step.layer.params or not shared:
            continue
        if [b.data.shape for b in shared] != [b.data.shape for b in step.layer.params]:
            raise step.layer.error("its parameters differ in shape from those it should share")
        for mine, theirs in zip(step.layer.params, shared, strict=True):
            mine.data = theirs.data


def _same_shape(a: Shape, b: Shape) -> bool:
    """Equal but for leading ones: older files give all shapes four axes."""
    def bare(shape: Shape) -> Shape:
        first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
        return shape[first:]

    return bare(a) == bare(b)
