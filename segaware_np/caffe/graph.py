"""From a description to a graph: which layers take part, and which array each reads and writes.

A layer that works in place gives its blob a new *version*. Every version is a slot of its own, so
that all layers are pure functions; the blob's name stands for the last one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers import TYPES
from segaware_np.caffe.layers.base import Context, Layer, check_shape
from segaware_np.caffe.layers.data import Input
from segaware_np.caffe.layers.python import find

_REFUSED = {
    "MatRead": "load the array yourself and feed it as an input",
    "HDF5Output": "take the array from net.blobs[name].data after forward and save it with h5py",
    "DenseCRF": "take the scores before it, and refine them with segaware_np.crf",
    "MultiStageMeanfield": "take the scores before it, and refine them with segaware_np.crf",
    "FourImageData": "use ImageSegData, or feed the blobs",
}


@dataclass(eq=False)
class Step:
    """A layer in its place: the slots that it reads and writes, and what backward needs of it."""

    layer: Layer
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]
    loss_weights: tuple[float, ...] = ()
    need: tuple[bool, ...] = ()  # whose bottoms' gradients are wanted
    active: bool = False  # whether backward visits it at all
    cache: Any = None


@dataclass(eq=False)
class Graph:
    """The steps in order, and the slots by the names of their blobs.

    Attributes
    ----------
    makers : dict of int to Step
        The step that makes each slot; inputs have none.
    names : list of str
        The blob's name of each slot; empty for the loss of a layer without a top.
    versions : dict of str to list of int
        The slots of each blob, the first version first.
    """

    steps: list[Step] = field(default_factory=list)
    makers: dict[int, Step] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    versions: dict[str, list[int]] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)

    def outputs(self) -> list[str]:
        """Blobs that no layer reads."""
        read = {slot for step in self.steps for slot in step.bottoms}
        return [name for name, slots in self.versions.items() if slots[-1] not in read]

    def add_slot(self, name: str) -> int:
        self.names.append(name)
        slot = len(self.names) - 1
        if name:
            self.versions.setdefault(name, []).append(slot)
        return slot


def build(net: Message, state: Message, context: Context) -> Graph:
    """Make the graph of the layers that take part in the given state.

    Raises
    ------
    FormatError
        If layer types are unknown, blobs are read before they are made, or made twice.
    """
    graph = Graph()
    for name, shape in _declared_inputs(net):
        graph.inputs[name] = shape
        graph.add_slot(name)
    context.edges = _edges(net)
    for spec in net.layer:
        if not included(spec, state):
            continue
        step = _step(spec, graph, context)
        if isinstance(step.layer, Input):
            if not all(spec.top):
                raise step.layer.error("expected a name for each top")
            graph.inputs.update(zip(spec.top, step.layer.shapes(), strict=True))
        else:
            graph.steps.append(step)
            graph.makers.update(dict.fromkeys(step.tops, step))
    if not graph.names:
        raise net.error("the network has no layers")
    return graph


def _edges(net: Message) -> str | None:
    """Whose Caffe a network reads maps of edges with: HED's crops have no parameters."""
    if not any(spec.type == "ImageLabelmapData" for spec in net.layer):
        return None
    bare = any(spec.type == "Crop" and "crop_param" not in spec for spec in net.layer)
    return "HED" if bare else "RCF"


def _declared_inputs(net: Message) -> list[tuple[str, Shape]]:
    made = {top for layer in net.layer if not layer.bottom for top in layer.top}
    if not (net.input_dim or net.input_shape) and made.issuperset(net.input):
        return []  # the name of an Input layer once more, which Caffe passes over
    count = len(net.input)
    if net.input_dim and net.input_shape:
        raise net.error("input_dim and input_shape exclude each other")
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    if net.input_dim:
        if len(net.input_dim) != 4 * count:
            raise net.error(f"expected 4 input_dim for each of {count} inputs, "
                            f"got {len(net.input_dim)}")
        shapes = [tuple(net.input_dim[4 * i : 4 * i + 4]) for i in range(count)]
    if len(shapes) != count:
        raise net.error(f"expected an input_shape for each of {count} inputs, got {len(shapes)}")
    times = Counter(net.input)
    for name, shape in zip(net.input, shapes, strict=True):
        if not name or times[name] > 1:
            raise net.error(f"input {name!r}: expected a name of its own for each")
        check_shape(net, shape)
    return list(zip(net.input, shapes, strict=True))


def included(spec: Message, state: Message) -> bool:
    """Whether a layer takes part in a network of that state."""
    if spec.include and spec.exclude:
        raise spec.error(f"layer {spec.name!r}: include and exclude exclude each other")
    if spec.include:
        return any(_meets(rule, state) for rule in spec.include)
    return not any(_meets(rule, state) for rule in spec.exclude)


def _meets(rule: Message, state: Message) -> bool:
    return not (
        ("phase" in rule and rule.phase != state.phase)
        or ("min_level" in rule and state.level < rule.min_level)
        or ("max_level" in rule and state.level > rule.max_level)
        or set(rule.stage) - set(state.stage)
        or set(rule.not_stage) & set(state.stage)
    )


def layer_class(spec: Message) -> type[Layer] | None:
    """The class of a layer; None if its type is unknown."""
    return find(spec) if spec.type == "Python" else TYPES.get(spec.type)


def _step(spec: Message, graph: Graph, context: Context) -> Step:
    kind = layer_class(spec)
    if kind is None:
        advice = _REFUSED.get(spec.type, f"there are {', '.join(sorted(TYPES))}")
        raise spec.error(f"layer {spec.name!r}: type {spec.type!r} is not supported: {advice}")
    if spec.blobs:
        raise spec.error(f"layer {spec.name!r}: blobs are read from caffemodels, not from here")
    layer = kind(spec, context, len(graph.steps))
    tops = list(spec.top)
    if layer.loss and not tops:
        tops = [""]
    for what, names, (least, most) in (("bottoms", spec.bottom, layer.bottoms),
                                       ("tops", tops, layer.tops)):
        if not least <= len(names) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise layer.error(f"expected {wanted} {what}, got {len(names)}")
    for name in spec.bottom:
        if name not in graph.versions:
            raise layer.error(f"bottom {name!r} is made by no layer before")
    if spec.propagate_down and len(spec.propagate_down) != len(spec.bottom):
        raise layer.error("expected a propagate_down for each bottom")
    bottoms = tuple(graph.versions[name][-1] for name in spec.bottom)
    for name in filter(None, tops):
        if tops.count(name) > 1 or (name in graph.versions and name not in spec.bottom):
            raise layer.error(f"top {name!r} is made twice")
    weights = _loss_weights(layer, len(tops))
    return Step(layer, bottoms, tuple(graph.add_slot(name) for name in tops), weights)


def _loss_weights(layer: Layer, tops: int) -> tuple[float, ...]:
    weights = layer.spec.loss_weight
    if not weights:
        return (float(layer.loss), *(0.0,) * (tops - 1)) if tops else ()
    if len(weights) != tops:
        raise layer.error(f"expected a loss_weight for each of {tops} tops, got {len(weights)}")
    return tuple(weights)
