"""Layers: thin objects that hold parameters and call ops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod, sqrt
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from segaware_np.ops.convolution import convolution_backward, convolution_forward
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dropout import dropout_backward, dropout_forward
from segaware_np.ops.embedding_loss import embedding_loss_backward, embedding_loss_forward
from segaware_np.ops.join import add_backward, add_forward, concat_backward, concat_forward
from segaware_np.ops.mask import exponential_mask_backward, exponential_mask_forward
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.ops.resize import resize_backward, resize_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import (
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from segaware_np.window import Window
from segaware_np.xp import Array, array_module

Need = tuple[bool, ...]


class Parameter:
    """A learned array and its gradient.

    Parameters
    ----------
    data : array
    lr_mult, decay_mult : float
        Factors on the solver's learning rate and weight decay. With ``lr_mult == 0`` the
        parameter is frozen: no gradient is computed for it.

    Attributes
    ----------
    grad : array
        dL/d(data), of the same shape, accumulated until it is cleared.
    """

    def __init__(self, data: Array, lr_mult: float = 1.0, decay_mult: float = 1.0) -> None:
        self.data = data
        self.grad = array_module(data).zeros_like(data)
        self.lr_mult = lr_mult
        self.decay_mult = decay_mult

    def accumulate(self, gradient: Array | None) -> None:
        """Add to the gradient; None stands for nothing."""
        if gradient is not None:
            self.grad += gradient


class Layer(ABC):
    """What a network asks of a layer.

    Attributes
    ----------
    formula : str
        What the layer computes, in one line.
    params : dict of str to Parameter
        Empty before `initialize`.
    training : bool
        Whether the layer runs as in training (dropout drops) or as in use.
    cache : object
        What the last `forward` left for `backward`; None when there is nothing.
    """

    formula: ClassVar[str] = ""

    def __init__(self) -> None:
        self.params: dict[str, Parameter] = {}
        self.training = False
        self.cache: Any = None

    def initialize(  # noqa: B027  (most layers have nothing to draw)
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        """Draw the parameters. Layers without any do nothing."""

    @abstractmethod
    def forward(self, *inputs: Array) -> Array:
        """Return the output and keep in `cache` what `backward` needs."""

    @abstractmethod
    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        """Accumulate parameter gradients; return the inputs' gradients where `need` says so."""

    def _wanted(self, inputs: dict[str, bool]) -> set[str]:
        """Names for an op's `need`: inputs that are asked for, parameters that are not frozen."""
        names = {name for name, wanted in inputs.items() if wanted}
        return names | {name for name, p in self.params.items() if p.lr_mult}


class Convolution(Layer):
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
        self.scale, self.scale_lr_mult = scale, scale_lr_mult

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        super().initialize(rng, dtype, xp)
        scale = xp.asarray(self.scale, dtype)
        self.params["scale"] = Parameter(scale, self.scale_lr_mult, decay_mult=0.0)

    def forward(self, x: Array, distance: Array) -> Array:  # type: ignore[override]
        scale = self.params["scale"].data
        self._sign = array_module(scale).sign(scale.real)
        mask, mask_cache = exponential_mask_forward(distance, self._sign * scale)
        y, cache = segaware_convolution_forward(x, mask, *self._filter(), **self._options())
        self.cache = mask_cache, cache
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        need_x, need_distance = need or (True, True)
        wanted = self._wanted({"x": need_x, "mask": need_distance})
        if "scale" in wanted:
            wanted = (wanted - {"scale"}) | {"mask"}
        mask_cache, cache = self.cache
        dx, dmask, dweight, dbias = segaware_convolution_backward(dy, cache, wanted)
        self._accumulate(dweight, dbias)
        if dmask is None:
            return dx, None
        d_distance, dscale = exponential_mask_backward(dmask, mask_cache)
        self.params["scale"].accumulate(self._sign * dscale)
        return dx, d_distance if need_distance else None


class Distance(Layer):
    """Embedding distance; arguments as for `distance_forward`."""

    formula = "d_k = |e - shift_k(e)|"

    def __init__(
        self,
        window: Window,
        norm: str = "L1",
        remove_center: bool = False,
        remove_bounds: bool = False,
    ) -> None:
        super().__init__()
        self.options = (window, norm, remove_center, remove_bounds)

    def forward(self, embedding: Array) -> Array:  # type: ignore[override]
        d, self.cache = distance_forward(embedding, *self.options)
        return d

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (distance_backward(dy, self.cache),)


class ReLU(Layer):
    """Rectifier."""

    formula = "y = max(x, 0)"

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = relu_forward(x)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (relu_backward(dy, self.cache),)


class MaxPool(Layer):
    """Maximum over windows."""

    formula = "y = max_k shift_k(x)"

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = max_pool_forward(x, self.window)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (max_pool_backward(dy, self.cache),)


class AveragePool(MaxPool):
    """Mean over windows."""

    formula = "y = sum_k shift_k(x) / area"

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        y, self.cache = average_pool_forward(x, self.window)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (average_pool_backward(dy, self.cache),)


class ResizeLike(Layer):
    """Resize ``(x, other)`` bilinearly to the other's height and width."""

    formula = "y = A_h x A_w^T"

    def forward(self, x: Array, other: Array) -> Array:  # type: ignore[override]
        y, self.cache = resize_forward(x, other.shape[-2:])
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return resize_backward(dy, self.cache), None


class Multiply(Layer):
    """Multiply by a constant."""

    formula = "y = a x"

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        return x * self.factor

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (dy * self.factor,)


class Concat(Layer):
    """Concatenation of any number of inputs along channels."""

    formula = "y = [x_1, x_2, ...]"

    def forward(self, *xs: Array) -> Array:
        y, self.cache = concat_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return concat_backward(dy, self.cache)


class Add(Layer):
    """Sum of any number of inputs."""

    formula = "y = x_1 + x_2 + ..."

    def forward(self, *xs: Array) -> Array:
        y, self.cache = add_forward(*xs)
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return add_backward(dy, self.cache)


class Dropout(Layer):
    """Inverted dropout in training, nothing in use."""

    formula = "y = x keep / (1 - r)"

    def __init__(self, ratio: float = 0.5) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio: expected a number in [0, 1), got {ratio}")
        self.ratio = ratio
        self.rng = np.random.default_rng(0)

    def initialize(
        self, rng: np.random.Generator, dtype: np.dtype | str = "float32", xp: ModuleType = np
    ) -> None:
        self.rng = rng  # the network's own: its state is saved with the weights

    def forward(self, x: Array) -> Array:  # type: ignore[override]
        self.cache = None
        if not self.training:
            return x
        y, self.cache = dropout_forward(x, self.ratio, int(self.rng.integers(2**63)))
        return y

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return (dy if self.cache is None else dropout_backward(dy, self.cache),)


class SoftmaxCrossEntropy(Layer):
    """Loss of ``(score, label)``; arguments as for `softmax_cross_entropy_forward`."""

    formula = "L = -mean log softmax(x)[label]"

    def __init__(self, ignore_label: int | None = 255, normalize: str = "valid") -> None:
        super().__init__()
        self.options = (ignore_label, normalize)

    def forward(self, score: Array, label: Array) -> Array:  # type: ignore[override]
        loss, self.cache = softmax_cross_entropy_forward(score, label, *self.options)
        return loss

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        return softmax_cross_entropy_backward(dy, self.cache), None


class EmbeddingLoss(Layer):
    """Contrastive loss of ``(embedding, label)`` over one window.

    Parameters
    ----------
    window : Window
    ignore_label : int, optional
    norm, alpha, beta, hinge, normalize
        As for `distance_forward` and `embedding_loss_forward`.
    """

    formula = "L = mean hinge(d_k, same label?)"

    def __init__(
        self,
        window: Window,
        ignore_label: int | None = 255,
        *,
        norm: str = "L1",
        alpha: float = 0.5,
        beta: float = 2.0,
        hinge: str = "linear",
        normalize: str = "all",
    ) -> None:
        super().__init__()
        self.window, self.ignore_label, self.norm = window, ignore_label, norm
        self.options = (alpha, beta, hinge, ignore_label, normalize)

    def forward(self, embedding: Array, label: Array) -> Array:  # type: ignore[override]
        d, distance_cache = distance_forward(embedding, self.window, self.norm)
        parity = label_parity_forward(label, self.window, self.ignore_label)
        loss, loss_cache = embedding_loss_forward(d, parity, *self.options)
        self.cache = distance_cache, loss_cache
        return loss

    def backward(self, dy: Array, need: Need | None = None) -> tuple[Array | None, ...]:
        distance_cache, loss_cache = self.cache
        return distance_backward(embedding_loss_backward(dy, loss_cache), distance_cache), None


def _draw(rng: np.random.Generator, shape: tuple[int, ...], init: str | float) -> np.ndarray:
    fan_in = prod(shape[1:])
    if init == "xavier":
        return rng.uniform(-1, 1, shape) * sqrt(3 / fan_in)
    return rng.standard_normal(shape) * (sqrt(2 / fan_in) if init == "msra" else init)
