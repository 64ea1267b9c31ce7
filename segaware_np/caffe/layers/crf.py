"""Normalised convolution and the segmentation-aware CRF, with the authors' arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Declaration, Grads, Layer, layer_type, make_window
from segaware_np.caffe.layers.windowed import Convolution, as_number
from segaware_np.ops.distance import DistanceCache, distance_backward, distance_forward
from segaware_np.ops.mask import MaskCache, normalized_mask_backward, normalized_mask_forward
from segaware_np.ops.mean_field import mean_field_backward, mean_field_forward
from segaware_np.ops.segaware_convolution import (
    SegawareConvolutionCache,
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.window import Window
from segaware_np.xp import Array


class NormConvCache(NamedTuple):
    distance: DistanceCache
    mask: MaskCache
    convolution: SegawareConvolutionCache


@layer_type("NormConv")
class NormConv(Convolution):
    """Bottoms: image, embedding. Parameters: weight, [bias], [scale]."""

    bottoms = (2, 2)

    def configure(self) -> None:
        super().configure()
        if self.from_columns:
            raise self.error("bottom_is_im2col is not supported here")
        param = self.spec.norm_conv_param
        self.learns_scale = param.scale_term
        self.options = (param.norm, param.remove_center, param.remove_bounds)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        image, embedding = (self.image(shape) for shape in bottoms)
        if (embedding[0], *embedding[2:]) != (image[0], *image[2:]):
            raise self.error(f"image {image} and embedding {embedding} differ in size")
        return super().shapes(image)

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        out = super().declare(*bottoms)
        if self.learns_scale:
            out.append(Declaration((1,), self.spec.norm_conv_param.scale_filler))
        return out

    def _split(self) -> tuple[Array, Array | None, Array | float]:
        """Weight, bias and scale; the authors' mask without a scale is the softmax of +d."""
        arrays = [p.data for p in self.params]
        scale = arrays.pop().reshape(()) if self.learns_scale else -1.0
        return arrays[0], arrays[1] if self.bias else None, scale

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, embedding = bottoms
        weight, bias, scale = self._split()
        d, distance = distance_forward(embedding, self.window, *self.options)
        if scale.real <= 0:  # then 'infinitely far' is a number that counts
            as_number(d)
        m, mask = normalized_mask_forward(d, scale)
        y, convolution = segaware_convolution_forward(
            x, m, weight, bias, window=self.window, groups=self.groups
        )
        return [y], NormConvCache(distance, mask, convolution)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        if self.window == Window(1):
            # The authors' code forgets the image's gradient in this one case; so do we here.
            need = (False, need[1])
        names = ["weight"] + ["bias"] * self.bias + ["scale"] * self.learns_scale
        wanted = self.wanted(*names)
        needs_mask = need[1] or "scale" in wanted
        inner = (wanted - {"scale"}) | ({"x"} if need[0] else set())
        dx, dmask, dweight, dbias = segaware_convolution_backward(
            dtops[0], cache.convolution, inner | ({"mask"} if needs_mask else set())
        )
        dembedding = dscale = None
        if needs_mask:
            ddistance, dscale = normalized_mask_backward(dmask, cache.mask)
            dscale = dscale.reshape(1)
            if need[1]:
                dembedding = distance_backward(ddistance, cache.distance)
        grads = {"weight": dweight, "bias": dbias, "scale": dscale}
        return [dx, dembedding], [grads[name] for name in names]


@layer_type("NormConvMeanfield")
class NormConvMeanfield(Layer):
    """Bottoms: unary, first Q, f1, f2. Parameters: Ws, Wb, Wc."""

    bottoms = (4, 4)
    filters = 2

    def configure(self) -> None:
        param = self.spec.norm_conv_meanfield_param
        if "num_iterations" not in param or param.num_iterations < 2:
            raise self.error(f"num_iterations: expected at least 2, got {param.num_iterations}")
        if set(param.norm) - {"L2"}:
            raise self.error("the mean-field filters have the norm L2")
        if set(param.stride) - {1}:
            raise self.error("the mean-field filters have stride 1")
        kernels = self._each("kernel_size", None)
        pads, dilations = self._each("pad", 0), self._each("dilation", 1)
        self.windows = [
            make_window(self, kernel=k, pad=p, dilation=d)
            for k, p, d in zip(kernels, pads, dilations, strict=True)
        ]
        scales = self._each("scale", 0.0)  # the authors' default: 0.1 stored as an integer
        if not all(0 <= scale < np.inf for scale in scales):
            raise self.error(f"scale: expected finite numbers of at least 0, got {scales}")
        self.options: dict[str, Any] = {"iterations": param.num_iterations}
        for i, (window, scale) in enumerate(zip(self.windows, scales, strict=True), start=1):
            self.options.update({f"window{i}": window, f"scale{i}": scale})
        for flag in ("remove_center", "remove_bounds"):
            # Without scale the authors' 'infinitely far' is as near as all the rest.
            each = zip(self._each(flag, True), scales, strict=True)
            self.options[flag] = (*(yes and scale > 0 for yes, scale in each), False)[:2]

    def _each(self, field: str, default: Any) -> list[Any]:
        values = getattr(self.spec.norm_conv_meanfield_param, field)
        if not values and default is not None:
            return [default] * self.filters
        if len(values) != self.filters:
            raise self.error(f"{field}: expected one for each of {self.filters} filters, "
                             f"got {len(values)}")
        return values

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        unary, first_q, *features = (self.image(shape) for shape in bottoms)
        if first_q != unary:
            raise self.error(f"unary {unary} and first Q {first_q} differ in shape")
        for shape, window in zip(features, self.windows, strict=True):
            if (shape[0], *shape[2:]) != (unary[0], *unary[2:]):
                raise self.error(f"features {shape} and unary {unary} differ in size")
            if not _keeps_size(window, shape):
                raise self.error(f"the filter of {window} does not keep the size of {shape}")
        return [unary]

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        shape = (1, 1, bottoms[0][1], bottoms[0][1])
        potts = Declaration(shape, lambda shape: -_identity(shape))
        return [Declaration(shape, _identity)] * self.filters + [potts]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        matrices = [p.data[0, 0] for p in self.params]
        q, cache = mean_field_forward(*self._arguments(bottoms, matrices), **self.options)
        return [q], cache

    def _arguments(self, bottoms: Sequence[Any], matrices: list[Any]) -> Sequence[Any]:
        return [*bottoms, *matrices]

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        dunary, dq, df1, df2, dws, dwb, dwc = mean_field_backward(dtops[0], cache)
        bottoms = [dunary, dq, df1, df2][: len(need)]
        return bottoms, [d[None, None] for d in (dws, dwb, dwc) if d is not None]


@layer_type("NospConvMeanfield")
class NospConvMeanfield(NormConvMeanfield):
    """The same without the position filter: bottoms unary, first Q, f1; parameters Wb, Wc."""

    bottoms = (3, 3)
    filters = 1

    def _arguments(self, bottoms: Sequence[Any], matrices: list[Any]) -> Sequence[Any]:
        return [*bottoms, None, None, *matrices]  # no f2, no Ws


def _identity(shape: Shape) -> np.ndarray:
    return np.eye(shape[-1]).reshape(shape)


def _keeps_size(window: Window, shape: Shape) -> bool:
    try:
        return window.output_shape(shape[2:]) == tuple(shape[2:])  # type: ignore[arg-type]
    except ValueError:
        return False
