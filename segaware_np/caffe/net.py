"""Net: a network from its description, run forward and backward as in Caffe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Blob, ParameterBlob, Shape
from segaware_np.caffe.fusion import FusedStep, fuse
from segaware_np.caffe.graph import Step, build
from segaware_np.caffe.layer import Context, check_shape
from segaware_np.caffe.parameters import make_parameters
from segaware_np.caffe.schema import Message, bind
from segaware_np.caffe.text import fill_variables, parse, read_text
from segaware_np.caffe.weights import load_weights, save_weights, share_weights
from segaware_np.xp import Array, as_array


class Net:
    """A network described by a prototxt.

    Parameters
    ----------
    path_or_text : path-like or str
        The description, or the file that holds it.
    weights : path-like, optional
        A caffemodel to start from; else parameters are drawn as the fillers say.
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

    Attributes
    ----------
    blobs : dict of str to Blob
        In the order of the description. What fusion has left out is computed when it is asked
        for, with the parameters as they are then.
    params : dict of str to list of ParameterBlob
    inputs, outputs : list of str
    loss : float
        Of the last forward pass, with loss weights.

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
        state: Message | None = None,
    ) -> None:
        if phase not in ("TRAIN", "TEST"):
            raise ValueError(f"phase: expected 'TRAIN' or 'TEST', got {phase!r}")
        if np.dtype(dtype).char not in "fd":
            raise ValueError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
        spec = describe(path_or_text, "NetParameter", variables or {})
        self.name, self.fused = spec.name, fuse
        self._context = Context(phase, np.dtype(dtype), xp, seed)
        graph = build(spec, _state(spec, state, phase), self._context)
        self._graph, self._forced = graph, spec.force_backward

        self._shapes: dict[int, Shape] = {}
        self._values: dict[int, Array] = {}
        self._input_slots = {name: graph.versions[name][0] for name in graph.inputs}
        for name, slot in self._input_slots.items():
            self._shapes[slot] = graph.inputs[name]
        self._infer(graph.steps, declare=True)
        self._mark()
        self._steps = _fused(self) if fuse else graph.steps
        self._hidden = {
            slot for step in self._steps if isinstance(step, FusedStep) for slot in step.hidden
        }
        self._kept = self._find_kept()

        self.inputs = list(graph.inputs)
        self.outputs = graph.outputs()
        self.blobs = {name: Blob(self, name) for name in graph.versions}
        self.params = {step.layer.name: step.layer.params for step in graph.steps
                       if step.layer.params}
        self._forget()
        if weights is not None:
            self.copy_from(weights)

    # -- running ------------------------------------------------------------------------------

    def forward(self, mapping: Mapping[str, Any] | None = None, /, **inputs: Any
                ) -> dict[str, Array]:
        """Run the network.

        Parameters
        ----------
        mapping, **inputs
            Arrays for (some of) the inputs, of any size that the network can take; they are not
            copied if their dtype fits. The other inputs are as they were.

        Returns
        -------
        dict of str to array
            The outputs: blobs that no layer reads.

        Raises
        ------
        TypeError, ValueError
            If an input does not exist, lives elsewhere, or does not fit the network.
        """
        self._feed({**(mapping or {}), **inputs})
        self._context.passes += 1
        self._forget()
        sources = [step for step in self._steps if not step.bottoms]
        self._run(sources, keep=False)
        self._follow()
        self._run([step for step in self._steps if step.bottoms], keep=self._can_train)
        return {name: self._data(name) for name in self.outputs}

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
        if not self._ran:
            raise RuntimeError("backward: run forward first")
        self._seeds = self._read_seeds({**(mapping or {}), **top_diffs})
        if not self._can_train:  # what backward needs was not kept: once more, keeping it
            self._run([step for step in self._steps if step.active], keep=True)
        expand = self._holding([s for s in self._seeds if s in self._hidden])
        self._zeros = {}
        self._diffs, self._dropped = self._run_back(
            expand, keep_all=not self.fused, accumulate=True
        )
        return {name: self._diff(name) for name in self.inputs}

    @property
    def loss(self) -> float:
        return float(sum(
            weight * float(self._values[slot].sum())
            for step in self._graph.steps
            for slot, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight and slot in self._values
        ))

    def clear_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        for blob in self.learned().values():
            blob.clear()

    def learned(self) -> dict[str, ParameterBlob]:
        """All parameters, once each, by layer and number: ``{"conv1[0]": blob}``."""
        found: dict[int, tuple[str, ParameterBlob]] = {}
        for step in self._graph.steps:
            for k, blob in enumerate(step.layer.params):
                found.setdefault(id(blob), (f"{step.layer.name}[{k}]", blob))
        return dict(found.values())

    def copy_from(self, path: str | os.PathLike[str]) -> list[str]:
        """Take over the parameters of a caffemodel for all layers of the same name.

        Returns the names of those layers. Raises ValueError, and changes nothing, if none has
        its name there or shapes differ; FormatError if the file is damaged.
        """
        return load_weights(path, self._graph.steps, self._context)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all parameters as a caffemodel."""
        save_weights(path, self._graph.steps, self.name)

    def share_from(self, other: Net) -> None:
        """Use the very parameters of another network in all layers of the same name."""
        share_weights(other._graph.steps, self._graph.steps)

    def state(self) -> dict[str, int]:
        """The random state: with the parameters, all that the next passes depend on."""
        return {"seed": self._context.seed, "passes": self._context.passes}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Take over what `state` gave."""
        self._context.seed, self._context.passes = int(state["seed"]), int(state["passes"])

    # -- shapes and needs ---------------------------------------------------------------------

    def _infer(self, steps: Iterable[Step], declare: bool = False) -> None:
        """Work out all shapes, and at the first time make the parameters."""
        named: dict[str, ParameterBlob] = {}
        for step in steps:
            bottoms = [self._shapes[slot] for slot in step.bottoms]
            tops = step.layer.shapes(*bottoms)
            self._shapes.update(zip(step.tops, tops, strict=True))
            if declare:
                declared = step.layer.declare(*bottoms)
                step.layer.params = make_parameters(step.layer, declared, named, self._forced)

    def _mark(self) -> None:
        """Find out which steps backward has to visit, and where it has to go from there."""
        need = dict.fromkeys(self._input_slots.values(), self._forced)
        for step in self._graph.steps:
            allowed = step.layer.spec.propagate_down or [True] * len(step.bottoms)
            step.need = tuple(
                need[slot] and yes for slot, yes in zip(step.bottoms, allowed, strict=True)
            )
            learns = any(blob.wanted for blob in step.layer.params)
            step.active = not step.layer.stops and (any(step.need) or learns)
            need.update(dict.fromkeys(step.tops, step.active))

    def _find_kept(self) -> set[int]:
        """Slots whose arrays stay after their last use: blobs, and what recomputing starts from."""
        kept = {slots[-1] for slots in self._graph.versions.values()}
        kept |= {slot for step in self._graph.steps if not step.bottoms for slot in step.tops}
        kept |= set(self._input_slots.values())
        for step in self._steps:
            kept |= set(step.tops) if any(step.loss_weights) else set()
            kept |= set(step.bottoms) if isinstance(step, FusedStep) else set()
        return kept

    @property
    def _can_train(self) -> bool:
        return self._context.phase == "TRAIN" or self._forced

    def _forget(self) -> None:
        """Drop what the last passes left, but the inputs."""
        inputs = set(self._input_slots.values())
        self._values = {slot: a for slot, a in self._values.items() if slot in inputs}
        self._diffs: dict[int, Array] = {}
        self._zeros: dict[str, Array] = {}
        self._dropped: set[int] = set()
        self._seeds: dict[int, Array] = {}
        self._ran = False
        for step in self._steps:
            step.cache = None

    def _feed(self, inputs: Mapping[str, Any]) -> None:
        arrays = {}
        for name, value in inputs.items():
            if name not in self._input_slots:
                raise ValueError(f"{name}: not an input (those are {', '.join(self.inputs)})")
            array = as_array(value, self._context.xp)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{name}: expected an array of real numbers, got {array.dtype}")
            arrays[self._input_slots[name]] = array.astype(self._context.dtype, copy=False)
        self._values.update(arrays)

    def _follow(self) -> None:
        """Let all shapes follow those of the inputs."""
        changed = False
        for slot, array in self._values.items():
            changed = changed or self._shapes[slot] != array.shape
            self._shapes[slot] = array.shape
        for name, slot in self._input_slots.items():
            if slot not in self._values:
                self._data(name)
        if changed:
            self._infer(step for step in self._graph.steps if step.bottoms)

    def _reshape_input(self, name: str, shape: Sequence[int]) -> None:
        if name not in self._input_slots:
            raise ValueError(f"{name}: only inputs can be reshaped")
        slot = self._input_slots[name]
        self._values.pop(slot, None)
        self._shapes[slot] = tuple(shape)
        self._infer(step for step in self._graph.steps if step.bottoms)

    # -- the two passes -----------------------------------------------------------------------

    def _run(self, steps: Sequence[Step], keep: bool) -> None:
        """Run steps forward; drop arrays after their last use."""
        uses: dict[int, int] = {}
        for step in steps:
            for slot in step.bottoms:
                uses[slot] = uses.get(slot, 0) + 1
        for step in steps:
            tops, cache = step.layer.forward(*(self._values[slot] for slot in step.bottoms))
            self._values.update(zip(step.tops, tops, strict=True))
            step.cache = cache if keep and step.active else None
            for slot in step.bottoms:
                uses[slot] -= 1
                if not uses[slot] and slot not in self._kept:
                    del self._values[slot]
        self._ran = True

    def _run_back(
        self, expand: set[FusedStep], keep_all: bool, accumulate: bool
    ) -> tuple[dict[int, Array], set[int]]:
        """Run backward from the seeds, fused steps in `expand` layer by layer.

        Returns the gradients of slots, and the slots whose gradient was not kept.
        """
        diffs, dropped, owned = dict(self._seeds), set(), set()
        kept = set(self._seeds) | {slots[0] for name, slots in self._graph.versions.items()
                                   if name in self._input_slots}
        for step in reversed(self._expanded(expand)):
            if not step.active or not any(slot in diffs for slot in step.tops):
                continue
            if isinstance(step, FusedStep):
                dropped |= step.hidden
            dtops = [self._or_zeros(diffs.get(slot), slot) for slot in step.tops]
            dbottoms, dparams = step.layer.backward(dtops, step.cache, step.need)
            for blob, gradient in zip(step.layer.params, dparams, strict=True):
                if accumulate and blob.wanted:
                    blob.accumulate(gradient)
            for slot, wanted, gradient in zip(step.bottoms, step.need, dbottoms, strict=True):
                if not wanted or gradient is None:
                    continue
                if slot in owned:
                    diffs[slot] += gradient
                elif slot in diffs:
                    diffs[slot] = diffs[slot] + gradient
                    owned.add(slot)
                else:
                    diffs[slot] = gradient
            if not keep_all:
                gone = {slot for slot in step.tops if slot in diffs and slot not in kept}
                dropped |= gone
                for slot in gone:
                    del diffs[slot]
        for step in expand:
            for inner in step.steps:
                inner.cache = None
        return diffs, dropped

    def _expanded(self, expand: set[FusedStep]) -> list[Step]:
        """The steps with some fused ones replaced by their originals, run and ready to go back."""
        inner = {step for fused in expand for step in fused.steps}
        order = {step: i for i, step in enumerate(self._graph.steps)}
        for step in sorted(inner, key=order.__getitem__):
            bottoms = [self._compute(slot) for slot in step.bottoms]
            _, step.cache = step.layer.forward(*bottoms)
        whole = [step for step in self._steps if step not in expand]

        def place(step: Step) -> int:
            return order[step.steps[-1] if isinstance(step, FusedStep) else step]

        return sorted([*whole, *inner], key=place)

    def _holding(self, slots: Sequence[int]) -> set[FusedStep]:
        """The fused steps in which the given slots are hidden."""
        fused = [step for step in self._steps if isinstance(step, FusedStep)]
        return {step for step in fused if step.hidden.intersection(slots)}

    def _read_seeds(self, top_diffs: Mapping[str, Any]) -> dict[int, Array]:
        xp, dtype = self._context.xp, self._context.dtype
        seeds = {
            slot: xp.full(self._shapes[slot], weight, dtype)
            for step in self._graph.steps
            for slot, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight
        }
        for name, value in top_diffs.items():
            if name not in self._graph.versions:
                raise ValueError(f"{name}: there is no such blob")
            slot = self._graph.versions[name][-1]
            array = as_array(value, xp).astype(dtype, copy=False)
            if array.shape != self._shapes[slot]:
                raise ValueError(f"{name}: expected a gradient of shape {self._shapes[slot]}, "
                                 f"got {array.shape}")
            seeds[slot] = array
        return seeds

    # -- blobs --------------------------------------------------------------------------------

    def _or_zeros(self, array: Array | None, slot: int) -> Array:
        if array is not None:
            return array
        return self._context.xp.zeros(self._shapes[slot], self._context.dtype)

    def _shape(self, name: str) -> Shape:
        return self._shapes[self._graph.versions[name][-1]]

    def _data(self, name: str) -> Array:
        slot = self._graph.versions[name][-1]
        if slot not in self._values:
            if self._ran and slot in self._hidden:
                self._values[slot] = self._compute(slot)
            else:
                self._values[slot] = self._or_zeros(None, slot)
        return self._values[slot]

    def _compute(self, slot: int) -> Array:
        """The array of a slot; that of a hidden one from the layer that makes it."""
        if slot not in self._hidden:
            return self._values[slot]
        step = next(step for step in self._graph.steps if slot in step.tops)
        tops, _ = step.layer.forward(*(self._compute(bottom) for bottom in step.bottoms))
        return tops[step.tops.index(slot)]

    def _diff(self, name: str) -> Array:
        slots = self._graph.versions[name]
        first = next((s for s in slots if s in self._diffs or s in self._dropped), None)
        if first in self._dropped:
            self._diffs, self._dropped = self._run_back(
                self._holding([first]), keep_all=True, accumulate=False
            )
        if first is not None and first in self._diffs:
            return self._diffs[first]
        if name not in self._zeros:
            self._zeros[name] = self._or_zeros(None, slots[-1])
        return self._zeros[name]


def describe(
    path_or_text: str | os.PathLike[str] | Message, type_: str, variables: Mapping[str, object]
) -> Message:
    """Read a description as a message of the given type."""
    if isinstance(path_or_text, Message):
        return path_or_text
    text, source = read_text(path_or_text)
    return bind(parse(fill_variables(text, variables), source), type_, source)


def _state(spec: Message, given: Message | None, phase: str) -> Message:
    """The state that include and exclude rules are held against."""
    state = Message("NetState")
    for message in (spec.state, given or Message("NetState")):
        state._values.update(message._values)
    state._values["phase"] = phase
    return state


def _fused(net: Net) -> list[Step]:
    steps = fuse(net._graph, net._shapes)
    for step in steps:
        if isinstance(step, FusedStep):
            need = {slot: yes for inner in step.steps
                    for slot, yes in zip(inner.bottoms, inner.need, strict=True)}
            step.need = tuple(need[slot] for slot in step.bottoms)
            step.active = step.steps[-1].active
    return steps
