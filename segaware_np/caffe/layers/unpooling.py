"""Layer types that undo pooling: back to where the maxima were, or over the whole window."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Lines, spread
from segaware_np.caffe.layers.base import Grads, Layer, layer_type, make_window, sides_of
from segaware_np.window import Window, shifts
from segaware_np.xp import Array, array_module


class Unmasking(Layer):
    """Puts entries where a mask says: places in the plane of each channel, counted by rows.

    Where windows overlapped, several may say the same: the last one stays, as in Caffe, and each
    gets the gradient of the place.
    """

    bottoms = (2, 2)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the top for that of the bottom."""
        raise TypeError(f"{self.type} has no size")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, c, h, w = self.image(bottoms[0])
        if len(bottoms) > 1 and bottoms[1] != bottoms[0]:
            raise self.error(f"mask {bottoms[1]} and bottom {bottoms[0]} differ in shape")
        return [(n, c, *self.size(h, w))]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], array_module(*bottoms)
        n, c, height, width = shape = self.shapes(x.shape)[0]
        places = bottoms[1].real.astype(np.int64).reshape(n * c, prod(x.shape[2:]))
        area = height * width
        if places.size and not bool(((places >= 0) & (places < area)).all()):
            raise ValueError(f"layer {self.name!r}: a place of the mask lies outside a plane of "
                             f"{height}x{width}")
        places += xp.arange(n * c)[:, None] * area
        y = xp.zeros(n * c * area, x.dtype)
        y[places.ravel()] = x.ravel()
        return [y.reshape(shape)], (places, x.shape)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        (places, shape), dy = cache, dtops[0]
        return [dy.ravel()[places].reshape(shape), None], []  # type: ignore[union-attr]


@layer_type("Upsample")
class Upsample(Unmasking):
    """SegNet's, with a mask; with one bottom that of Darknet's users, every pixel repeated."""

    bottoms = (1, 2)

    def configure(self) -> None:
        param = self.spec.upsample_param
        self.given = (param.upsample_h, param.upsample_w) if "upsample_h" in param else None
        if ("upsample_h" in param) != ("upsample_w" in param):
            raise self.error("upsample_h and upsample_w: expected both or none")
        self.scale = (param.scale_h or param.scale, param.scale_w or param.scale)
        self.short = (int(param.pad_out_h), int(param.pad_out_w))
        if min(self.scale) < 1 or min(self.given or (1, 1)) < 1:
            raise self.error("scale and size: expected at least 1")
        if len(self.spec.bottom) == 1:
            self.note("one bottom, so pixels are repeated, as Darknet's users mean it")
            if self.given:
                raise self.error("upsample_h and upsample_w go with a mask")

    def size(self, height: int, width: int) -> tuple[int, int]:
        if self.given:
            return self.given
        return height * self.scale[0] - self.short[0], width * self.scale[1] - self.short[1]

    def lines(self, *bottoms: Shape) -> Lines | None:
        return spread(Window(self.scale, self.scale))

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        if len(bottoms) == 2:
            return super().forward(*bottoms)
        x, (rows, columns) = bottoms[0], self.scale
        height, width = self.size(*x.shape[2:])
        return [x.repeat(rows, 2).repeat(columns, 3)[:, :, :height, :width]], x.shape

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        if len(need) == 2:
            return super().backward(dtops, cache, need)
        (n, c, h, w), (rows, columns), dy = cache, self.scale, dtops[0]
        whole = array_module(dy).zeros((n, c, h * rows, w * columns), dy.dtype)  # type: ignore[union-attr]
        whole[:, :, : dy.shape[2], : dy.shape[3]] = dy  # type: ignore[union-attr]
        return [whole.reshape(n, c, h, rows, w, columns).sum((3, 5))], []


@layer_type("Unpooling")
class Unpooling(Unmasking):
    """DeconvNet's: MAX to the places of a mask, or to the windows' first pixels without one.

    TILE repeats an entry over its window, AVE divides it by the window's pixels; where windows
    overlap they add up.
    """

    bottoms = (1, 2)

    def configure(self) -> None:
        param = self.spec.unpooling_param
        self.window = make_window(self, kernel=sides_of(self, param, "kernel", "kernel_size", 0),
                                  stride=sides_of(self, param, "stride", "stride", 1))
        if any((param.pad, param.pad_h, param.pad_w)):
            raise self.error("pad: expected 0")
        side = param.unpool_size
        self.given = (side, side) if side else (param.unpool_h, param.unpool_w)
        if min(self.given) < 1:
            raise self.error("expected unpool_size, or unpool_h and unpool_w")
        self.masked = param.unpool == "MAX" and len(self.spec.bottom) == 2

    def size(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = ((n - 1) * s for n, s in zip((height, width), self.window.stride,
                                                     strict=True))
        if not self.masked and (rows >= self.given[0] or columns >= self.given[1]):
            raise self.error(f"windows of {height}x{width} entries begin beyond {self.given}")
        return self.given

    def lines(self, *bottoms: Shape) -> Lines | None:
        first = self.spec.unpooling_param.unpool == "MAX" and not self.masked
        return spread(Window(1, self.window.stride) if first else self.window)

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        if self.masked:
            return super().forward(*bottoms)
        x = bottoms[0]
        y = array_module(x).zeros(self.shapes(x.shape)[0], x.dtype)
        share = self._share(x)
        for _, inside, seen in self._shifts(x.shape):
            y[seen] += x[inside] * share[inside]
        return [y], (x.shape, share)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        if self.masked:
            return super().backward(dtops, cache, need)
        (shape, share), dy = cache, dtops[0]
        dx = array_module(dy).zeros(shape, dy.dtype)  # type: ignore[union-attr]
        for _, inside, seen in self._shifts(shape):
            dx[inside] += dy[seen]  # type: ignore[index]
        return [dx * share, None][: len(need)], []

    def _shifts(self, shape: Shape) -> Any:
        """The pixels that entries go to; of MAX those under the windows' first."""
        kernel = 1 if self.spec.unpooling_param.unpool == "MAX" else self.window.kernel
        window = Window(kernel, self.window.stride)
        return shifts(self.given, window, (shape[2], shape[3]))

    def _share(self, x: Array) -> Array:
        """What of an entry each pixel of its window gets, (1, 1, H, W)."""
        pixels = array_module(x).ones((1, 1, *x.shape[2:]), x.dtype)
        if self.spec.unpooling_param.unpool == "AVE":
            pixels[...] = 0
            for _, inside, _ in self._shifts(x.shape):
                pixels[inside] += 1
        return 1 / pixels
