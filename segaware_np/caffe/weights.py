"""A network's parameters in and out of caffemodel files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.graph import Step
from segaware_np.caffe.layer import Context
from segaware_np.caffe.wire import LayerWeights, read_caffemodel, write_caffemodel


def load_weights(
    path: str | os.PathLike[str], steps: Sequence[Step], context: Context
) -> list[str]:
    """Copy parameters from a caffemodel into the first layer of each name; all or nothing.

    Returns the names of the layers found.
    """
    targets = {step.layer.name: step.layer for step in reversed(steps)}
    copies, found = [], []
    for source in read_caffemodel(path):
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
    write_caffemodel(path, layers, name)


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


def host(array: object) -> np.ndarray:
    """Return an array in the host's memory."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def _same_shape(a: Shape, b: Shape) -> bool:
    """Equal but for leading ones: older files give all shapes four axes."""
    def bare(shape: Shape) -> Shape:
        first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
        return shape[first:]

    return bare(a) == bare(b)
