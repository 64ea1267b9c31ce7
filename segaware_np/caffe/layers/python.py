"""Layers that descriptions name as Python code: never run from a file, but registered by name."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Grads, Layer
from segaware_np.caffe.layers.data import Declared, Source
from segaware_np.files import FormatError
from segaware_np.xp import Array, host

REGISTERED: dict[tuple[str, str], type[PythonLayer] | type[Layer]] = {}


class PythonBlob:
    """A bottom or top as a `PythonLayer` sees it.

    Attributes
    ----------
    data, diff : numpy.ndarray
    shape : tuple of int

    Examples
    --------
    >>> blob = PythonBlob(np.zeros((1, 3, 4, 5)))
    >>> blob.reshape(1, 2)
    >>> blob.shape, blob.num, blob.channels
    ((1, 2), 1, 2)
    """

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.diff = np.zeros(data.shape, data.dtype)

    @property
    def shape(self) -> Shape:
        return self.data.shape

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self.data.size

    @property
    def num(self) -> int:
        return self._side(0)

    @property
    def channels(self) -> int:
        return self._side(1)

    @property
    def height(self) -> int:
        return self._side(2)

    @property
    def width(self) -> int:
        return self._side(3)

    def _side(self, axis: int) -> int:
        return self.data.shape[axis] if axis < self.data.ndim else 1

    def reshape(self, *shape: int) -> None:
        """Give it another shape; what is in it is lost."""
        if shape != self.shape:
            self.data = np.zeros(shape, self.data.dtype)
            self.diff = np.zeros(shape, self.data.dtype)


class PythonLayer:
    """What a class must be like to be registered: pycaffe's ``caffe.Layer``.

    ``param_str`` and ``phase`` are the description's; ``setup`` is called once, ``reshape`` before
    every pass and whenever shapes are asked for, so that it must not go on to the next sample.

    Examples
    --------
    >>> from segaware_np.caffe import Net, register_layer
    >>> class Double(PythonLayer):
    ...     def reshape(self, bottom, top):
    ...         top[0].reshape(*bottom[0].shape)
    ...     def forward(self, bottom, top):
    ...         top[0].data[...] = 2 * bottom[0].data
    ...     def backward(self, top, propagate_down, bottom):
    ...         bottom[0].diff[...] = 2 * top[0].diff
    >>> register_layer("doubling", "Double", Double)
    >>> net = Net('''
    ...     input: "x" input_shape { dim: 3 }
    ...     layer { name: "y" type: "Python" bottom: "x" top: "y"
    ...             python_param { module: "doubling" layer: "Double" } }
    ... ''')
    >>> net.forward(x=[1, 2, 3])["y"].tolist()
    [2.0, 4.0, 6.0]
    """

    param_str: str = ""
    phase: str = "TEST"

    def setup(self, bottom: Sequence[PythonBlob], top: Sequence[PythonBlob]) -> None:
        """Read the options."""

    def reshape(self, bottom: Sequence[PythonBlob], top: Sequence[PythonBlob]) -> None:
        """Give the tops their shapes."""

    def forward(self, bottom: Sequence[PythonBlob], top: Sequence[PythonBlob]) -> None:
        """Fill the tops' data.

        Raises
        ------
        NotImplementedError
            Unless a subclass does it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(
        self,
        top: Sequence[PythonBlob],
        propagate_down: Sequence[bool],
        bottom: Sequence[PythonBlob],
    ) -> None:
        """Fill the bottoms' diff."""


def register_layer(module: str, layer: str, cls: type) -> None:
    """Let descriptions use a class where they say ``python_param { module: ... layer: ... }``.

    Parameters
    ----------
    module, layer : str
        The names in the description; no module of that name is imported.
    cls : type
        A subclass of `PythonLayer`, the shape of pycaffe's ``caffe.Layer``.

    Raises
    ------
    TypeError
        If it is something else.

    Examples
    --------
    >>> class Nothing(PythonLayer):
    ...     def forward(self, bottom, top):
    ...         pass
    >>> register_layer("mine", "Nothing", Nothing)
    """
    if not (isinstance(cls, type) and issubclass(cls, (PythonLayer, Layer))):
        raise TypeError(f"cls: expected a subclass of PythonLayer, got {cls!r}")
    REGISTERED[module, layer] = cls


def find(spec: Message) -> type[Layer]:
    """The class of a layer of type Python; one that refuses to be made if there is none."""
    param = spec.python_param
    cls = REGISTERED.get((param.module, param.layer))
    if cls is None:
        return Unregistered if spec.bottom else UnregisteredData
    if issubclass(cls, Layer):
        return cls
    return type(cls.__name__, (Adapter,), {"python": cls})


def literal(text: str) -> Any:
    """The literal that a text is, nothing of it run; None if it is none."""
    try:
        return ast.literal_eval(text.strip() or "{}")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def options(layer: Layer) -> dict[str, Any]:
    """The literals of a ``param_str`` that holds a dict, as those of published layers do."""
    text = layer.spec.python_param.param_str
    found = literal(text)
    if not isinstance(found, dict):
        raise layer.error(f"param_str: expected a dict of literals, got {text!r}")
    return found


class Unregistered(Layer):
    """A layer whose code nobody has registered."""

    bottoms, tops = (0, 1000), (0, 1000)

    def configure(self) -> None:
        raise missing(self.spec)


class UnregisteredData(Source):
    """Such a layer without bottoms: what it would read is taken for an image and maps of labels."""

    @classmethod
    def source(cls, spec: Message) -> str:
        return f"{spec.python_param.module}.{spec.python_param.layer} is not registered"

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        maps = [Declared((1, 1, None, None), "labels")] * len(spec.top)
        return [Declared((1, 3, None, None)), *maps][: len(spec.top)]

    def configure(self) -> None:
        raise missing(self.spec)


def missing(spec: Message) -> FormatError:
    """The error for a layer whose code nobody has registered."""
    module, layer = spec.python_param.module, spec.python_param.layer
    return spec.error(
        f"layer {spec.name!r}: the Python layer {module}.{layer} is not registered (nothing that a "
        f"description names is run): caffe.register_layer({module!r}, {layer!r}, cls)"
    )


class Adapter(Layer):
    """A `PythonLayer` as a layer of a network."""

    bottoms, tops = (0, 1000), (0, 1000)
    python: type[PythonLayer]

    def configure(self) -> None:
        self.code = self.python()
        self.code.param_str = self.spec.python_param.param_str
        self.code.phase = self.phase
        self.ready = False

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        blobs = [PythonBlob(np.zeros(shape, self.context.dtype)) for shape in bottoms]
        return [blob.shape for blob in self._reshaped(blobs)]

    def _reshaped(self, bottoms: list[PythonBlob]) -> list[PythonBlob]:
        tops = [PythonBlob(np.zeros(0, self.context.dtype)) for _ in self.spec.top]
        if not self.ready:
            self.code.setup(bottoms, tops)
            self.ready = True
        self.code.reshape(bottoms, tops)
        return tops

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        blobs = [PythonBlob(host(array).copy()) for array in bottoms]
        tops = self._reshaped(blobs)
        self.code.forward(blobs, tops)
        return [self.context.xp.asarray(top.data) for top in tops], (blobs, tops)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        bottoms, tops = cache
        for top, diff in zip(tops, dtops, strict=True):
            top.diff[...] = host(diff)
        for bottom in bottoms:
            bottom.diff[...] = 0
        self.code.backward(tops, list(need), bottoms)
        return [self.context.xp.asarray(bottom.diff) for bottom in bottoms], []
