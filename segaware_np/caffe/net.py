"""Net: a network from its description, run forward and backward as in Caffe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.caffe.alignment import READINGS
from segaware_np.caffe.blobs import ParameterBlob, Shape
from segaware_np.caffe.engine import Engine
from segaware_np.caffe.formats.schema import Message, bind
from segaware_np.caffe.formats.text import fill_variables, parse, read_text
from segaware_np.caffe.formats.upgrade import upgraded
from segaware_np.caffe.fusion import FusedStep
from segaware_np.caffe.graph import build
from segaware_np.caffe.layers.base import Context
from segaware_np.caffe.weights import distinct, load_weights, save_weights, share_weights
from segaware_np.extras import require
from segaware_np.net import aligned
from segaware_np.xp import Array, as_array


class Blob:
    """One named array of a network between its layers.

    Attributes
    ----------
    data : array
        What the last forward pass left; write into it (``blob.data[...] = x``) to set an input.
    diff : array
        dL/d(data) of the last backward pass, zeros where none came.
    shape : tuple of int
    """

    def __init__(self, engine: Engine, name: str, slots: Sequence[int]) -> None:
        self._engine, self._name, self._slots = engine, name, slots

    @property
    def data(self) -> Array:
        return self._engine.value(self._slots[-1])

    @property
    def diff(self) -> Array:
        return self._engine.diff(self._slots)

    @property
    def shape(self) -> Shape:
        return self._engine.shapes[self._slots[-1]]

    def reshape(self, *shape: int) -> None:
        """Give an input another shape; the other blobs follow at the next forward pass."""
        if self._name not in self._engine.inputs:
            raise ValueError(f"{self._name}: only inputs can be reshaped")
        self._engine.reshape(self._slots[0], shape)

    def __repr__(self) -> str:
        return f"Blob({self._name!r}, {self.shape})"


class Net:
    """A network described by a prototxt.

    Parameters
    ----------
    path_or_text : path-like or str
        The description, or the file that holds it.
    weights : path-like, optional
        A caffemodel to start from, or what ``segaware caffe convert`` made of one (``.npz``,
        ``.safetensors``); else parameters are drawn as the fillers say.
    phase : {"TRAIN", "TEST"}
    dtype : {"float32", "float64"}
    xp : module
        ``numpy`` or ``cupy``: where the network lives.
    variables : mapping, optional
        Values of the ``${NAME}`` in the description.
    fuse : bool
        Run segmentation-aware chains as one operation each (see `fusion`), and drop gradients
        of blobs that have been used up. False runs every layer by itself and keeps everything.
    seed : int
        Of fillers, dropout and data layers.
    crop : {"aligned", "zero"}, optional
        Where a Crop without ``crop_param`` begins: where the layers between its bottoms lay them
        on each other, as in the Caffe of FCN's and HED's time, or at 0, as in the later one. If it
        is not given, a description for which that differs is refused.
    output : path-like, optional
        The folder that MatWrite layers write to; without it they write nothing.
    state : Message, optional
        A NetState, which include and exclude rules are held against: by default the description's.

    Attributes
    ----------
    blobs : dict of str to Blob
        In the order of the description. What fusion has left out is computed when it is asked
        for, with the parameters as they are then.
    params : dict of str to list of ParameterBlob
        By the layers' names, in order; of two layers called ``fc`` the second is ``fc#2``.
    inputs, outputs : list of str
    loss : float
        Of the last forward pass, with loss weights.
    notes : list of str
        How the description was read where forks of Caffe differ; the log of the name
        ``segaware_np.caffe`` has it too, with lines.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    FormatError
        If the description is malformed or describes what is not supported.
    ValueError
        If variables have no value.

    Examples
    --------
    >>> net = Net('''
    ...     input: "x" input_shape { dim: 1 dim: 1 dim: 1 dim: 3 }
    ...     layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { power: 2 } }
    ... ''')
    >>> net.forward(x=np.array([[[[1.0, 2.0, 3.0]]]]))["y"].tolist()
    [[[[1.0, 4.0, 9.0]]]]
    """

    def __init__(
        self,
        path_or_text: str | os.PathLike[str] | Message,
        weights: str | os.PathLike[str] | None = None,
        phase: str = "TEST",
        dtype: str | np.dtype = "float32",
        xp: ModuleType = np,
        variables: Mapping[str, object] | None = None,
        *,
        fuse: bool = True,
        seed: int = 0,
        crop: str | None = None,
        output: str | os.PathLike[str] | None = None,
        state: Message | None = None,
    ) -> None:
        if phase not in ("TRAIN", "TEST"):
            raise ValueError(f"phase: expected 'TRAIN' or 'TEST', got {phase!r}")
        if np.dtype(dtype).char not in "fd":
            raise ValueError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
        if crop is not None and crop not in READINGS:
            raise ValueError(f"crop: expected one of {', '.join(READINGS)}, got {crop!r}")
        spec = describe(path_or_text, "NetParameter", variables or {})
        self._made = {"path_or_text": spec, "phase": phase, "dtype": dtype, "fuse": fuse,
                      "crop": crop, "output": output, "state": state}
        context = Context(phase, np.dtype(dtype), xp, seed, output=output)
        graph = build(spec, state_of(spec, state, phase), context)
        self.name, self._graph, self._context = spec.name, graph, context
        self._engine = Engine(graph, context, spec.force_backward, fuse, crop)
        self.inputs, self.outputs = list(graph.inputs), graph.outputs()
        self.blobs = {
            name: Blob(self._engine, name, slots) for name, slots in graph.versions.items()
        }
        layers = [step.layer for step in graph.steps if step.layer.params]
        keys = distinct(layer.name for layer in layers)
        self.params = {key: layer.params for key, layer in zip(keys, layers, strict=True)}
        if weights is not None:
            self.copy_from(weights)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle and a copy keep: description, parameters and random state."""
        kept = [(blob.data, blob.lr_mult, blob.decay_mult) for blob in self.learned().values()]
        return _remade, (self._made, self.xp.__name__, kept, self.state())

    # -- running ------------------------------------------------------------------------------

    def forward(self, mapping: Mapping[str, Any] | None = None, /, **inputs: Any
                ) -> dict[str, Array]:
        """Run the network.

        Parameters
        ----------
        mapping, **inputs
            Arrays for (some of) the inputs, of any size that the network can take; they are
            copied. The other inputs are as they were.

        Returns
        -------
        dict of str to array
            The outputs: blobs that no layer reads. Later passes do not write into them.

        Raises
        ------
        TypeError, ValueError
            If an input does not exist, lives elsewhere, or does not fit the network.
        """
        self._engine.forward(self._read_inputs({**(mapping or {}), **inputs}))
        slots = [self._graph.versions[name][-1] for name in self.outputs]
        return dict(zip(self.outputs, self._engine.outputs(slots), strict=True))

    def backward(self, mapping: Mapping[str, Any] | None = None, /, **top_diffs: Any
                 ) -> dict[str, Array]:
        """Run the last forward pass backwards.

        It starts from the losses with their weights and from the given gradients. Gradients of
        parameters add up until `clear_diffs`. As in Caffe, gradients flow to what is learned,
        and to the inputs only if the description says ``force_backward: true``.

        Parameters
        ----------
        mapping, **top_diffs
            dL/d(blob) for any blobs.

        Returns
        -------
        dict of str to array
            Gradients of the inputs (zeros where none flowed).

        Raises
        ------
        RuntimeError
            If there was no forward pass.
        TypeError, ValueError
            If a blob does not exist or a gradient does not fit it.
        """
        if not self._engine.ran:
            raise RuntimeError("backward: run forward first")
        self._engine.backward(self._read_seeds({**(mapping or {}), **top_diffs}))
        return {name: self.blobs[name].diff for name in self.inputs}

    @property
    def xp(self) -> ModuleType:
        """The module, NumPy or CuPy, of the network's arrays."""
        return self._context.xp

    @property
    def notes(self) -> list[str]:
        return list(self._context.notes)

    @property
    def loss(self) -> float:
        values = self._engine.values
        return float(sum(
            weight * float(values[slot].sum())
            for step in self._graph.steps
            for slot, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight and slot in values
        ))

    def clear_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        for blob in self.learned().values():
            blob.clear()

    def learned(self) -> dict[str, ParameterBlob]:
        """All parameters, once each, by layer and number: ``{"conv1[0]": blob}``."""
        found: dict[int, tuple[str, ParameterBlob]] = {}
        for key, blobs in self.params.items():
            for k, blob in enumerate(blobs):
                found.setdefault(id(blob.owner), (f"{key}[{k}]", blob))
        return dict(found.values())

    def copy_from(self, path: str | os.PathLike[str], *, complete: bool = False) -> list[str]:
        """Take over the parameters of a file for all layers of the same name, each in its turn.

        Parameters
        ----------
        path : path-like
        complete : bool
            Whether all layers that learn must be there.

        Returns
        -------
        list of str
            The names of the layers that were loaded. If layers of the file were left out, or some
            of the network stay as they are, a warning tells which.

        Raises
        ------
        FileNotFoundError, FormatError
            If the file is missing or damaged.
        ValueError
            If no layer has its name there, shapes differ, or layers are missing that must be there.
            Nothing is changed.
        """
        return load_weights(path, self._graph.steps, self._context, complete)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all parameters: as ``.npz`` or ``.safetensors`` if so named, else a caffemodel."""
        save_weights(path, self._graph.steps, self.name)

    def share_from(self, other: Net) -> list[str]:
        """Use the very parameters of another network in all layers of the same name, in turn.

        Returns the names of those layers, and warns of the others as `copy_from` does. Raises
        FormatError, and changes nothing, if shapes, dtypes or modules differ.
        """
        return share_weights(other._graph.steps, self._graph.steps)

    def state(self) -> dict[str, int]:
        """The random state: with the parameters, all that the next passes depend on."""
        return {"seed": self._context.seed, "passes": self._context.passes}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Take over what `state` gave."""
        self._context.seed, self._context.passes = int(state["seed"]), int(state["passes"])

    def summary(self) -> str:
        """Table of layers, their tops, shapes and parameters, and of what they were fused into."""
        chains = [step for step in self._engine.steps if isinstance(step, FusedStep)]
        fused = {step: chain for chain in chains for step in chain.steps}
        rows = [("layer", "type", "top", "shape", "parameters", "fused into")]
        for step in self._graph.steps:
            layer, shapes = step.layer, [self._engine.shapes[slot] for slot in step.tops]
            count = sum(blob.data.size for blob in layer.params)
            rows.append((layer.name, layer.type, " ".join(layer.spec.top),
                         " ".join("x".join(map(str, shape)) or "1" for shape in shapes),
                         f"{count:,}" if count else "",
                         fused[step].layer.name if step in fused else ""))
        hidden = {slot for chain in chains for slot in chain.hidden}
        made = {slot for step in self._graph.steps for slot in step.tops}
        size = sum(prod(self._engine.shapes[slot]) for slot in made - hidden)
        learned = sum(blob.data.size for blob in self.learned().values())
        item = self._context.dtype.itemsize
        lines = [*aligned(rows), f"{learned:,} parameters ({learned * item / 2**20:.1f} MiB); "
                                 f"blobs {size * item / 2**20:.1f} MiB"]
        if chains:
            lines.append(f"{len(fused)} layers fused into {len(chains)}")
        return "\n".join(lines)

    # -- what callers hand in ------------------------------------------------------------------

    def _read_inputs(self, arrays: Mapping[str, Any]) -> dict[int, Array]:
        found = {}
        for name, value in arrays.items():
            if name not in self._engine.inputs:
                raise ValueError(f"{name}: not an input (those are {', '.join(self.inputs)})")
            array = as_array(value, self._context.xp)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{name}: expected an array of real numbers, got {array.dtype}")
            found[self._engine.inputs[name]] = self._copy(array)
        return found

    def _read_seeds(self, arrays: Mapping[str, Any]) -> dict[int, Array]:
        found = {}
        for name, value in arrays.items():
            if name not in self._graph.versions:
                raise ValueError(f"{name}: there is no such blob")
            array = self._copy(as_array(value, self._context.xp))
            if array.shape != self.blobs[name].shape:
                raise ValueError(f"{name}: expected a gradient of shape {self.blobs[name].shape}, "
                                 f"got {array.shape}")
            found[self._graph.versions[name][-1]] = array
        return found

    def _copy(self, array: Array) -> Array:
        """In the network's precision, and the network's own: blobs are there to be written into."""
        return self._context.xp.array(array, self._context.dtype)


def describe(
    path_or_text: str | os.PathLike[str] | Message, type_: str, variables: Mapping[str, object]
) -> Message:
    """Read a description as a message of the given type."""
    if isinstance(path_or_text, Message):
        return path_or_text
    text, source = read_text(path_or_text)
    return bind(upgraded(parse(fill_variables(text, variables), source), source), type_, source)


def state_of(spec: Message, given: Message | None, phase: str) -> Message:
    """The state that include and exclude rules are held against."""
    state = Message("NetState")
    for message in (spec.state, given or Message("NetState")):
        for name in message:
            value = getattr(message, name)
            state._values[name] = state.stage + value if name == "stage" else value
    state._values["phase"] = phase
    return state


def _remade(
    made: dict[str, Any], xp: str, kept: list[tuple[Array, float, float]], state: dict[str, int]
) -> Net:
    """The network that was pickled; two of one pickle share again what they shared."""
    net = Net(**made, xp=np if xp == "numpy" else require(xp, extra="gpu"))
    for blob, (data, lr_mult, decay_mult) in zip(net.learned().values(), kept, strict=True):
        blob.data, blob.lr_mult, blob.decay_mult = data, lr_mult, decay_mult
    for blobs in net.params.values():
        for blob in blobs:
            if blob.owner is not blob:
                blob.data = blob.owner.data.reshape(blob.data.shape)
    net.set_state(state)
    return net
