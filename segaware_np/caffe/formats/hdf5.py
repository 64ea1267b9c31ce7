"""Caffe's weights and solver states as HDF5 files: ``.caffemodel.h5`` and ``.solverstate.h5``.

Weights lie at ``data/LAYER/NUMBER``. A dataset is believed only if the file could hold its numbers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.caffe.formats.wire import LayerWeights, SolverState
from segaware_np.extras import require
from segaware_np.files import FormatError, atomic_write, check_file
from segaware_np.npz import LARGEST_RATIO

SUFFIX = ".h5"
_DEPTH = 16  # groups within groups: names of layers may have slashes in them


def read_weights(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """Read the layers that hold parameters; errors are those of `wire.read_caffemodel`."""
    with _opened(path) as (file, size):
        layers: list[LayerWeights] = []
        _collect(file["data"], "", size, layers, 0)
        return layers


def write_weights(path: str | os.PathLike[str], layers: Iterable[LayerWeights]) -> None:
    """Write weights; the file appears whole or not at all.

    Raises ValueError if two layers have one name, or one has none: there is no place for them.
    """
    with _written(path) as file:
        group, seen = file.create_group("data"), set[str]()
        for layer in layers:
            if not layer.name.strip("/") or layer.name in seen:
                raise ValueError(f"{path}: in HDF5 each layer needs a name of its own, got "
                                 f"{layer.name!r}")
            seen.add(layer.name)
            for k, blob in enumerate(layer.blobs):
                group[f"{layer.name}/{k}"] = blob


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """Read a solver's state; errors are those of `wire.read_caffemodel`."""
    with _opened(path) as (file, size):
        history = file["history"]
        blobs = [_array(history[str(k)], size) for k in range(len(history))]
        name = _array(file["learned_net"], size) if "learned_net" in file else np.array(b"")
        extra = json.loads(str(file.attrs.get("extra", "{}")))
        if not isinstance(extra, dict):
            raise ValueError("damaged state")
        iteration, step = (int(_array(file[key], size).ravel()[0])
                           for key in ("iter", "current_step"))
        return SolverState(iteration, _text(name), blobs, step, extra)


def write_state(path: str | os.PathLike[str], state: SolverState) -> None:
    """Write a solver's state; it appears whole or not at all."""
    with _written(path) as file:
        file["iter"], file["current_step"] = state.iteration, state.current_step
        file["learned_net"] = state.learned_net
        group = file.create_group("history")
        for k, blob in enumerate(state.history):
            group[str(k)] = blob
        if state.extra:
            file.attrs["extra"] = json.dumps(state.extra)


def _collect(group: Any, name: str, size: int, found: list[LayerWeights], depth: int) -> None:
    """Add the layers in a group; a group of numbered datasets is a layer."""
    if depth > _DEPTH:
        raise ValueError(f"groups are nested more than {_DEPTH} deep")
    numbers = sorted(int(key) for key in group if key.isdecimal() and hasattr(group[key], "shape"))
    if numbers:
        found.append(LayerWeights(name, "", [_array(group[str(k)], size) for k in numbers]))
    for key in group:
        if hasattr(group[key], "keys"):
            _collect(group[key], f"{name}/{key}".lstrip("/"), size, found, depth + 1)


def _array(dataset: Any, size: int) -> np.ndarray:
    if dataset.nbytes > LARGEST_RATIO * size:
        raise ValueError(f"{dataset.name} declares {dataset.nbytes} bytes in a file of {size}")
    array = np.asarray(dataset[()])
    if array.dtype.kind not in "fiuOS":
        raise ValueError(f"{dataset.name}: expected numbers, got {array.dtype}")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _text(array: np.ndarray) -> str:
    value = array.item() if array.ndim == 0 else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, int]]:
    """An HDF5 file and its size; what its reader trips over means a damaged file."""
    h5py = require("h5py", extra="caffe")
    if not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file, os.path.getsize(path)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: not one of Caffe's HDF5 files, or damaged ({error})") from error


@contextmanager
def _written(path: str | os.PathLike[str]) -> Iterator[Any]:
    h5py, buffer = require("h5py", extra="caffe"), BytesIO()
    with h5py.File(buffer, "w") as file:
        yield file
    with atomic_write(path) as out:
        out.write(buffer.getbuffer())
