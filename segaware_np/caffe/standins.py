"""Drawn data in place of data that is not there, so that a network can be tried without it.

A data layer whose file or folder is missing becomes an Input of the shape that its description
declares; inputs are made small, as far as the network lets them be.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.graph import included, layer_class
from segaware_np.caffe.layers.data import Declared, Input, Source

_BATCH = 2  # samples, unless fewer are declared
_STEP = 32  # most networks halve their image five times
_CELLS = (2, 4, 5, 7, 10, 12, 14, 16, 20, 24)  # sides of small images, in steps, without the rest
_UNDECLARED = ((28, 28), (64, 64), (65, 65), (128, 128), (224, 224), (321, 321), (360, 480),
               (512, 512))  # MNIST's and CamVid's among them
_CHANNELS = (3, 1, 2)


class Frame(NamedTuple):
    """A size to try: of images that are declared with ``full``, and of what nothing declares."""

    full: tuple[int, int] | None  # the largest image that is declared, if one is
    size: tuple[int, int]
    channels: int
    batch: int | None = _BATCH  # the most; None for what is declared
    maps: bool = False  # whether labels of images or pixels are those of pixels

    def shape(self, declared: Declared) -> Shape:
        """The shape of a top."""
        first, *rest = declared.shape
        n = first if self.batch is None else min(first or 1, self.batch)
        if declared.kind == "targets" and self.maps:
            return (n or 1, 1, *self.size)
        if len(rest) != 3 or declared.kind == "size":
            return (n or 1, *(side or 1 for side in rest))
        sides = (self._side(side, axis) for axis, side in enumerate(rest[1:]))
        return (n or 1, self.channels if rest[0] is None else rest[0], *sides)

    def _side(self, side: int | None, axis: int) -> int:
        if side is None:
            return self.size[axis]
        if self.full is None or side == 1:
            return side
        return max(1, round(side * self.size[axis] / self.full[axis]))


class StandIns(NamedTuple):
    """A description that needs no data, what its inputs hold, and the layers that were replaced."""

    spec: Message
    kinds: dict[str, str]
    replaced: list[str]


def frames(spec: Message, state: Message) -> Iterator[Frame]:
    """The sizes to try a network at, small ones first; the last is what it declares."""
    tops = [top for layer, kind in _sources(spec, state) for top in kind.declared(layer)]
    tops += [Declared(shape) for shape in _input_shapes(spec, state)]
    images = [top.shape for top in tops if len(top.shape) == 4 and top.kind != "size"]
    declared = [(h, w) for _, _, h, w in images if h is not None and w is not None]
    full = max(declared, default=None)
    sizes = list(_UNDECLARED)
    if full is not None:
        sizes = [size for cells in _CELLS if (size := _small(full, cells)) < full] + [full]
    channels = _CHANNELS if any(shape[1] is None for shape in images) else (3,)
    targets = any(top.kind == "targets" for top in tops)
    for maps in (False, True)[: 1 + targets]:
        for size in sizes:
            yield from (Frame(full, size, count, maps=maps) for count in channels)
    if full is not None:
        yield Frame(full, full, 3, None)


def stand_in(spec: Message, state: Message, frame: Frame) -> StandIns:
    """Return the description of the layers of a state, at some size, with drawn data."""
    kinds: dict[str, str] = {}
    replaced, layers = [], []
    missing = {id(layer): kind for layer, kind in _sources(spec, state)}
    for layer in spec.layer:
        if id(layer) in missing:
            tops = missing[id(layer)].declared(layer)
            kinds.update(zip(layer.top, (top.kind for top in tops), strict=False))
            replaced.append(layer.name)
            layer = _as_input(layer, [frame.shape(top) for top in tops])
        elif layer.type == "Input":
            shapes = [frame.shape(Declared(tuple(s.dim))) for s in layer.input_param.shape]
            layer = _as_input(layer, shapes)
        layers.append(layer)
    shapes = [frame.shape(Declared(shape)) for shape in _declared_inputs(spec)]
    dims = [side for shape in shapes for side in shape]
    inputs: dict[str, Any] = {"input_dim": dims} if spec.input_dim else {
        "input_shape": [_blob_shape(spec, shape) for shape in shapes] or None}
    return StandIns(spec.replaced(layer=layers or None, **inputs), kinds, replaced)


def draw(name: str, shape: Shape, kind: str, size: tuple[int, int], rng: np.random.Generator
         ) -> np.ndarray:
    """Return an array for an input: of labels 0 and 1, of the size of images, else of noise."""
    if kind == "size":
        return np.broadcast_to(np.array(size, float), shape)
    if kind in ("labels", "targets") or _is_label(name):
        return rng.integers(0, 2, shape)
    return rng.standard_normal(shape, np.float32)


def _is_label(name: str) -> bool:
    return any(word in name.lower() for word in ("label", "target", "ground", "gt"))


def _sources(spec: Message, state: Message) -> list[tuple[Message, type[Source]]]:
    """The data layers of a state whose data is not there, and their classes."""
    found = []
    for layer in spec.layer:
        kind = layer_class(layer) if included(layer, state) else None
        if kind is not None and issubclass(kind, Source) and not issubclass(kind, Input):
            path = kind.source(layer)
            if path and not Path(path).exists():
                found.append((layer, kind))
    return found


def _input_shapes(spec: Message, state: Message) -> list[Shape]:
    layers = [layer for layer in spec.layer if layer.type == "Input" and included(layer, state)]
    return [*_declared_inputs(spec),
            *(tuple(shape.dim) for layer in layers for shape in layer.input_param.shape)]


def _declared_inputs(spec: Message) -> list[Shape]:
    if spec.input_dim:
        dims = spec.input_dim
        return [tuple(dims[at : at + 4]) for at in range(0, len(dims), 4)]
    return [tuple(shape.dim) for shape in spec.input_shape]


def _as_input(layer: Message, shapes: list[Shape]) -> Message:
    param = Message("InputParameter", layer._line, layer._source)
    param = param.replaced(shape=[_blob_shape(layer, shape) for shape in shapes])
    return layer.replaced(type="Input", input_param=param)


def _blob_shape(near: Message, shape: Shape) -> Message:
    return Message("BlobShape", near._line, near._source).replaced(dim=list(shape))


def _small(full: tuple[int, int], cells: int) -> tuple[int, int]:
    """A size of about so many steps along its shorter side, with what the full one leaves over."""
    short = min(full)
    height, width = (_STEP * max(1, round(cells * side / short)) + side % _STEP for side in full)
    return height, width
