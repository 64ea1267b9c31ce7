"""Engine: runs the steps of a graph forward and backward, and keeps or remakes their arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from typing import Any

from segaware_np.caffe.alignment import Place, place_crop, put
from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.fusion import FusedStep, fuse
from segaware_np.caffe.graph import Graph, Step
from segaware_np.caffe.layers.base import Context, check_shape
from segaware_np.caffe.parameters import Shared, check_parameters, check_sizes, make_parameters
from segaware_np.files import FormatError
from segaware_np.xp import Array, owner

MAX_NUMBERS = 1 << 33  # of all blobs that stay: 32 GiB in single precision


class Engine:
    """What a network computes with.

    An array lives in its slot while somebody may still need it: forward drops versions of a blob
    that a later layer has replaced, backward (of a fused network) gradients that have been passed
    on. What was dropped or never made is remade when it is asked for.

    Parameters
    ----------
    graph : Graph
    context : Context
    forced : bool
        Gradients go everywhere, to the inputs too.
    fused : bool
    crop : {"aligned", "zero"}, optional
        Where a Crop without ``crop_param`` begins.

    Attributes
    ----------
    shapes : dict of int to tuple
        Of every slot.
    values : dict of int to array
        The slots that hold one.
    ran : bool
        Whether there was a forward pass since the last change.
    """

    def __init__(
        self, graph: Graph, context: Context, forced: bool, fused: bool, crop: str | None
    ) -> None:
        self.graph, self.context, self.forced, self.fused = graph, context, forced, fused
        self.shapes: dict[int, Shape] = {}
        self.values: dict[int, Array] = {}
        self.ran = False
        self._diffs: dict[int, Array] = {}
        self._dropped: set[int] = set()  # slots whose gradient backward passed on and dropped
        self._seeds: dict[int, Array] = {}
        self._owners: Counter[int] = Counter()  # of the gradients' memory

        self.inputs = {name: graph.versions[name][0] for name in graph.inputs}
        self.shapes.update({slot: graph.inputs[name] for name, slot in self.inputs.items()})
        self._declare(crop)
        self._mark_needs()
        self.steps = fuse(graph, self.shapes) if fused else graph.steps
        chains = [step for step in self.steps if isinstance(step, FusedStep)]
        self._hidden: dict[int, list[FusedStep]] = {}
        for chain in chains:
            for slot in chain.hidden:
                self._hidden.setdefault(slot, []).append(chain)
        self._remade = set(self._hidden) | (self._cheap_slots() if fused else set())
        self._kept = self._slots_to_keep()
        self._check_size()

    def _check_size(self) -> None:
        """Raise FormatError if the blobs that stay are more than any machine's memory."""
        count = sum(prod(self.shapes[slot]) for slot in self._kept)
        if count > MAX_NUMBERS:
            most = max(self._kept, key=lambda slot: prod(self.shapes[slot]))
            raise FormatError(f"the network's blobs have {count:,} numbers, beyond all reason (of "
                              f"these {self.graph.names[most]!r} {self.shapes[most]})")

    # -- shapes and needs ---------------------------------------------------------------------

    def _declare(self, crop: str | None) -> None:
        """Work out all shapes for the first time, and make the parameters."""
        known = {slot: Place(slot) for slot in self.inputs.values()}
        declared = []
        for step in self.graph.steps:
            place_crop(step, known, crop)
            self._infer(step, self.shapes)
            put(step, self.shapes, known)
            bottoms = [self.shapes[slot] for slot in step.bottoms]
            declared.append((step.layer, step.layer.declare(*bottoms)))
        check_sizes(declared)
        named: dict[str, Shared] = {}
        for layer, parameters in declared:
            layer.params = make_parameters(layer, parameters, named, self.forced)

    def shapes_for(self, name: str, shape: Shape) -> dict[int, Shape]:
        """The shapes that all slots would have with another one of an input; changes nothing.

        Raises FormatError if it does not fit the network.
        """
        return self._inferred({**self.shapes, self.inputs[name]: shape}, self._readers)

    def _inferred(self, shapes: Mapping[int, Shape], steps: Iterable[Step]) -> dict[int, Shape]:
        """Shapes, with those of the steps' tops worked out anew."""
        found = dict(shapes)
        for step in steps:
            self._infer(step, found)
        return found

    def _infer(self, step: Step, shapes: dict[int, Shape]) -> None:
        bottoms = [shapes[slot] for slot in step.bottoms]
        tops = step.layer.shapes(*bottoms)
        for shape in tops:
            check_shape(step.layer.spec, shape)
        if step.layer.params:
            check_parameters(step.layer, step.layer.declare(*bottoms))
        shapes.update(zip(step.tops, tops, strict=True))

    @property
    def _readers(self) -> list[Step]:
        return [step for step in self.graph.steps if step.bottoms]

    def _mark_needs(self) -> None:
        """Find out which steps backward has to visit, and where it has to go from there."""
        need = dict.fromkeys(self.inputs.values(), self.forced)
        for step in self.graph.steps:
            allowed = step.layer.spec.propagate_down or [True] * len(step.bottoms)
            step.need = tuple(
                need[slot] and yes for slot, yes in zip(step.bottoms, allowed, strict=True)
            )
            learns = any(blob.wanted for blob in step.layer.params)
            step.active = not step.layer.stops and (any(step.need) or learns)
            need.update(dict.fromkeys(step.tops, step.active))

    def _slots_to_keep(self) -> set[int]:
        """Slots that keep their array: blobs, and what the remaking of others starts from."""
        kept = {slots[-1] for slots in self.graph.versions.values()} | set(self.inputs.values())
        for step in self.graph.steps:
            if self._remade.intersection(step.tops):
                kept.update(step.bottoms)
        kept -= self._remade
        for step in self.steps:
            if not step.bottoms or any(step.loss_weights):
                kept.update(step.tops)
        if not self._trains:  # backward will repeat the active steps, from what they read
            active = [step for step in self.steps if step.active]
            made = {slot for step in active for slot in step.tops}
            kept.update(slot for step in active for slot in step.bottoms if slot not in made)
        return kept

    def _cheap_slots(self) -> set[int]:
        """Slots between layers that would rather be remade than kept."""
        read = {slot for step in self.graph.steps for slot in step.bottoms}
        return {
            slot
            for step in self.graph.steps
            for slot, weight in zip(step.tops, step.loss_weights, strict=True)
            if step.layer.cheap and slot in read and not weight
        }

    def reshape(self, slot: int, shape: Shape) -> None:
        """Give an input another shape."""
        self.shapes = self._inferred({**self.shapes, slot: shape}, self._readers)
        self.values.pop(slot, None)

    # -- forward ------------------------------------------------------------------------------

    def forward(self, inputs: Mapping[int, Array]) -> None:
        """Run all steps."""
        self.context.passes += 1
        self.forget()
        self.values.update(inputs)
        for slot in self.inputs.values():
            self.value(slot)
        self._run([step for step in self.steps if not step.bottoms], keep=False)
        if any(self.shapes[slot] != array.shape for slot, array in self.values.items()):
            given = {slot: array.shape for slot, array in self.values.items()}
            self.shapes = self._inferred({**self.shapes, **given}, self._readers)
        self._run([step for step in self.steps if step.bottoms], keep=self._trains)

    @property
    def _trains(self) -> bool:
        """Whether forward keeps what backward needs; in use it does not."""
        return self.context.phase == "TRAIN" or self.forced

    def forget(self) -> None:
        """Drop what the last passes left, but the inputs."""
        inputs = set(self.inputs.values())
        self.values = {slot: a for slot, a in self.values.items() if slot in inputs}
        self._diffs, self._dropped, self._seeds, self.ran = {}, set(), {}, False
        self._owners = Counter()
        for step in self.steps:
            step.cache = None

    def _run(self, steps: Sequence[Step], keep: bool) -> None:
        uses: dict[int, int] = {}
        for step in steps:
            for slot in step.bottoms:
                uses[slot] = uses.get(slot, 0) + 1
        for step in steps:
            tops, cache = step.layer.forward(*(self.values[slot] for slot in step.bottoms))
            self.values.update(zip(step.tops, tops, strict=True))
            step.cache = cache if keep and step.active else None
            for slot in step.bottoms:
                uses[slot] -= 1
                if not uses[slot] and slot not in self._kept:
                    del self.values[slot]
        self.ran = True

    # -- backward -----------------------------------------------------------------------------

    def backward(self, seeds: Mapping[int, Array]) -> None:
        """Run backward from the losses and from given gradients; add to the parameters'."""
        self._seeds = {**self._loss_seeds(), **seeds}
        if not self._trains:  # once more, keeping what backward needs
            self._run([step for step in self.steps if step.active], keep=True)
        self._run_back(self._around(self._seeds), keep_all=not self.fused, accumulate=True)

    def _loss_seeds(self) -> dict[int, Array]:
        return {
            slot: self.context.xp.full(self.shapes[slot], weight, self.context.dtype)
            for step in self.graph.steps
            for slot, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight
        }

    def _run_back(
        self, expand: Collection[FusedStep], keep_all: bool, accumulate: bool
    ) -> None:
        """Run backward from the seeds, the fused steps in `expand` layer by layer."""
        diffs, dropped = dict(self._seeds), set[int]()
        owned: set[int] = set()  # slots whose sum of gradients is an array of our own
        kept = {*self._seeds, *self.inputs.values()}
        for step in reversed(self._expanded(expand)):
            if not step.active or not any(slot in diffs for slot in step.tops):
                continue
            dtops = [diffs[slot] if slot in diffs else self._zeros(slot) for slot in step.tops]
            dbottoms, dparams = step.layer.backward(dtops, step.cache, step.need)
            if accumulate:
                for blob, gradient in zip(step.layer.params, dparams, strict=True):
                    if blob.wanted:
                        blob.accumulate(gradient)
            for slot, wanted, gradient in zip(step.bottoms, step.need, dbottoms, strict=True):
                if wanted and gradient is not None:
                    _add(diffs, owned, slot, gradient)
            if isinstance(step, FusedStep):
                dropped |= step.hidden
            if not keep_all:
                gone = {slot for slot in step.tops if slot in diffs and slot not in kept}
                dropped |= gone
                for slot in gone:
                    del diffs[slot]
        for chain in expand:
            for inner in chain.steps:
                inner.cache = None
        self._diffs, self._dropped = diffs, dropped - diffs.keys()
        self._owners = Counter(map(owner, (*self._seeds.values(), *diffs.values())))

    def _expanded(self, expand: Collection[FusedStep]) -> list[Step]:
        """The steps, with some fused ones replaced by their originals, run and ready to go back."""
        order = {step: i for i, step in enumerate(self.graph.steps)}
        inner = sorted({step for chain in expand for step in chain.steps}, key=order.__getitem__)
        for step in inner:
            _, step.cache = step.layer.forward(*map(self._make, step.bottoms))

        def place(step: Step) -> int:
            return order[step.steps[-1] if isinstance(step, FusedStep) else step]

        return sorted([*(step for step in self.steps if step not in expand), *inner], key=place)

    def _around(self, slots: Iterable[int]) -> set[FusedStep]:
        """The fused steps that hide the given slots."""
        return {chain for slot in slots for chain in self._hidden.get(slot, [])}

    # -- arrays -------------------------------------------------------------------------------

    def value(self, slot: int) -> Array:
        """The array of a slot: one that was not kept is remade, one before any pass is zeros."""
        if slot not in self.values:
            missing = self.ran and slot in self._remade
            self.values[slot] = self._make(slot) if missing else self._zeros(slot)
        return self.values[slot]

    def outputs(self, slots: Iterable[int]) -> list[Array]:
        """The arrays of slots, each in memory of its own: layers may hand on what they read."""
        slots = list(slots)
        for slot in slots:
            self.value(slot)
        owners = Counter(map(owner, self.values.values()))
        for slot in slots:
            self._part(self.values, slot, owners)
        return [self.values[slot] for slot in slots]

    @staticmethod
    def _part(arrays: dict[int, Array], slot: int, owners: Counter[int]) -> None:
        """Copy an array if others share its memory."""
        if owners[mine := owner(arrays[slot])] > 1:
            owners[mine] -= 1
            arrays[slot] = arrays[slot].copy()

    def _make(self, slot: int) -> Array:
        """The array of a slot, if need be from the layers that make it."""
        if slot in self.values:
            return self.values[slot]
        step = self.graph.makers[slot]
        tops, _ = step.layer.forward(*map(self._make, step.bottoms))
        return tops[step.tops.index(slot)]

    def diff(self, slots: Sequence[int]) -> Array:
        """The gradient of a blob: of its first version that has one.

        Where layers work in place, that is the last one that backward comes to, as in Caffe.
        """
        first = next((s for s in slots if s in self._diffs or s in self._dropped), slots[-1])
        if first in self._dropped:
            chains = self._around([first, *self._seeds])
            self._run_back(chains, keep_all=True, accumulate=False)
        if first not in self._diffs:
            self._diffs[first] = self._zeros(first)
        self._part(self._diffs, first, self._owners)
        return self._diffs[first]

    def _zeros(self, slot: int) -> Array:
        return self.context.xp.zeros(self.shapes[slot], self.context.dtype)


def _add(diffs: dict[int, Array], owned: set[int], slot: int, gradient: Any) -> None:
    """Add to the gradient of a slot, in place only where the array is nobody else's."""
    if slot in owned:
        diffs[slot] += gradient
    elif slot in diffs:
        diffs[slot] = diffs[slot] + gradient
        owned.add(slot)
    else:
        diffs[slot] = gradient
