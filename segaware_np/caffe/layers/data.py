"""Layer types without bottoms: inputs, dummy data, arrays from files.

Batch number i is a pure function of the network's seed and i (random crops, mirroring, order), so
that a run which is stopped and resumed goes through the same batches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.fillers import fill
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Layer, check_shape, layer_type
from segaware_np.data.order import shuffled
from segaware_np.extras import require
from segaware_np.files import check_file, read_text
from segaware_np.npz import LARGEST_RATIO
from segaware_np.xp import Array


class Declared(NamedTuple):
    """What a description alone says of a top of a data layer.

    Attributes
    ----------
    shape : tuple of int or None
        None for what only the data would tell.
    kind : {"image", "labels", "targets", "size"}
        What it holds: ``size`` the heights and widths of pictures, ``targets`` labels of images or
        of pixels, which only the data would tell.
    """

    shape: tuple[int | None, ...]
    kind: str = "image"


class Source(Layer):
    """A layer that makes blobs out of nothing."""

    bottoms, tops, stops = (0, 0), (1, 1000), True

    @classmethod
    def source(cls, spec: Message) -> str:
        """The file or folder that a layer of this description reads; empty for none."""
        return ""

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        """What the description says of each top, for layers that read a file or folder."""
        raise TypeError(f"{spec.type} reads no data")

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        xp, dtype = self.context.xp, self.context.dtype
        arrays = self.batch(self.context.passes - 1)
        return [xp.asarray(array.astype(dtype, copy=False)) for array in arrays], None

    def batch(self, number: int) -> list[np.ndarray]:
        """Return the tops of the batch of that number."""
        raise TypeError(f"{self.type} has no batches")


@layer_type("Input")
class Input(Source):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        shapes = [tuple(shape.dim) for shape in self.spec.input_param.shape]
        if len(shapes) == 1:
            shapes *= len(self.spec.top)
        if len(shapes) != len(self.spec.top):
            raise self.error(f"expected one shape, or one for each of {len(self.spec.top)} tops, "
                             f"got {len(shapes)}")
        return [check_shape(self.spec, shape) for shape in shapes]


@layer_type("MemoryData")
class MemoryData(Input):
    """Images, labels and, in DeepLab's Caffe, sizes of images, which the caller sets."""

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        param = self.spec.memory_data_param
        n, c, h, w = param.batch_size, param.channels, param.height, param.width
        if min(n, c, h, w) < 1:
            raise self.error("batch_size, channels, height, width: expected at least 1 each")
        if len(self.spec.top) > 3:
            raise self.error(f"expected 1 to 3 tops, got {len(self.spec.top)}")
        shapes: list[Shape] = [(n, c, h, w), (n,), (n, 1, 1, 2)]
        return [check_shape(self.spec, shape) for shape in shapes[: len(self.spec.top)]]


@layer_type("DummyData")
class DummyData(Source):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        param, count = self.spec.dummy_data_param, len(self.spec.top)
        shapes = [tuple(shape.dim) for shape in param.shape]
        old = list(zip(param.num, param.channels, param.height, param.width, strict=False))
        if shapes and old:
            raise self.error("shape and num, channels, height, width exclude each other")
        shapes = shapes or old
        if len(shapes) not in (1, count) or len(param.data_filler) not in (0, 1, count):
            raise self.error(f"expected one shape and filler, or one for each of {count} tops")
        return [check_shape(self.spec, shape) for shape in shapes * (count // len(shapes))]

    def batch(self, number: int) -> list[np.ndarray]:
        shapes, fillers = self.shapes(), self.spec.dummy_data_param.data_filler
        if not fillers:
            return [np.zeros(shape) for shape in shapes]
        fillers = fillers * (len(shapes) // len(fillers))
        rng = self.context.rng(self.index, number)
        return [fill(f, shape, rng) for f, shape in zip(fillers, shapes, strict=True)]


@layer_type("HDF5Data")
class HDF5Data(Source):
    """Rows of the datasets named like the tops, from all files of a list, round and round."""

    def configure(self) -> None:
        self.param = self.spec.hdf5_data_param
        if self.param.batch_size < 1:
            raise self.error(f"batch_size: expected at least 1, got {self.param.batch_size}")
        self.rows = self._read()

    @classmethod
    def source(cls, spec: Message) -> str:
        return spec.hdf5_data_param.source

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        """Rows are told by nothing but the file: images, and numbers where a top is a label."""
        n = max(spec.hdf5_data_param.batch_size, 1)
        return [Declared((n,), "targets") if "label" in top else Declared((n, None, None, None))
                for top in spec.top]

    def _read(self) -> list[np.ndarray]:
        h5py = require("h5py", extra="caffe")
        files = read_text(self.param.source).split()
        parts: list[list[np.ndarray]] = [[] for _ in self.spec.top]
        path = self.param.source
        try:
            for path in files:
                check_file(path)
                with h5py.File(path, "r") as file:
                    for top, part in zip(self.spec.top, parts, strict=True):
                        _check_size(file[top], os.path.getsize(path))
                        part.append(np.asarray(file[top], self.context.dtype))
            rows = [np.concatenate(part) for part in parts]
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise self.error(f"{path}: {error}") from error
        if len({len(row) for row in rows}) != 1 or not len(rows[0]):
            raise self.error(f"{self.param.source}: expected datasets of one length for each top")
        return rows

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [(self.param.batch_size, *rows.shape[1:]) for rows in self.rows]

    def batch(self, number: int) -> list[np.ndarray]:
        total, size = len(self.rows[0]), self.param.batch_size
        places = np.arange(number * size, (number + 1) * size)
        epochs, places = places // total, places % total
        if self.param.shuffle:
            seed = self.context.seed, self.index
            places = np.array([shuffled(total, *seed, epoch)[place]
                               for epoch, place in zip(epochs.tolist(), places, strict=True)])
        return [rows[places] for rows in self.rows]


def _check_size(dataset: Any, size: int) -> None:
    """A dataset that was never written, or is declared too large, would take all memory."""
    if not hasattr(dataset, "nbytes"):
        raise ValueError(f"{dataset.name} is no dataset")
    if dataset.nbytes > LARGEST_RATIO * size:
        raise ValueError(f"{dataset.name} declares {dataset.nbytes} bytes in a file of {size}")
