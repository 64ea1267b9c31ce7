"""Fusion: chains of layers that the authors spell out, run as one direct operation.

Two chains are recognised:

* Im2col, Tile, Eltwise PROD, Convolution of columns: segmentation-aware convolution. The image
  and the mask go straight in; columns, tiles and products are never made.
* Im2dist, Im2parity, DistLoss: the loss on embeddings. Distances and parity live only while the
  loss is computed; what stays is the one array that backward needs.

The blobs inside a fused chain are *hidden*: `net` computes them from the original steps when
somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.graph import Graph, Step
from segaware_np.caffe.layers.base import Grads
from segaware_np.caffe.layers.loss import DistLoss
from segaware_np.caffe.layers.shape import Tile
from segaware_np.caffe.layers.windowed import Convolution, Im2col, Im2dist, Im2parity
from segaware_np.ops.distance import distance_backward
from segaware_np.ops.embedding_loss import embedding_loss_backward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.xp import Array


@dataclass(eq=False)
class FusedStep(Step):
    """A step that stands for several: `steps`, in their order, with `hidden` slots between."""

    steps: list[Step] = field(default_factory=list)
    hidden: frozenset[int] = frozenset()


class FusedConvolution:
    """Segmentation-aware convolution of an image and a mask with a Convolution's parameters."""

    stops = False

    def __init__(self, convolution: Convolution, columns: Im2col) -> None:
        self.name, self.type = convolution.name, "segmentation-aware convolution"
        self.convolution, self.window = convolution, columns.window

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, mask = bottoms
        params = [p.data for p in self.convolution.params]
        y, cache = segaware_convolution_forward(
            x, mask, *params, window=self.window, groups=self.convolution.groups
        )
        return [y], cache

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        names = {name for name, wanted in zip(("x", "mask"), need, strict=True) if wanted}
        names |= self.convolution.wanted("weight", "bias")
        dx, dmask, *dparams = segaware_convolution_backward(dtops[0], cache, names)
        return [dx, dmask], dparams[: len(self.params)]

    @property
    def params(self) -> list[Any]:
        return self.convolution.params


class FusedDistLoss:
    """The loss on embeddings from the embedding and the labels."""

    stops = False

    def __init__(self, distance: Im2dist, parity: Im2parity, loss: DistLoss) -> None:
        self.name, self.type = loss.name, "loss on embeddings"
        self.layers = distance, parity, loss
        self.params: list[Any] = []

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        distance, parity, loss = self.layers
        embedding, labels = bottoms
        (d,), distance_cache = distance.forward(embedding)
        (same,), _ = parity.forward(labels)
        tops, loss_cache = loss.forward(d, same)
        return tops, (embedding_loss_backward(1, loss_cache), distance_cache)

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [distance_backward(*cache), None], []


def fuse(graph: Graph, shapes: dict[int, Shape]) -> list[Step]:
    """Return the graph's steps with every recognised chain as one `FusedStep`.

    Shapes, parameters and needs of the steps must be known.
    """
    chains = [
        chain
        for step in graph.steps
        for chain in (_convolution(step, graph, shapes), _loss(step, graph))
        if chain is not None
    ]
    chains = _exclusive(chains, graph)
    for chain in chains:
        need = {slot: yes for step in chain.steps
                for slot, yes in zip(step.bottoms, step.need, strict=True)}
        chain.need = tuple(need[slot] for slot in chain.bottoms)
        chain.active = chain.steps[-1].active
    last = {chain.steps[-1]: chain for chain in chains}
    inside = {step for chain in chains for step in chain.steps}
    return [last.get(step, step) for step in graph.steps if step in last or step not in inside]


def _exclusive(chains: list[FusedStep], graph: Graph) -> list[FusedStep]:
    """Leave out chains whose inner blobs are read, or counted as a loss, by a step outside."""
    readers: dict[int, list[Step]] = {}
    for step in graph.steps:
        for slot in step.bottoms:
            readers.setdefault(slot, []).append(step)
    while True:
        inside = {step for chain in chains for step in chain.steps}
        kept = [
            chain
            for chain in chains
            if all(step in inside for slot in chain.hidden for step in readers[slot])
            and not any(any(step.loss_weights) for step in chain.steps[:-1])
        ]
        if len(kept) == len(chains):
            return kept
        chains = kept


def _convolution(step: Step, graph: Graph, shapes: dict[int, Shape]) -> FusedStep | None:
    convolution = step.layer
    if not (isinstance(convolution, Convolution) and convolution.from_columns):
        return None
    product = graph.makers.get(step.bottoms[0])
    if product is None or product.layer.type != "Eltwise" or len(product.bottoms) != 2:
        return None
    if product.layer.operation != "PROD":  # type: ignore[attr-defined]
        return None
    factors = {type(s.layer): s for b in product.bottoms if (s := graph.makers.get(b)) is not None}
    columns, tile = factors.get(Im2col), factors.get(Tile)
    if columns is None or tile is None or tile.layer.along not in (1, -3):  # type: ignore[attr-defined]
        return None
    if columns.layer.window.kernel != convolution.window.kernel:  # type: ignore[attr-defined]
        return None
    image, mask = columns.bottoms[0], tile.bottoms[0]
    if shapes[mask][1] != convolution.window.size:  # one mask, the same for all channels
        return None
    order = [s for s in graph.steps if s in (columns, tile, product, step)]
    return FusedStep(
        FusedConvolution(convolution, columns.layer),  # type: ignore[arg-type]
        (image, mask),
        step.tops,
        step.loss_weights,
        steps=order,
        hidden=frozenset({columns.tops[0], tile.tops[0], product.tops[0]}),
    )


def _loss(step: Step, graph: Graph) -> FusedStep | None:
    if not isinstance(step.layer, DistLoss):
        return None
    distance, parity = (graph.makers.get(slot) for slot in step.bottoms)
    if distance is None or parity is None:
        return None
    if not (isinstance(distance.layer, Im2dist) and isinstance(parity.layer, Im2parity)):
        return None
    return FusedStep(
        FusedDistLoss(distance.layer, parity.layer, step.layer),  # type: ignore[arg-type]
        (distance.bottoms[0], parity.bottoms[0]),
        step.tops,
        step.loss_weights,
        steps=[distance, parity, step],
        hidden=frozenset({distance.tops[0], parity.tops[0]}),
    )
