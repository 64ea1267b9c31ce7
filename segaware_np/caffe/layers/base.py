"""What the front end asks of a Caffe layer type, and the register of the types there are.

Where a formula stands: those of the published networks are in `ops`, for everyone, and a layer type
here calls them with Caffe's conventions; those that only Caffe needs (ELU, LRN, HingeLoss ...) are
in the layer type itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from segaware_np.caffe.blobs import ParameterBlob, Shape
from segaware_np.caffe.coordinates import Line, Lines
from segaware_np.caffe.formats.schema import Message
from segaware_np.files import FormatError
from segaware_np.window import Window
from segaware_np.xp import Array

Grads = Sequence[Array | None]

TYPES: dict[str, type[Layer]] = {}
_LOG = logging.getLogger("segaware_np.caffe")
_NOISE = (1 << 20) - 3  # numbers that are drawn before they repeat
MAX_TAPS = 1 << 16  # pixels of a window
MAX_COUNT = 1 << 31  # numbers of a blob, as in Caffe


@dataclass
class Context:
    """What the layers of one network share."""

    phase: str
    dtype: np.dtype
    xp: ModuleType
    seed: int
    passes: int = 0  # forward passes done: with the seed, the whole random state
    output: str | os.PathLike[str] | None = None  # the folder that sinks write to
    notes: list[str] = field(default_factory=list)  # how what is open to doubt was read
    edges: str | None = None  # of a network of edges: whose Caffe it is for, HED's or RCF's

    def rng(self, *keys: int) -> np.random.Generator:
        """Random numbers that depend on nothing but the seed and the keys."""
        return np.random.default_rng((self.seed, *keys))


class Declaration(NamedTuple):
    """A parameter that a layer needs: its shape, and what fills it at the start.

    What is not learned is a statistic: no solver touches it, whatever the description's rates.
    """

    shape: Shape
    initial: Message | Callable[[Shape], np.ndarray]
    learned: bool = True


class Layer:
    """One layer of a description.

    A subclass says how many bottoms and tops it takes, what shapes it makes, which parameters it
    has, and computes forward and backward. It keeps nothing from one pass to the next: `shapes` is
    a question that changes nothing, and what backward needs, forward returns as its cache.

    Attributes
    ----------
    bottoms, tops : (int, int)
        Least and most numbers.
    loss : bool
        Whether the first top is a loss, of weight 1 unless the description says otherwise.
    stops : bool
        Whether no gradient passes this layer.
    cheap : bool
        Whether the tops, if nobody needs them any more, are better made again than kept.
    params : list of ParameterBlob
    """

    bottoms: ClassVar[tuple[int, int]] = (1, 1)
    tops: ClassVar[tuple[int, int]] = (1, 1)
    loss: ClassVar[bool] = False
    stops: ClassVar[bool] = False
    cheap: ClassVar[bool] = False

    def __init__(self, spec: Message, context: Context, index: int) -> None:
        self.spec, self.context, self.index = spec, context, index
        self.name, self.type = spec.name, spec.type
        self.phase = spec.phase if "phase" in spec else context.phase
        self.params: list[ParameterBlob] = []
        self.configure()

    def configure(self) -> None:
        """Read and check the layer's options."""

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """Return the shapes of the tops; raise where the bottoms do not fit."""
        return [bottoms[0]]

    def lines(self, *bottoms: Shape) -> Lines | None:
        """Return where the top's pixels lie on the first bottom; None if it has no such order."""
        top, bottom = self.shapes(*bottoms)[:1], bottoms[0]
        alike = len(bottom) == 4 and [shape[2:] for shape in top] == [bottom[2:]]
        return (Line(), Line()) if alike else None

    def declare(self, *bottoms: Shape) -> list[Declaration]:
        """Return the parameters that the layer needs."""
        return []

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        """Return the tops and the cache."""
        raise TypeError(f"{self.type} has no forward")

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        """Return the gradients of the bottoms (None where not needed) and of the parameters.

        A top that no gradient reached comes as zeros.
        """
        raise TypeError(f"{self.type} has no backward")

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the parameters that are all zero, with the spread that keeps that of entries."""
        for blob in self.params:
            fan_in = blob.data.size // max(blob.data.shape[:1] or (1,))
            if blob.data.ndim > 1 and fan_in and not blob.data.any():
                noise = rng.standard_normal(min(blob.data.size, _NOISE), np.float32)
                values = np.resize(noise * np.float32((2 / fan_in) ** 0.5), blob.data.shape)
                blob.data[...] = self.context.xp.asarray(values)

    def error(self, message: str) -> FormatError:
        """Return an error that names the layer and its line."""
        return self.spec.error(f"layer {self.name!r} ({self.type}): {message}")

    def note(self, message: str) -> None:
        """Say in the log, and in `Net.notes`, how something was read that could be read otherwise.

        The same of several layers is said once.
        """
        text = f"{self.type}: {message}"
        if text not in self.context.notes:
            self.context.notes.append(text)
            _LOG.info("%s, line %d: %s", self.spec._source, self.spec._line, text)

    def wanted(self, *names: str) -> set[str]:
        """The names, one a parameter, of those whose gradient is wanted."""
        return {n for n, p in zip(names, self.params, strict=False) if p.wanted}

    def axis(self, axis: int, ndim: int) -> int:
        """Return an axis counted from the front, of an array of that many."""
        if not -ndim <= axis < ndim:
            raise self.error(f"axis {axis} is not one of a blob of {ndim} axes")
        return axis % ndim

    def image(self, shape: Shape, what: str = "bottom") -> Shape:
        """Return `shape` if it is that of a batch of images."""
        if len(shape) != 4:
            raise self.error(f"expected a {what} of 4 axes (N, C, H, W), got {shape}")
        return shape


def layer_type(name: str) -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator: register a layer type under the name that descriptions use."""

    def register(cls: type[Layer]) -> type[Layer]:
        TYPES[name] = cls
        return cls

    return register


def window_of(layer: Layer) -> Window:
    """Return the window that a layer's ``convolution_param`` describes."""
    param = layer.spec.convolution_param
    if param.axis != 1:
        raise layer.error(f"axis {param.axis} is not supported: channels are axis 1")
    sides = {
        "kernel": _pair(layer, param, "kernel_size", "kernel_h", "kernel_w", None),
        "stride": _pair(layer, param, "stride", "stride_h", "stride_w", 1),
        "pad": _pair(layer, param, "pad", "pad_h", "pad_w", 0),
        "dilation": _pair(layer, param, "dilation", "", "", 1),
    }
    return make_window(layer, **sides)


def make_window(layer: Layer, **sides: Any) -> Window:
    """Return a window, or an error that names the layer."""
    try:
        window = Window(**sides)
    except ValueError as error:
        raise layer.error(str(error)) from None
    if window.size > MAX_TAPS:
        raise layer.error(f"a window of {window.size} pixels is beyond all reason")
    return window


def fitted(layer: Layer, window: Window, shape: Shape) -> tuple[int, int]:
    """Return the output size of a window on an image, or an error that names the layer."""
    try:
        return window.output_shape(layer.image(shape)[2:])  # type: ignore[arg-type]
    except ValueError as error:
        raise layer.error(str(error)) from None


def sides_of(layer: Layer, param: Message, name: str, both: str, default: int) -> tuple[int, int]:
    """Rows and columns of what is given as one number for both, or as ``_h`` and ``_w``."""
    h, w = f"{name}_h", f"{name}_w"
    if h in param or w in param:
        if both in param:
            raise layer.error(f"{both} and {h}, {w} exclude each other")
        return getattr(param, h), getattr(param, w)
    return (getattr(param, both) if both in param else default,) * 2


def check_shape(where: Message, shape: Sequence[int]) -> Shape:
    """Raise unless a shape is one that a blob can have."""
    size = 1
    for dim in shape:
        size *= dim
        if dim < 0 or size > MAX_COUNT or len(shape) > 32:
            raise where.error(f"not a shape of an array: {tuple(shape)}")
    return tuple(shape)


def _pair(
    layer: Layer, param: Message, both: str, h: str, w: str, default: int | None
) -> tuple[int, int]:
    values = getattr(param, both)
    if h and (h in param or w in param):
        if values:
            raise layer.error(f"{both} and {h}, {w} exclude each other")
        return getattr(param, h), getattr(param, w)
    if not values and default is not None:
        return default, default
    if len(values) not in (1, 2):
        raise layer.error(f"expected {both} once or twice, got it {len(values)} times")
    return values[0], values[-1]
