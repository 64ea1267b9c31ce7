"""A network: named layers in a graph."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from segaware_np.extras import require
from segaware_np.files import FormatError, differing_arrays, load_arrays, save_arrays
from segaware_np.layers import Layer
from segaware_np.parameter import Parameter
from segaware_np.version import __version__
from segaware_np.xp import Array, array_module, unshared

_BATCHES = 2  # stream of random numbers, beside those of the loader
_DTYPES = ("float32", "float64", "complex128")


class Node(NamedTuple):
    """A layer in its place.

    Attributes
    ----------
    name : str
    layer : Layer
    inputs : tuple of str
        Names of network inputs and of other layers.
    weight : float or None
        Loss weight.
    share : str or None
        The layer whose parameters this one uses.

    Examples
    --------
    >>> from segaware_np import layers
    >>> net = Net(inputs=("image",))
    >>> net.add("relu", layers.ReLU(), "image")
    >>> net.nodes["relu"].inputs
    ('image',)
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    weight: float | None  # loss weight, None if this is no loss
    share: str | None  # whose parameters it uses, None for its own


class Net:
    """Named layers in a graph: forward in order, backward in reverse.

    A name that several layers read is a fork; the gradients of its branches add up.

    Parameters
    ----------
    inputs : sequence of str
        Names of the arrays that the caller brings.
    dtype : {"float32", "float64", "complex128"}
        Of parameters and of all inputs but labels; complex for proofs by the complex step.
    xp : module
        ``numpy`` or ``cupy``: where the parameters live.
    seed : int
        For initial weights and dropout.

    Attributes
    ----------
    nodes : dict of str to Node
    description : dict
        Whatever is needed to build the same network again (`segaware_np.models` fills it in); it
        is saved with the weights.

    Raises
    ------
    ValueError
        If `dtype` is none of those.

    Examples
    --------
    >>> from segaware_np import Window, layers
    >>> net = Net(inputs=("image",))
    >>> net.add("conv", layers.Convolution(3, 8, Window.same(3)), "image")
    >>> net.add("relu", layers.ReLU(), "conv")
    >>> net.forward({"image": np.zeros((1, 3, 5, 5), "float32")})["relu"].shape
    (1, 8, 5, 5)
    """

    def __init__(
        self,
        inputs: Iterable[str] = ("image", "label"),
        dtype: str = "float32",
        xp: ModuleType = np,
        seed: int = 0,
    ) -> None:
        if str(np.dtype(dtype)) not in _DTYPES:
            raise ValueError(f"dtype: expected one of {_DTYPES}, got {dtype!r}")
        self.inputs = tuple(inputs)
        self.dtype = np.dtype(dtype)
        self.xp = xp
        self.rng, self.seed = np.random.default_rng(seed), seed
        self.nodes: dict[str, Node] = {}
        self.description: dict[str, Any] = {}
        self._ran: list[Node] = []  # with what the last forward left in their caches
        self._losses: dict[str, Array] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle and a copy keep: all but what the last forward pass left."""
        return vars(self) | {"xp": self.xp.__name__, "_ran": [], "_losses": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        xp = np if state["xp"] == "numpy" else require(state["xp"], extra="gpu")
        vars(self).update(state, xp=xp)

    def add(
        self,
        name: str,
        layer: Layer,
        *inputs: str,
        weight: float | None = None,
        share: str | None = None,
    ) -> None:
        """Append a layer.

        Parameters
        ----------
        name : str
            Of the layer and of its output.
        layer : Layer
        *inputs : str
            Names of network inputs or of layers added before.
        weight : float, optional
            Marks the layer as a loss, with this weight in the total.
        share : str, optional
            Name of a layer whose parameters this one uses instead of its own.

        Raises
        ------
        ValueError
            If the name or the layer is taken, or an input or the layer to share with is unknown.
        """
        if name in self.nodes or name in self.inputs:
            raise ValueError(f"name: {name!r} is taken")
        for node in self.nodes.values():
            if node.layer is layer:  # it remembers one forward pass, not two
                raise ValueError(
                    f"layer: expected a new one, got that of {node.name!r} (share=... shares "
                    "parameters)"
                )
        unknown = [i for i in inputs if i not in self.nodes and i not in self.inputs]
        if unknown:
            raise ValueError(f"inputs: layer {name!r} reads {unknown}, which nothing produces")
        if share is None:
            layer.initialize(self.rng, self.dtype, self.xp)
        elif share in self.nodes:
            layer.params = self.nodes[share].layer.params
        else:
            raise ValueError(f"share: no layer {share!r} to share parameters with")
        self.nodes[name] = Node(name, layer, inputs, weight, share)

    def forward(
        self,
        inputs: Mapping[str, Array],
        outputs: Iterable[str] | None = None,
        *,
        keep: bool = True,
    ) -> dict[str, Array]:
        """Run the layers that the outputs depend on.

        Parameters
        ----------
        inputs : mapping of str to array
            At least the network inputs that are needed.
        outputs : iterable of str, optional
            Names of layers; by default every layer that no other reads.
        keep : bool
            Keep what `backward` needs. Without it an array is freed once its last reader ran.

        Returns
        -------
        dict of str to array
            The outputs asked for, arrays of their own.

        Raises
        ------
        TypeError, ValueError
            If an input is missing or of another module or dtype, or an output is unknown.
        """
        wanted = self._ends() if outputs is None else list(outputs)
        plan = self.plan(wanted)
        values = self._check_inputs(inputs, plan, wanted)
        given = list(values.values())
        readers = Counter(name for node in plan for name in node.inputs)
        readers.update(wanted)
        self._ran, self._losses = [], {}
        for node in plan:
            value = node.layer.forward(*(values[name] for name in node.inputs))
            values[node.name] = value
            self._shapes[node.name] = value.shape
            if node.weight is not None:
                self._losses[node.name] = value
            if not keep:
                node.layer.cache = None
            for name in node.inputs:
                readers[name] -= 1
                if not readers[name]:
                    values.pop(name, None)
        self._ran = plan if keep else []
        return _own({name: values[name] for name in wanted}, given)

    def backward(
        self, d_outputs: Mapping[str, Array] | None = None, inputs: Iterable[str] = ()
    ) -> dict[str, Array]:
        """Propagate gradients back through the layers that the last `forward` ran.

        Parameters
        ----------
        d_outputs : mapping of str to array, optional
            Gradients to start from; by default the loss layers, with their weights.
        inputs : iterable of str
            Network inputs whose gradients are wanted.

        Returns
        -------
        dict of str to array
            dL/d(input) for the inputs asked for, arrays of their own; parameter gradients
            accumulate in place.

        Raises
        ------
        RuntimeError
            If there was no forward pass to go back through.
        ValueError
            If a name in `d_outputs` was not computed, there is nothing to start from, or a name
            in `inputs` is none of the network's inputs.
        """
        if not self._ran:
            raise RuntimeError("backward: needs a forward pass with keep=True before it")
        if d_outputs is None:
            weights = {n.name: n.weight for n in self._ran if n.weight is not None}
            d_outputs = {name: self.xp.asarray(w, self.dtype) for name, w in weights.items()}
        ran, inputs = {node.name for node in self._ran}, tuple(inputs)
        unknown = [name for name in d_outputs if name not in ran]
        if unknown or not d_outputs:
            raise ValueError(f"d_outputs: expected names of layers that ran, got {unknown}")
        if strange := [name for name in inputs if name not in self.inputs]:
            raise ValueError(f"inputs: expected names out of {list(self.inputs)}, got {strange}")
        gradients, useful = dict(d_outputs), self._useful(inputs)
        for node in reversed(self._ran):
            dy = gradients.pop(node.name, None)
            if dy is not None and node.name in useful:
                need = tuple(name in useful for name in node.inputs)
                found = node.layer.backward(dy, need)
                for name, wanted, gradient in zip(node.inputs, need, found, strict=True):
                    if wanted and gradient is not None:
                        known = gradients.get(name)
                        # Not in place: a gradient may be shared between branches.
                        gradients[name] = gradient if known is None else known + gradient
            node.layer.cache = None
        self._ran = []
        asked = {name: gradients[name] for name in inputs if name in gradients}
        return _own(asked, d_outputs.values())

    @property
    def loss(self) -> float:
        """Weighted sum of the losses of the last forward pass (waits for a GPU)."""
        if not self._losses:
            raise RuntimeError("loss: no loss layer ran in the last forward pass")
        return sum(
            (self.nodes[name].weight or 0.0) * float(value.real)
            for name, value in self._losses.items()
        )

    @property
    def losses(self) -> dict[str, float]:
        """Each loss of the last forward pass, unweighted."""
        return {name: float(value.real) for name, value in self._losses.items()}

    def parameters(self) -> dict[str, Parameter]:
        """All parameters by name, ``layer.parameter``; shared ones by their first name only."""
        return {
            f"{name}.{key}": parameter
            for name, node in self.nodes.items()
            if node.share is None
            for key, parameter in node.layer.params.items()
        }

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters."""
        for parameter in self.parameters().values():
            parameter.grad[...] = 0

    def train(self, training: bool = True) -> Net:
        """Run as in training from now on (dropout drops); returns the network."""
        for node in self.nodes.values():
            node.layer.training = training
        return self

    def eval(self) -> Net:
        """Run as in use from now on; returns the network."""
        return self.train(False)

    def begin(self, batch: int, first: int = 0) -> None:
        """Draw the random numbers of a batch from now on, which no batch before has a say in.

        Parameters
        ----------
        batch : int
            Its number, not negative.
        first : int
            Number within the batch of the first sample that is given, if only a part is.
        """
        drawn = np.random.default_rng((self.seed, _BATCHES, batch))
        self.rng.bit_generator.state = drawn.bit_generator.state
        for node in self.nodes.values():
            node.layer.first = first

    def counts(self) -> dict[str, float | None]:
        """What each loss of the last forward pass was divided by, see `Layer.count`."""
        return {name: self.nodes[name].layer.count() for name in self._losses}

    def state(self) -> dict[str, Any]:
        """Random state, as JSON-able values."""
        return {"rng": self.rng.bit_generator.state, "seed": self.seed}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue with the random numbers that `state` would have drawn next.

        Raises
        ------
        ValueError
            If it is not a state of this network's generator.
        """
        try:
            trial = type(self.rng.bit_generator)()
            trial.state = state["rng"]
            seed = index(state.get("seed", self.seed))
            self.rng.bit_generator.state, self.seed = trial.state, seed  # whole or not at all
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"state: not the random state of a network ({error})") from error

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of all parameters on the host."""
        return {
            name: p.data.get() if array_module(p.data) is not np else p.data.copy()
            for name, p in self.parameters().items()
        }

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Overwrite all parameters.

        Raises
        ------
        ValueError
            If names or shapes differ from this network's; nothing is written then.
        """
        own = self.parameters()
        data = {name: parameter.data for name, parameter in own.items()}
        if faults := differing_arrays(data, arrays, dtypes=False):
            raise ValueError(f"weights of another network: {faults}")
        for name, parameter in own.items():
            parameter.data[...] = self.xp.asarray(arrays[name], self.dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and the description to ``.npz`` or ``.safetensors``, atomically."""
        about = {"format": "segaware_np network", "version": __version__}
        save_arrays(path, self.weights(), {**about, "description": self.description})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read weights that `save` wrote.

        Raises
        ------
        FormatError
            If the file is damaged or holds no network.
        ValueError
            If it holds another network.
        """
        arrays, metadata = load_arrays(path)
        if metadata.get("format") != "segaware_np network":
            raise FormatError(f"{path}: not a saved network")
        try:
            self.set_weights(arrays)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def summary(self) -> str:
        """Table of layers, their inputs, output shapes (of the last run) and parameters."""
        rows = [("layer", "type", "inputs", "output", "parameters")]
        total = 0
        for name, node in self.nodes.items():
            own = {} if node.share else node.layer.params
            count = sum(p.data.size for p in own.values())
            total += count
            shape = "x".join(map(str, self._shapes.get(name, ())))
            kind = type(node.layer).__name__
            rows.append((name, kind, ", ".join(node.inputs), shape, f"{count:,}" if count else ""))
        return "\n".join([*aligned(rows), f"{total:,} parameters"])

    def _ends(self) -> list[str]:
        read = {name for node in self.nodes.values() for name in node.inputs}
        return [name for name in self.nodes if name not in read]

    def plan(self, outputs: Sequence[str]) -> list[Node]:
        """Return the layers that some outputs depend on, in order.

        Raises
        ------
        ValueError
            If an output is unknown.
        """
        unknown = [name for name in outputs if name not in self.nodes]
        if unknown:
            raise ValueError(f"outputs: expected names of layers, got {unknown}")
        needed = set(outputs)
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        return [node for node in self.nodes.values() if node.name in needed]

    def _check_inputs(
        self, inputs: Mapping[str, Array], plan: list[Node], outputs: list[str]
    ) -> dict[str, Array]:
        needed = {name for node in plan for name in node.inputs} & set(self.inputs)
        missing = sorted(needed - inputs.keys())
        if missing:
            raise ValueError(f"inputs: {missing} are needed for {outputs} and missing")
        unknown = sorted(inputs.keys() - set(self.inputs))
        if unknown:
            raise ValueError(f"inputs: expected names out of {list(self.inputs)}, got {unknown}")
        for name in needed:
            value = inputs[name]
            if array_module(value) is not self.xp:
                raise TypeError(f"{name}: expected a {self.xp.__name__} array, as the network's")
            if value.dtype.kind not in "iu" and value.dtype != self.dtype:
                raise TypeError(f"{name}: expected {self.dtype}, as the network, got {value.dtype}")
        return {name: inputs[name] for name in needed}

    def _useful(self, inputs: tuple[str, ...]) -> set[str]:
        """Names through which a gradient reaches a parameter that learns or a wanted input."""
        useful = set(inputs)
        for node in self._ran:
            learns = any(p.lr_mult for p in node.layer.params.values())
            if learns or any(name in useful for name in node.inputs):
                useful.add(node.name)
        return useful


def _own(arrays: Mapping[str, Array], others: Iterable[Array]) -> dict[str, Array]:
    """The arrays, copied where they share memory with others or with each other."""
    taken, own = list(others), {}
    for name, array in arrays.items():
        own[name] = unshared(array, taken)
        taken.append(own[name])
    return own


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the cells of each column as wide as the widest, two spaces between.

    Parameters
    ----------
    rows : sequence of sequences of str
        As many cells in each.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If rows differ in length.

    Examples
    --------
    >>> aligned([("layer", "parameters"), ("a", "57")])
    ['layer  parameters', 'a      57']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
