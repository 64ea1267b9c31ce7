"""Convolution, plain and segmentation-aware."""

from __future__ import annotations

from math import prod, sqrt
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.layers.base import Need, WindowedLayer
from segaware_np.ops.convolution import convolution_backward, convolution_forward
from segaware_np.ops.mask import exponential_mask_backward, exponential_mask_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.parameter import Parameter
from segaware_np.ranges import COUNT, FINITE, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, array_module


class Convolution(WindowedLayer):
    """Convolution with learned weights.

    Parameters
    ----------
    channels, filters : int
        Input and output channels.
    window : Window
    groups : int
    bias : bool
    init : {"xavier", "msra"} or float
        Initial weights: uniform of variance 1 / fan-in, Gaussian of variance 2 / fan-in, or
        Gaussian of the given standard deviation. Biases start at 0, with twice the learning rate
        and no decay.
    lr_mult : float
        Learning-rate factor of the weights; the bias has twice that.

    Raises
    ------
    ValueError
        If `init` is unknown, or `groups` does not divide both numbers of channels.

    Notes
    -----
    `convolution_forward`. Xavier: Glorot, Bengio (AISTATS 2010); MSRA: He et al. (ICCV 2015).

    Examples
    --------
    >>> layer = Convolution(3, 8, Window.same(3))
    >>> layer.initialize(np.random.default_rng(0))
    >>> {name: parameter.data.shape for name, parameter in layer.params.items()}
    {'weight': (8, 3, 3, 3), 'bias': (8,)}
    >>> y = layer.forward(np.zeros((1, 3, 5, 6), "float32"))
    >>> y.shape, layer.backward(y)[0].shape
    ((1, 8, 5, 6), (1, 3, 5, 6))
    """

    formula = "y = b + sum_k W_k shift_k(x)"

    def __init__(
        self,
        channels: int,
        filters: int,
        window: Window,
        *,
        groups: int = 1,
        bias: bool = True,
        init: str | float = "xavier",
        lr_mult: float = 1.0,
    ) -> None:
        super().__init__()
        check("channels", channels, COUNT)
        check("filters", filters, COUNT)
        check_window(window)
        if isinstance(init, str) and init not in ("xavier", "msra"):
            raise ValueError(f"init: expected 'xavier', 'msra' or a number, got {init!r}")
        if groups < 1 or channels % groups or filters % groups:
            raise ValueError(
                f"groups: expected a divisor of {channels} and {filters} channels, got {groups}"
            )
        self.shape = (filters, channels // groups, *window.kernel)
        self.window, self.groups, self.has_bias = window, groups, bias
        self.init, self.lr_mult = init, lr_mult

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        weight = _draw(rng, self.shape, self.init)
        self.params["weight"] = Parameter(xp.asarray(weight, dtype), self.lr_mult)
        if self.has_bias:
            bias = xp.zeros(self.shape[0], dtype)
            self.params["bias"] = Parameter(bias, 2 * self.lr_mult, decay_mult=0.0)

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = convolution_forward(x, *self._filter(), **self._options())
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        (need_x,) = need or (True,)
        wanted = self._wanted({"x": need_x})
        dx, dweight, dbias = convolution_backward(dy, self.cache, wanted)
        self._accumulate(dweight, dbias)
        return (dx,)

    def _filter(self) -> tuple[Array, Array | None]:
        return self.params["weight"].data, self.params["bias"].data if self.has_bias else None

    def _options(self) -> dict[str, Any]:
        return {"window": self.window, "groups": self.groups}

    def _accumulate(self, dweight: Array | None, dbias: Array | None) -> None:
        self.params["weight"].accumulate(dweight)
        if self.has_bias:
            self.params["bias"].accumulate(dbias)


class SegawareConvolution(Convolution):
    """Segmentation-aware convolution of ``(x, distance)`` with a learned mask scale.

    The mask is ``exp(-|s| d)``; the distances come from a `Distance` layer of the same window,
    which all layers of one resolution share. Parameters are those of `Convolution`, and:

    Parameters
    ----------
    scale : float
        Where s starts.
    scale_lr_mult : float
        Learning-rate factor of s; it has no weight decay, which would blunt the masks.
    **options
        The other arguments of `Convolution`.

    Raises
    ------
    TypeError, ValueError
        As for `Convolution`, or if ``scale`` is no finite number.

    Notes
    -----
    `exponential_mask_forward` and `segaware_convolution_forward`: Harley, Derpanis, Kokkinos (ICCV
    2017), where s starts at 0.05 and is learned through ``|s|``.

    Examples
    --------
    >>> from segaware_np.layers import Distance
    >>> window = Window.same(3)
    >>> layer, distance = SegawareConvolution(3, 8, window), Distance(window)
    >>> layer.initialize(np.random.default_rng(0))
    >>> x, e = np.ones((1, 3, 5, 6), "float32"), np.zeros((1, 4, 5, 6), "float32")
    >>> layer.forward(x, distance.forward(e)).shape
    (1, 8, 5, 6)
    """

    formula = "y = b + sum_k W_k (exp(-|s| d_k) shift_k(x))"

    def __init__(
        self,
        channels: int,
        filters: int,
        window: Window,
        *,
        scale: float = 0.05,
        scale_lr_mult: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(channels, filters, window, **options)
        check("scale", scale, FINITE)
        self.scale, self.scale_lr_mult = scale, scale_lr_mult

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        super().initialize(rng, dtype, xp)
        scale = xp.asarray(self.scale, dtype)
        self.params["scale"] = Parameter(scale, self.scale_lr_mult, decay_mult=0.0)

    def forward(self, x: Array, distance: Array) -> Array:  # type: ignore[override]
        scale = self.params["scale"].data
        sign = array_module(scale).sign(scale.real)
        mask, mask_cache = exponential_mask_forward(distance, sign * scale)
        y, cache = segaware_convolution_forward(x, mask, *self._filter(), **self._options())
        self.cache = sign, mask_cache, cache
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        need_x, need_distance = need or (True, True)
        wanted = self._wanted({"x": need_x, "mask": need_distance})
        if "scale" in wanted:
            wanted = (wanted - {"scale"}) | {"mask"}
        sign, mask_cache, cache = self.cache
        dx, dmask, dweight, dbias = segaware_convolution_backward(dy, cache, wanted)
        self._accumulate(dweight, dbias)
        if dmask is None:
            return dx, None
        d_distance, dscale = exponential_mask_backward(dmask, mask_cache)
        if self.params["scale"].lr_mult:
            self.params["scale"].accumulate(sign * dscale)
        return dx, d_distance if need_distance else None


def _draw(rng: np.random.Generator, shape: tuple[int, ...], init: str | float) -> np.ndarray:
    fan_in = prod(shape[1:])
    if init == "xavier":
        return rng.uniform(-1, 1, shape) * sqrt(3 / fan_in)
    deviation = sqrt(2 / fan_in) if init == "msra" else float(init)
    return rng.standard_normal(shape) * deviation
