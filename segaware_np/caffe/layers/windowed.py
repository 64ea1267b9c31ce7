"""Layer types that look through windows: columns, distances, convolutions, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Lines, spread, through
from segaware_np.caffe.layers.base import (
    Declaration,
    Grads,
    Layer,
    fitted,
    layer_type,
    make_window,
    sides_of,
    window_of,
)
from segaware_np.ops.columns import im2col_backward, im2col_forward
from segaware_np.ops.convolution import (
    column_convolution_backward,
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
    pooled_shape,
)
from segaware_np.ops.transposed_convolution import (
    enlarged_shape,
    transposed_convolution_backward,
    transposed_convolution_forward,
)
from segaware_np.window import Window, shifts
from segaware_np.xp import Array, array_module

FAR = float(np.finfo(np.float32).max / np.float32(100))  # the authors' infinite distance


class _Windowed(Layer):
    """A layer with the window of its ``convolution_param``."""

    def configure(self) -> None:
        self.window = window_of(self)

    def lines(self, *bottoms: Shape) -> Lines | None:
        return through(self.window)


@layer_type("Im2col")
class Im2col(_Windowed):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, _, _ = self.image(bottoms[0])
        return [(n, c * self.window.size, *fitted(self, self.window, bottoms[0]))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        cols, cache = im2col_forward(bottoms[0], self.window)
        n, c, k, h, w = cols.shape
        return [cols.reshape(n, c * k, h, w)], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        n, ck, h, w = dtops[0].shape  # type: ignore[union-attr]
        k = self.window.size
        return [im2col_backward(dtops[0].reshape(n, ck // k, k, h, w), cache)], []  # type: ignore[union-attr]


@layer_type("Im2dist")
class Im2dist(_Windowed):
    def configure(self) -> None:
        super().configure()
        param = self.spec.im2dist_param
        self.options = (param.norm, param.remove_center, param.remove_bounds)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, *_ = self.image(bottoms[0])
        return [(n, self.window.size, *fitted(self, self.window, bottoms[0]))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        d, cache = distance_forward(bottoms[0], self.window, *self.options)
        return [as_number(d)], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [distance_backward(dtops[0], cache)], []


@layer_type("Im2parity")
class Im2parity(_Windowed):
    stops = True

    def configure(self) -> None:
        super().configure()
        param = self.spec.im2parity_param
        self.ignore = param.ignore_label if "ignore_label" in param else None

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, channels, *_ = self.image(bottoms[0])
        if not channels:
            raise self.error(f"there are no labels in {bottoms[0]}")
        return [(n, self.window.size, *fitted(self, self.window, bottoms[0]))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        labels = bottoms[0][:, -1].astype(np.int32)  # of several label channels the last counts
        parity = label_parity_forward(labels, self.window, self.ignore)
        return [parity.astype(bottoms[0].dtype)], None


@layer_type("Convolution")
class Convolution(_Windowed):
    def configure(self) -> None:
        super().configure()
        param = self.spec.convolution_param
        self.outputs, self.groups, self.bias = param.num_output, param.group, param.bias_term
        self.from_columns = param.bottom_is_im2col
        if self.outputs < 1 or self.groups < 1 or self.outputs % self.groups:
            raise self.error(f"num_output {self.outputs} and group {self.groups} do not fit")
        if param.normalized_convolution:
            raise self.error("normalized_convolution is not supported: use the type NormConv")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, channels, *size = self.image(bottoms[0])
        if self.from_columns and channels % self.window.size:
            raise self.error(f"{channels} channels are not columns of {self.window.size} taps")
        channels = self._channels(channels)
        if channels % self.groups:
            raise self.error(f"{channels} channels do not make {self.groups} groups")
        if not self.from_columns:
            size = list(fitted(self, self.window, bottoms[0]))
        return [(n, self.outputs, *size)]

    def lines(self, *bottoms: Shape) -> Lines | None:
        return Layer.lines(self, *bottoms) if self.from_columns else super().lines(*bottoms)

    def _channels(self, channels: int) -> int:
        return channels // self.window.size if self.from_columns else channels

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        param = self.spec.convolution_param
        channels = self._channels(bottoms[0][1]) // self.groups
        out = [Declaration((self.outputs, channels, *self.window.kernel), param.weight_filler)]
        if self.bias:
            out.append(Declaration((self.outputs,), param.bias_filler))
        return out

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, params = bottoms[0], [p.data for p in self.params]
        cache: Any
        if self.from_columns:
            n, ck, h, w = x.shape
            k = self.window.size
            cols = x.reshape(n, ck // k, k, h, w)
            y, cache = column_convolution_forward(cols, *params, groups=self.groups)
        else:
            y, cache = convolution_forward(x, *params, window=self.window, groups=self.groups)
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        if self.from_columns:
            dcols, *dparams = column_convolution_backward(dtops[0], cache)
            n, c, k, h, w = dcols.shape
            return [dcols.reshape(n, c * k, h, w)], dparams[: len(self.params)]
        names = self.wanted("weight", "bias") | ({"x"} if need[0] else set())
        dx, *dparams = convolution_backward(dtops[0], cache, names)
        return [dx], dparams[: len(self.params)]


@layer_type("ConvolutionDepthwise")
@layer_type("DepthwiseConvolution")
class DepthwiseConvolution(Convolution):
    """A convolution of every channel by itself; ``group`` need not say so."""

    def configure(self) -> None:
        super().configure()
        if "group" not in self.spec.convolution_param:
            self.groups = self.outputs


@layer_type("Deconvolution")
class Deconvolution(Convolution):
    """Transposed convolution; the weight has the shape of the convolution that it turns round."""

    def configure(self) -> None:
        super().configure()
        if self.from_columns:
            raise self.error("bottom_is_im2col is not supported here")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, channels, height, width = self.image(bottoms[0])
        if channels % self.groups:
            raise self.error(f"{channels} channels do not make {self.groups} groups")
        try:
            return [(n, self.outputs, *enlarged_shape((height, width), self.window))]
        except ValueError as error:
            raise self.error(str(error)) from None

    def lines(self, *bottoms: Shape) -> Lines | None:
        return spread(self.window)

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        weight, *bias = super().declare(*bottoms)
        shape = (bottoms[0][1], self.outputs // self.groups, *self.window.kernel)
        return [Declaration(shape, weight.initial), *bias]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        params = [p.data for p in self.params]
        y, cache = transposed_convolution_forward(
            bottoms[0], *params, window=self.window, groups=self.groups
        )
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        names = self.wanted("weight", "bias") | ({"x"} if need[0] else set())
        dx, *dparams = transposed_convolution_backward(dtops[0], cache, names)
        return [dx], dparams[: len(self.params)]


@layer_type("Pooling")
class Pooling(Layer):
    """With a second top, of MAX, the places of the maxima: in the channel's plane, by rows.

    A last window that is cut off counts, unless ``round_mode: FLOOR`` or, in forks, ``ceil_mode:
    false`` says otherwise.
    """

    tops = (1, 2)

    def configure(self) -> None:
        param = self.spec.pooling_param
        if len(self.spec.top) > 1 and param.pool != "MAX":
            raise self.error("a second top, of places, goes with MAX")
        if param.pool == "STOCHASTIC":
            raise self.error("STOCHASTIC pooling is not supported: use MAX or AVE")
        self.fixed = None if param.global_pooling else self._window()
        self.floor = param.round_mode == "FLOOR" or not param.ceil_mode

    def _window(self) -> Window:
        sides = {name: sides_of(self, self.spec.pooling_param, name, both, default)
                 for name, both, default in (("kernel", "kernel_size", 0), ("stride", "stride", 1),
                                             ("pad", "pad", 0))}
        return make_window(self, **sides)

    def _on(self, shape: Shape) -> Window:
        return self.fixed or Window(shape[2:])  # type: ignore[arg-type]

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, *size = self.image(bottoms[0])
        try:
            window = self._on(bottoms[0])
            count = pooled_shape(tuple(size), window)  # type: ignore[arg-type]
            if self.floor:
                count = window.output_shape(tuple(size))  # type: ignore[arg-type]
            shape = (n, c, *count)
            return [shape] * len(self.spec.top)
        except ValueError as error:
            raise self.error(str(error)) from None

    def lines(self, *bottoms: Shape) -> Lines | None:
        return through(self._on(bottoms[0]))

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        pool = max_pool_forward if self.spec.pooling_param.pool == "MAX" else average_pool_forward
        y, cache = pool(bottoms[0], self._on(bottoms[0].shape))  # type: ignore[operator]
        tops = [y, *([_places(*cache)] if len(self.spec.top) > 1 else [])]
        rows, columns = self.shapes(bottoms[0].shape)[0][2:]
        return [top[:, :, :rows, :columns] for top in tops], (cache, y.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (inner, shape), dy = cache, dtops[0]
        if dy.shape != shape:  # type: ignore[union-attr]  # windows that rounding down left out
            whole = array_module(dy).zeros(shape, dy.dtype)  # type: ignore[union-attr]
            whole[:, :, : dy.shape[2], : dy.shape[3]] = dy  # type: ignore[union-attr]
            dy = whole
        largest = self.spec.pooling_param.pool == "MAX"
        return [(max_pool_backward if largest else average_pool_backward)(dy, inner)], []


def _places(x: Array, y: Array, window: Window) -> Array:
    """Where the first maximum of each window lies in its plane, counted by rows."""
    xp, (height, width) = array_module(x), x.shape[2:]
    index = xp.arange(height * width, dtype=x.real.dtype).reshape(1, 1, height, width)
    places = xp.full(y.shape, -1, index.dtype)
    for _, inside, seen in shifts((height, width), window, y.shape[2:]):
        found = (places[inside] < 0) & (x[seen] == y[inside])
        places[inside] = xp.where(found, index[seen], places[inside])
    return places.astype(x.dtype)


def as_number(distance: Array) -> Array:
    """Infinite distances as the number that the authors' code has for them (in place)."""
    distance[np.isinf(distance)] = FAR
    return distance
