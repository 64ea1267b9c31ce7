"""How blobs of a network lie on each other, by the layers between.

Long's Caffe, with which FCN and HED were made, aligned the bottoms of a Crop in this way: follow
the centres of all windows back, by first bottoms, to where both come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Line, Lines
from segaware_np.caffe.graph import Graph, Step
from segaware_np.caffe.layers.shape import AutoCrop, Crop

READINGS = ("aligned", "zero")


class Place(NamedTuple):
    """Where a slot's pixels lie on the slot that they come from in unbroken order."""

    source: int
    lines: Lines = (Line(), Line())


def places(graph: Graph, shapes: Mapping[int, Shape]) -> dict[int, Place]:
    """The places of all slots."""
    found = {graph.versions[name][0]: Place(graph.versions[name][0]) for name in graph.inputs}
    for step in graph.steps:
        put(step, shapes, found)
    return found


def put(step: Step, shapes: Mapping[int, Shape], found: dict[int, Place]) -> None:
    """Add the places of a step's tops; those of its bottoms are known."""
    below = step.layer.lines(*(shapes[slot] for slot in step.bottoms)) if step.bottoms else None
    for top in step.tops:
        found[top] = Place(top)
        if below is not None:
            source, (rows, columns) = found[step.bottoms[0]]
            found[top] = Place(source, (below[0].on(rows), below[1].on(columns)))


def place_crop(step: Step, known: Mapping[int, Place], reading: str | None) -> None:
    """Decide where a Crop without ``crop_param`` begins.

    Raises FormatError if the forks of Caffe differ and no reading is given, or if there is none
    as it is wanted.
    """
    layer = step.layer
    if not isinstance(layer, Crop) or "crop_param" in layer.spec:
        return
    reading = "aligned" if isinstance(layer, AutoCrop) else reading
    if reading == "zero":
        return
    aligned = _offset(*(known[slot] for slot in step.bottoms))
    if reading == "aligned":
        if aligned is None:
            raise layer.error("crop: the layers between its bottoms do not align them by whole "
                              "pixels")
        layer.offsets = aligned
    elif aligned and any(aligned):
        raise layer.error(
            f"without crop_param it begins at {tuple(aligned)} in the Caffe of FCN's and HED's "
            "time, which aligned it by the layers between, and at (0, 0) in the later one: say "
            "crop='aligned' or crop='zero'"
        )


def _offset(outer: Place, inner: Place) -> list[int] | None:
    """The pixel of one slot on which the first of another lies; None if there is no such."""
    if outer.source != inner.source:
        return None
    lines = [a.on(b.back()) for a, b in zip(inner.lines, outer.lines, strict=True)]
    if any(line.scale != 1 or line.shift < 0 or line.shift.denominator != 1 for line in lines):
        return None
    return [int(line.shift) for line in lines]
