"""Layer types that move entries about: joins, cuts, copies, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Line, Lines, corners
from segaware_np.caffe.layers.base import Grads, Layer, layer_type
from segaware_np.ops.resize import ResizeCache, resize_backward, resize_forward
from segaware_np.ops.tile import tile_backward, tile_forward
from segaware_np.xp import Array, array_module


@layer_type("Concat")
class Concat(Layer):
    bottoms, cheap = (1, 1000), True

    def _along(self, ndim: int) -> int:
        param = self.spec.concat_param
        return self.axis(param.concat_dim if "concat_dim" in param else param.axis, ndim)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        first = bottoms[0]
        axis = self._along(len(first))
        if len({(len(s), *s[:axis], *s[axis + 1 :]) for s in bottoms}) > 1:
            raise self.error(f"bottoms differ beside axis {axis}: {', '.join(map(str, bottoms))}")
        return [(*first[:axis], sum(s[axis] for s in bottoms), *first[axis + 1 :])]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        axis = self._along(bottoms[0].ndim)
        y = array_module(*bottoms).concatenate(bottoms, axis=axis)
        return [y], ([x.shape[axis] for x in bottoms], axis)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return _cut(dtops[0], *cache), []


@layer_type("Slice")
class Slice(Layer):
    tops = (1, 1000)

    def _cuts(self, x: Shape) -> tuple[list[int], int]:
        """Lengths of the pieces, and the axis that they are cut from."""
        param, count = self.spec.slice_param, len(self.spec.top)
        axis = self.axis(param.slice_dim if "slice_dim" in param else param.axis, len(x))
        points = param.slice_point or [x[axis] // count * i for i in range(1, count)]
        if not param.slice_point and x[axis] % count:
            raise self.error(f"axis {axis} of {x} does not divide into {count} tops")
        ends = [0, *points, x[axis]]
        lengths = [b - a for a, b in pairwise(ends)]
        if len(lengths) != count or min(lengths) < 1:
            raise self.error(f"slice points {points} do not cut {x} into {count} tops")
        return lengths, axis

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x = bottoms[0]
        lengths, axis = self._cuts(x)
        return [(*x[:axis], length, *x[axis + 1 :]) for length in lengths]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        lengths, axis = self._cuts(bottoms[0].shape)
        return _cut(bottoms[0], lengths, axis), axis

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [array_module(*dtops).concatenate(list(dtops), axis=cache)], []


@layer_type("Split")
class Split(Layer):
    tops = (1, 1000)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [bottoms[0]] * len(self.spec.top)

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        return [bottoms[0]] * len(self.spec.top), None

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        total: Any = dtops[0]
        for dy in dtops[1:]:
            total = total + dy
        return [total], []


@layer_type("Silence")
class Silence(Layer):
    bottoms, tops, stops = (1, 1000), (0, 0), True

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        return [], None


@layer_type("Tile")
class Tile(Layer):
    cheap = True

    def configure(self) -> None:
        self.tiles, self.along = self.spec.tile_param.tiles, self.spec.tile_param.axis
        if self.tiles < 1:
            raise self.error(f"tiles: expected at least 1, got {self.tiles}")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        shape = list(bottoms[0])
        shape[self.axis(self.along, len(shape))] *= self.tiles
        return [tuple(shape)]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        y, cache = tile_forward(bottoms[0], self.tiles, self.along)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [tile_backward(dtops[0], cache)], []


@layer_type("Replicate")
class Replicate(Tile):
    """The same under another name and with other options."""

    def configure(self) -> None:
        param = self.spec.replicate_param
        self.tiles, self.along = param.num_copies, param.axis
        if self.tiles < 1:
            raise self.error(f"num_copies: expected at least 1, got {self.tiles}")


@layer_type("Flatten")
class Flatten(Layer):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x, param = bottoms[0], self.spec.flatten_param
        first, last = self.axis(param.axis, len(x)), self.axis(param.end_axis, len(x))
        if first > last:
            raise self.error(f"axis {first} lies behind end_axis {last}")
        return [(*x[:first], prod(x[first : last + 1]), *x[last + 1 :])]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x = bottoms[0]
        return [x.reshape(self.shapes(x.shape)[0])], x.shape

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0].reshape(cache)], []  # type: ignore[union-attr]


@layer_type("Reshape")
class Reshape(Flatten):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x, param = bottoms[0], self.spec.reshape_param
        start = param.axis if param.axis >= 0 else param.axis + len(x) + 1
        stop = len(x) if param.num_axes == -1 else start + param.num_axes
        if not 0 <= start <= stop <= len(x):
            raise self.error(f"axes {start} to {stop} are not those of a blob {x}")
        dims = list(param.shape.dim)
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(x):
                    raise self.error(f"there is no axis {start + i} to copy from {x}")
                dims[i] = x[start + i]
        rest = prod((*x[:start], *(d for d in dims if d != -1), *x[stop:]))
        if dims.count(-1) > 1 or (-1 in dims and (rest == 0 or prod(x) % rest)):
            raise self.error(f"cannot infer the size of axis -1 in {dims} for {x}")
        shape = (*x[:start], *(prod(x) // rest if d == -1 else d for d in dims), *x[stop:])
        if prod(shape) != prod(x):
            raise self.error(f"{x} does not reshape to {shape}")
        return [shape]


@layer_type("Crop")
class Crop(Layer):
    """The part of the first bottom, from an offset on, that has the second one's size.

    Without ``crop_param`` the offset is for `alignment` to decide.
    """

    bottoms = (2, 2)

    def configure(self) -> None:
        self.offsets = self.spec.crop_param.offset or [0]

    def _place(self, x: Shape, size: Shape) -> tuple[slice, ...]:
        first, offsets = self.axis(self.spec.crop_param.axis, len(x)), self.offsets
        if len(size) != len(x) or len(offsets) not in (1, len(x) - first):
            raise self.error(f"expected bottoms of as many axes, and one offset or one for each of "
                             f"{len(x) - first}, got {x}, {size} and {len(offsets)} offsets")
        offsets = offsets * (len(x) - first) if len(offsets) == 1 else offsets
        ends = [start + side for start, side in zip(offsets, size[first:], strict=True)]
        if min(offsets) < 0 or any(end > n for end, n in zip(ends, x[first:], strict=True)):
            raise self.error(f"{size[first:]} from {tuple(offsets)} on reaches beyond {x[first:]}")
        inner = tuple(slice(a, b) for a, b in zip(offsets, ends, strict=True))
        return (slice(None),) * first + inner

    def lines(self, *bottoms: Shape) -> Lines | None:
        place = self._place(*bottoms)
        if len(place) != 4:
            return None
        rows, columns = (Line(shift=Fraction(part.start or 0)) for part in place[2:])
        return rows, columns

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        x, _ = bottoms
        place = self._place(*bottoms)
        return [tuple(len(range(n)[part]) for n, part in zip(x, place, strict=True))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, size = bottoms
        place = self._place(x.shape, size.shape)
        return [x[place]], (x.shape, place)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (shape, place), dy = cache, dtops[0]
        dx = array_module(dy).zeros(shape, dy.dtype)  # type: ignore[union-attr]
        dx[place] = dy
        return [dx, None], []


@layer_type("AutoCrop")
class AutoCrop(Crop):
    """The Crop of Long's Caffe under another name: always aligned by the layers between."""


@layer_type("Padding")
class Padding(Layer):
    """DeepLab's zeros around an image; with negative numbers a border is cut off."""

    def configure(self) -> None:
        self.ends = self.spec.padding_param.pad_beg, self.spec.padding_param.pad_end
        if min(self.ends) < 0 < max(self.ends):
            raise self.error("pad_beg and pad_end: expected both of one sign")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, *size = self.image(bottoms[0])
        height, width = (side + sum(self.ends) for side in size)
        if height < 1 or width < 1:
            raise self.error(f"nothing is left of {tuple(size)} pixels")
        return [(n, c, height, width)]

    def lines(self, *bottoms: Shape) -> Lines | None:
        line = Line(shift=Fraction(-self.ends[0]))
        return line, line

    def _places(self, inner: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Of the bottom in the top and of the top in the bottom, where they overlap."""
        begin, end = self.ends
        cut = [slice(max(-begin, 0), side - max(-end, 0)) for side in inner[2:]]
        set_in = [slice(max(begin, 0), max(begin, 0) + s.stop - s.start) for s in cut]
        whole = (slice(None), slice(None))
        return (*whole, *set_in), (*whole, *cut)

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x = bottoms[0]
        y = array_module(x).zeros(self.shapes(x.shape)[0], x.dtype)
        outer, inner = self._places(x.shape)
        y[outer] = x[inner]
        return [y], x.shape

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dy: Any = dtops[0]
        dx = array_module(dy).zeros(cache, dy.dtype)
        outer, inner = self._places(cache)
        dx[inner] = dy[outer]
        return [dx], []


@layer_type("Interp")
class Interp(Layer):
    """Bilinear resize with aligned corners, of the image or of what cropping leaves of it."""

    cheap = True

    def configure(self) -> None:
        param = self.spec.interp_param
        self.zooms = "zoom_factor" in param or "shrink_factor" in param
        self.given = "height" in param and "width" in param
        if self.zooms == self.given:
            raise self.error("expected either zoom_factor and shrink_factor, or height and width")
        if param.zoom_factor < 1 or param.shrink_factor < 1:
            raise self.error("zoom_factor and shrink_factor: expected at least 1")
        self.crop = (-param.pad_beg, -param.pad_end)
        if min(self.crop) < 0:
            raise self.error("pad_beg and pad_end: expected at most 0 (they crop)")

    def _size(self, length: int, given: int) -> int:
        inner, param = length - sum(self.crop), self.spec.interp_param
        if self.given:
            size = given
        else:
            size = (inner - 1) // param.shrink_factor + 1
            size += (size - 1) * (param.zoom_factor - 1)
        if inner < 1 or size < 1:
            raise self.error(f"nothing is left of {length} pixels")
        return size

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, h, w = self.image(bottoms[0])
        param = self.spec.interp_param
        return [(n, c, self._size(h, param.height), self._size(w, param.width))]

    def lines(self, *bottoms: Shape) -> Lines | None:
        inner = [length - sum(self.crop) for length in bottoms[0][2:]]
        sizes = self.shapes(*bottoms)[0][2:]
        if 1 in (*inner, *sizes):
            return None
        rows, columns = (corners(length, size)._replace(shift=Fraction(self.crop[0]))
                         for length, size in zip(inner, sizes, strict=True))
        return rows, columns

    def _inner(self, shape: Shape) -> tuple[slice, slice]:
        begin, end = self.crop
        return slice(begin, shape[2] - end), slice(begin, shape[3] - end)

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        shape = bottoms[0].shape
        rows, columns = self._inner(shape)
        x, size = bottoms[0][:, :, rows, columns], self.shapes(shape)[0][2:]
        if x.dtype == np.float32:
            y, cache = resize_forward(x, size)  # type: ignore[arg-type]
            return [y], (cache, shape)
        xp = array_module(x)
        a, b = (_weights(xp, *n, x.dtype) for n in zip(x.shape[2:], size, strict=True))
        return [a @ x @ b.T], ((a, b), shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (inner, shape), dy = cache, dtops[0]
        if isinstance(inner, ResizeCache):
            dinner = resize_backward(dy, inner)
        else:
            dinner = inner[0].T @ dy @ inner[1]
        if not any(self.crop):
            return [dinner], []
        dx = array_module(dinner).zeros(shape, dinner.dtype)
        rows, columns = self._inner(shape)
        dx[:, :, rows, columns] = dinner
        return [dx], []


def _weights(xp: Any, length: int, size: int, dtype: np.dtype) -> Array:
    """The resize of one axis as a matrix, for double precision with the authors' weights.

    Theirs have single precision in that build as well.
    """
    ratio = np.float32(length - 1) / np.float32(max(size - 1, 1))
    position = ratio * np.arange(size, dtype=np.float32)
    below = position.astype(np.intp)
    upper = (position - below).astype(np.float64)
    matrix = np.zeros((size, length), dtype)
    rows = np.arange(size)
    np.add.at(matrix, (rows, below), 1 - upper)
    np.add.at(matrix, (rows, np.minimum(below + 1, length - 1)), upper)
    return xp.asarray(matrix)


def _cut(x: Any, lengths: Sequence[int], axis: int) -> list[Array]:
    ends = np.cumsum(lengths)
    places = [(slice(None),) * axis + (slice(end - n, end),)
              for n, end in zip(lengths, ends.tolist(), strict=True)]
    return [x[place] for place in places]
