"""How two blobs of a network lie on each other, by the layers between.

Long's Caffe, with which FCN and HED were made, aligned the bottoms of a Crop in this way: walk back
from both, by first bottoms, to where they meet, and follow the centres of all windows.
"""

from __future__ import annotations

from collections.abc import Mapping

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Line, Lines
from segaware_np.caffe.graph import Graph, Step
from segaware_np.caffe.layers.shape import Crop

READINGS = ("aligned", "zero")


def way(graph: Graph, shapes: Mapping[int, Shape], slot: int) -> dict[int, Lines | None]:
    """The slots that a slot comes from, by first bottoms, and where its pixels lie on each.

    None where a layer between does not keep pixels in their order.
    """
    lines: Lines | None = (Line(), Line())
    found = {slot: lines}
    while (step := graph.makers.get(slot)) is not None and step.bottoms:
        below = step.layer.lines(*(shapes[bottom] for bottom in step.bottoms))
        if lines is not None:
            lines = below and (lines[0].on(below[0]), lines[1].on(below[1]))
        slot = step.bottoms[0]
        found[slot] = lines
    return found


def offset(graph: Graph, shapes: Mapping[int, Shape], inner: int, outer: int) -> Lines | None:
    """Where the pixels of slot ``inner`` lie on slot ``outer``; None if that cannot be told."""
    a, b = way(graph, shapes, inner), way(graph, shapes, outer)
    common = next((slot for slot in a if slot in b), None)
    if common is None:
        return None
    up, down = a[common], b[common]
    return up and down and (up[0].on(down[0].back()), up[1].on(down[1].back()))


def place_crop(
    step: Step, graph: Graph, shapes: Mapping[int, Shape], reading: str | None
) -> None:
    """Decide where a Crop without ``crop_param`` begins.

    Raises FormatError if the forks of Caffe differ and no reading is given, or if there is none
    as it is wanted.
    """
    layer = step.layer
    if not isinstance(layer, Crop) or "crop_param" in layer.spec or reading == "zero":
        return
    outer, inner = step.bottoms
    lines = offset(graph, shapes, inner, outer)
    whole = lines is not None and all(
        line.scale == 1 and line.shift >= 0 and line.shift.denominator == 1 for line in lines
    )
    aligned = [int(line.shift) for line in lines] if lines and whole else None
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
