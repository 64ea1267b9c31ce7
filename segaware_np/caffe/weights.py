"""A network's parameters in and out of files: caffemodel, .npz, .safetensors."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import ParameterBlob, Shape
from segaware_np.caffe.formats import hdf5
from segaware_np.caffe.formats.wire import LayerWeights, read_caffemodel, write_caffemodel
from segaware_np.caffe.graph import Step
from segaware_np.caffe.layers.base import Context, Layer
from segaware_np.files import FormatError, load_arrays, save_arrays
from segaware_np.xp import array_module, host

_ARRAYS = (".npz", ".safetensors")  # files of arrays LAYER/NUMBER; all others are caffemodels


def numbered(names: Iterable[str]) -> list[tuple[str, int]]:
    """Each name with how often it has come: what tells layers of one name, or none, apart."""
    times: Counter[str] = Counter()
    out = []
    for name in names:
        times[name] += 1
        out.append((name, times[name]))
    return out


def distinct(names: Iterable[str]) -> list[str]:
    """Keys for layers in their order: the name, behind the first with its number: ``fc#2``."""
    pairs = numbered(names)
    taken, keys = {name for name, _ in pairs}, []
    for name, number in pairs:
        key = name if number == 1 else f"{name}#{number}"
        while number > 1 and key in taken:  # a layer of that very name
            key += "#"
        taken.add(key)
        keys.append(key)
    return keys


def read_layers(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """Read the parameters of all layers in a file, of the kind that its suffix names.

    Raises FileNotFoundError if it is missing, FormatError if it is damaged or of another kind.
    """
    if Path(path).suffix == hdf5.SUFFIX:
        return hdf5.read_weights(path)
    if Path(path).suffix not in _ARRAYS:
        return read_caffemodel(path)
    arrays, metadata = load_arrays(path)
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        key, slash, number = name.rpartition("/")
        counts = slash and re.fullmatch("0|[1-9][0-9]{0,5}", number)
        if not counts or array.dtype.kind not in "fiu":
            raise FormatError(f"{path}: expected arrays of numbers named LAYER/NUMBER, "
                              f"got {name!r} of {array.dtype}")
        found.setdefault(key, {})[int(number)] = array
    told = _told(metadata.get("layers"))
    keys = distinct(name for name, _ in told)
    layers = dict(zip(keys, told, strict=True)) | {k: (k, "") for k in found if k not in keys}
    return [LayerWeights(name, type_, [found[key][k] for k in sorted(found[key])])
            for key, (name, type_) in layers.items() if key in found]


def write_layers(
    path: str | os.PathLike[str], layers: Sequence[LayerWeights], name: str = ""
) -> None:
    """Write parameters to a file of the kind that its suffix names; it appears whole or not."""
    if Path(path).suffix == hdf5.SUFFIX:
        hdf5.write_weights(path, layers)
        return
    if Path(path).suffix not in _ARRAYS:
        write_caffemodel(path, layers, name)
        return
    keys = distinct(layer.name for layer in layers)
    arrays = {f"{key}/{k}": blob for key, layer in zip(keys, layers, strict=True)
              for k, blob in enumerate(layer.blobs)}
    save_arrays(path, arrays, {"layers": [[layer.name, layer.type] for layer in layers]})


def _told(known: Any) -> list[tuple[str, str]]:
    """Names and types of the layers, in order, of a file that holds them."""
    pairs = known if isinstance(known, list) else []
    return [(str(pair[0]), str(pair[1]))
            for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def load_weights(
    path: str | os.PathLike[str], steps: Sequence[Step], context: Context, complete: bool = False
) -> list[str]:
    """Copy parameters from a file into the layers of their names; all or nothing.

    Of several layers of one name the first is the first there. Returns the names of the layers
    found, and warns of the others, on both sides; with ``complete`` those here must be there.
    """
    targets, sources = _by_name(steps), read_layers(path)
    known = {step.layer.name for step in steps} - {name for name, _ in targets}
    found = _Found(f"{path}", [], [], dict.fromkeys(targets))
    copies = []
    for place, source in zip(numbered(s.name for s in sources), sources, strict=True):
        params = targets[place].params if place in targets else []
        if not params and source.name not in known:
            found.left_out.append(source.name)
            continue
        if len(source.blobs) != len(params):
            raise ValueError(f"{path}: layer {source.name!r} has {len(params)} parameters "
                             f"here, {len(source.blobs)} in the file")
        for k, (array, blob) in enumerate(zip(source.blobs, params, strict=True)):
            if not _same_shape(array.shape, blob.data.shape):
                raise ValueError(f"{path}: parameter {k} of layer {source.name!r} has shape "
                                 f"{blob.data.shape} here, {array.shape} in the file")
            copies.append((blob.data, array))
        found.took(place)
    if not found.loaded:
        raise ValueError(f"{path}: holds no layer that has its name in this network")
    if complete and found.initial:
        raise ValueError(f"{path}: expected weights of all layers, got none of "
                         f"{_names(name for name, _ in found.initial)}")
    found.tell()
    for data, array in copies:
        data[...] = context.xp.asarray(array.reshape(data.shape), context.dtype)
    return found.loaded


def save_weights(path: str | os.PathLike[str], steps: Sequence[Step], name: str) -> None:
    """Write the parameters of all layers that have some."""
    layers = [
        LayerWeights(layer.name, layer.type, [host(blob.data) for blob in layer.params])
        for layer in _by_name(steps).values()
    ]
    write_layers(path, layers, name)


def share_weights(source: Sequence[Step], target: Sequence[Step]) -> list[str]:
    """Give layers the parameter arrays of the layers of the same name in another network.

    Of several layers of one name the first is the first there. Returns the names of the layers
    that share, and warns of the others, on both sides.
    """
    given, targets = _by_name(source), _by_name(target)
    found = _Found("share_from", [], [], dict.fromkeys(targets))
    pairs: list[tuple[ParameterBlob, ParameterBlob]] = []
    for place, layer in given.items():
        if place not in targets:
            found.left_out.append(layer.name)
            continue
        mine = targets[place].params
        if _kinds(layer.params) != _kinds(mine):
            raise targets[place].error(f"expected to share parameters {_kinds(mine)}, "
                                       f"got {_kinds(layer.params)}")
        pairs += zip(mine, layer.params, strict=True)
        found.took(place)
    found.tell()
    for blob, shared in pairs:
        blob.data = shared.data
    return found.loaded


@dataclass
class _Found:
    """Which layers went together: names of those taken, those not wanted, and the rest here."""

    where: str
    loaded: list[str]
    left_out: list[str]
    initial: dict[tuple[str, int], None]

    def took(self, place: tuple[str, int]) -> None:
        self.loaded.append(place[0])
        del self.initial[place]

    def tell(self) -> None:
        """Warn if that is not all, on both sides."""
        parts = {"loaded": self.loaded, "left out, as this network has none of that name":
                 self.left_out, "left as they were, as there is none of that name there":
                 [name for name, _ in self.initial]}
        if self.left_out or self.initial:
            told = "; ".join(f"{what}: {_names(names)}" for what, names in parts.items() if names)
            warnings.warn(f"{self.where}: {told}", stacklevel=4)


def _kinds(params: Sequence[ParameterBlob]) -> list[str]:
    return [f"{array_module(b.data).__name__} {b.data.dtype} {b.data.shape}" for b in params]


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _by_name(steps: Sequence[Step]) -> dict[tuple[str, int], Layer]:
    """The layers that have parameters, in order, by what `numbered` makes of their names."""
    layers = [step.layer for step in steps if step.layer.params]
    return dict(zip(numbered(layer.name for layer in layers), layers, strict=True))


def _same_shape(a: Shape, b: Shape) -> bool:
    """Equal but for leading ones: older files give all shapes four axes."""
    def bare(shape: Shape) -> Shape:
        first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
        return shape[first:]

    return bare(a) == bare(b)
