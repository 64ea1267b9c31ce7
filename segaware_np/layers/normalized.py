"""Averages weighted by how alike neighbours are: filter and convolution, with a learned scale."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.layers.base import Need, Span, WindowedLayer
from segaware_np.layers.convolution import Convolution
from segaware_np.ops.mask import (
    local_mask_backward,
    local_mask_forward,
    normalized_mask_backward,
    normalized_mask_forward,
)
from segaware_np.ops.masked_sum import masked_sum_backward, masked_sum_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.parameter import Parameter
from segaware_np.ranges import FINITE, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, array_module


class _NormalizedMask:
    """The mask of a layer: ``softmax(-|s| d)``, d given or measured between embeddings."""

    def __init__(
        self, window: Window, norm: str | None, scale: float, scale_lr_mult: float,
        remove_bounds: bool,
    ) -> None:  # fmt: skip
        if norm not in (None, "L1", "L2"):
            raise ValueError(f"norm: expected 'L1', 'L2' or None, got {norm!r}")
        check("scale", scale, FINITE)
        self.measured, self.scale, self.lr_mult = norm is not None, scale, scale_lr_mult
        self.options: dict[str, Any] = {
            "window": window, "norm": norm, "remove_bounds": remove_bounds
        }  # fmt: skip

    def parameter(self, dtype: np.dtype | str, xp: ModuleType) -> Parameter:
        return Parameter(xp.asarray(self.scale, dtype), self.lr_mult, decay_mult=0.0)

    def forward(self, guide: Array, scale: Array) -> tuple[Array, Any]:
        sign = array_module(scale).sign(scale.real)
        found: tuple[Array, Any] = (
            local_mask_forward(guide, sign * scale, normalized=True, **self.options)
            if self.measured
            else normalized_mask_forward(guide, sign * scale)
        )
        return found[0], (sign, found[1])

    def backward(
        self, dmask: Array, cache: Any, scale: Parameter, need_guide: bool
    ) -> Array | None:
        sign, inner = cache
        if self.measured:
            need = {"embedding", "scale"} if need_guide else {"scale"}
            d_guide, dscale = local_mask_backward(dmask, inner, need)
        else:
            d_guide, dscale = normalized_mask_backward(dmask, inner)
        if scale.lr_mult:
            scale.accumulate(sign * dscale)
        return d_guide if need_guide else None


class _Guided(WindowedLayer):
    """A layer of ``(x, guide)`` with such a mask."""

    mask: _NormalizedMask

    def reads(self, span: Span, lengths: Sequence[int], axis: int) -> Sequence[Span | None]:
        """Return the pixels that these windows cover, of an embedding too."""
        seen, centre = super().reads(span, lengths, axis)
        return [seen, seen if self.mask.measured else centre]

    def _wanted_with_mask(self, need: Need | None) -> tuple[set[str], bool]:
        """Names for an op's `need`, where the mask's gradient leads to guide and scale."""
        need_x, need_guide = need or (True, True)
        wanted = self._wanted({"x": need_x, "mask": need_guide})
        return (wanted - {"scale"} | {"mask"} if "scale" in wanted else wanted), need_guide


class BilateralFilter(_Guided):
    """Average of ``(x, guide)`` over neighbours that are alike, with a learned mask scale.

    The mask is the softmax of ``-|s| d``. The guide is an embedding, between whose pixels d is
    measured, or the output of a `Distance` layer of the same window, which layers can share.

    Parameters
    ----------
    window : Window
    norm : {"L1", "L2"} or None
        Of the embedding distance; None if the guide is a distance.
    scale : float
        Where s starts.
    scale_lr_mult : float
        Learning-rate factor of s, which has no weight decay.
    remove_bounds : bool
        Give neighbours outside the image no weight, where the guide is an embedding.

    Raises
    ------
    TypeError, ValueError
        If `window` is no `Window`, `norm` is another one, or ``scale`` is no finite number.

    Notes
    -----
    `bilateral_filter_forward`; `normalized_mask_forward` and `masked_sum_forward` of a distance.

    Examples
    --------
    >>> layer = BilateralFilter(Window.same(3), scale=1.0)
    >>> layer.initialize(np.random.default_rng(0))
    >>> x = np.array([0.0, 2.0, 8.0], "float32").reshape(1, 1, 1, 3)
    >>> guide = np.array([0.0, 0.0, 99.0], "float32").reshape(1, 1, 1, 3)
    >>> layer.forward(x, guide).ravel().tolist()
    [1.0, 1.0, 8.0]
    """

    formula = "y = sum_k m_k shift_k(x), m = softmax(-|s| d)"

    def __init__(
        self,
        window: Window,
        norm: str | None = "L2",
        *,
        scale: float = 1.0,
        scale_lr_mult: float = 1.0,
        remove_bounds: bool = True,
    ) -> None:
        super().__init__()
        check_window(window)
        self.window = window
        self.mask = _NormalizedMask(window, norm, scale, scale_lr_mult, remove_bounds)

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        self.params["scale"] = self.mask.parameter(dtype, xp)

    def forward(self, x: Array, guide: Array) -> Array:  # type: ignore[override]
        mask, mask_cache = self.mask.forward(guide, self.params["scale"].data)
        y, cache = masked_sum_forward(x, mask, self.window)
        self.cache = mask_cache, cache
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        mask_cache, cache = self.cache
        wanted, need_guide = self._wanted_with_mask(need)
        dx, dmask = masked_sum_backward(dy, cache, wanted)
        if dmask is None:
            return dx, None
        return dx, self.mask.backward(dmask, mask_cache, self.params["scale"], need_guide)


class NormalizedConvolution(_Guided, Convolution):
    """Convolution of ``(x, guide)`` whose windows are weighted by a softmax, with a learned scale.

    Mask and guide are those of `BilateralFilter`, the other parameters those of `Convolution`:

    Parameters
    ----------
    norm : {"L1", "L2"} or None
        Of the embedding distance; None if the guide is a distance.
    scale : float
        Where s starts.
    scale_lr_mult : float
        Learning-rate factor of s, which has no weight decay.
    remove_bounds : bool
        Give neighbours outside the image no weight, where the guide is an embedding.
    **options
        The other arguments of `Convolution`.

    Raises
    ------
    TypeError, ValueError
        As for `Convolution` and `BilateralFilter`.

    Notes
    -----
    `normalized_convolution_forward`: Harley, Derpanis, Kokkinos (ICCV 2017), eq. 3.

    Examples
    --------
    >>> layer = NormalizedConvolution(3, 8, Window.same(3))
    >>> layer.initialize(np.random.default_rng(0))
    >>> x, embedding = np.ones((1, 3, 5, 6), "float32"), np.zeros((1, 4, 5, 6), "float32")
    >>> layer.forward(x, embedding).shape, sorted(layer.params)
    ((1, 8, 5, 6), ['bias', 'scale', 'weight'])
    """

    formula = "y = b + sum_k W_k (m_k shift_k(x)), m = softmax(-|s| d)"

    def __init__(
        self,
        channels: int,
        filters: int,
        window: Window,
        norm: str | None = "L2",
        *,
        scale: float = 1.0,
        scale_lr_mult: float = 1.0,
        remove_bounds: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(channels, filters, window, **options)
        self.mask = _NormalizedMask(window, norm, scale, scale_lr_mult, remove_bounds)

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        super().initialize(rng, dtype, xp)
        self.params["scale"] = self.mask.parameter(dtype, xp)

    def forward(self, x: Array, guide: Array) -> Array:  # type: ignore[override]
        mask, mask_cache = self.mask.forward(guide, self.params["scale"].data)
        y, cache = segaware_convolution_forward(x, mask, *self._filter(), **self._options())
        self.cache = mask_cache, cache
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        mask_cache, cache = self.cache
        wanted, need_guide = self._wanted_with_mask(need)
        dx, dmask, dweight, dbias = segaware_convolution_backward(dy, cache, wanted)
        self._accumulate(dweight, dbias)
        if dmask is None:
            return dx, None
        return dx, self.mask.backward(dmask, mask_cache, self.params["scale"], need_guide)
