"""How far a network sees, and on which grid an image may be cut for it."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import NamedTuple

from segaware_np.net import Net, Node
from segaware_np.window import Pair

_SIDE = 2**5 * 5040 + 1  # of an image that every ratio of resolutions in use divides
_LARGEST = 4096  # pixels of a grid

Spans = dict[str, tuple[int, int]]


class Reach(NamedTuple):
    """What a network sees of an image around the pixels that it labels.

    Pieces of an image that begin at multiples of the grid, have sides ``grid * k + 1`` and reach
    this far beyond what is kept of them give what the whole image gives.

    Attributes
    ----------
    grid : (rows, columns)
        Pixels of the image.
    before, after : (rows, columns)
        Pixels that are seen above and to the left of a cell of the grid, below and to the right.

    Examples
    --------
    >>> Reach().grid  # of a function that treats every pixel on its own
    (1, 1)
    """

    grid: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)


def reach(net: Net, output: str = "score") -> Reach:
    """Return how far a network sees: the support of the gradient of its output by its image.

    Every layer says which span of its inputs a span of its output reads (`Layer.reads`); the walk
    goes from one cell of the grid, in the middle of a large image, back to the input ``image``.
    The grid is the least common multiple of the distances, in image pixels, between neighbouring
    pixels of all layers.

    Parameters
    ----------
    net : Net
    output : str
        Name of a layer; its image is resized to that of the input if it is smaller.

    Returns
    -------
    Reach

    Raises
    ------
    TypeError
        If a layer does not say what it reads.
    ValueError
        If there is no such layer, or one moves the corners of an image, as without padding.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> reach(segmentation_network(3, (4, 8), (1, 1))).grid
    (2, 2)
    """
    plan = net.plan([output])
    rows, columns = (_along(plan, net.inputs, output, axis) for axis in (0, 1))
    return Reach(*zip(rows, columns, strict=True))


class Stretch(NamedTuple):
    """A piece along one axis of an image.

    Attributes
    ----------
    seen : slice
        Pixels that the piece reads; they may lie beyond the image.
    kept : slice
        Pixels that it is for.
    own : slice
        Where these stand among those that it reads.

    Examples
    --------
    >>> piece = Stretch(seen=slice(8, 21), kept=slice(12, 20), own=slice(4, 12))
    >>> np.arange(100)[piece.seen][piece.own].tolist() == list(range(100))[piece.kept]
    True
    """

    seen: slice
    kept: slice
    own: slice


def pieces(length: int, tile: int, grid: int, before: int, after: int) -> list[Stretch]:
    """Return pieces of an axis of sides ``grid * k + 1``, as few as can be, even but for the last,
    which is no larger.

    Parameters
    ----------
    length : int
        Of the axis, pixels.
    tile : int
        Longest side of a piece with all that it sees.
    grid, before, after : int
        Of a `Reach`, along this axis.

    Raises
    ------
    ValueError
        If nothing is left of a tile for what is kept.

    Examples
    --------
    >>> first, second = pieces(length=20, tile=21, grid=4, before=3, after=4)
    >>> first.seen, first.kept, second.seen, second.kept
    (slice(0, 17, None), slice(0, 12, None), slice(8, 21, None), slice(12, 20, None))
    """
    end = -(-max(length - 1, 1) // grid) * grid + 1  # with what is put around the image
    lead, tail = (-(-far // grid) * grid for far in (before, max(after - 1, 0)))
    most = (tile - 1 - lead - tail) // grid * grid
    if most < 1:
        raise ValueError(
            f"tile: expected at least {lead + grid + tail + 1} pixels for a network that sees "
            f"{before} and {after} pixels around a cell of {grid}, got {tile}"
        )
    step = -(-length // (grid * -(-length // most))) * grid
    found = []
    for first in range(0, length, step):
        seen = slice(max(first - lead, 0), min(first + step + tail + 1, end))
        kept = slice(first, min(first + step, length))
        found.append(Stretch(seen, kept, slice(first - seen.start, kept.stop - seen.start)))
    return found


def _along(plan: list[Node], inputs: tuple[str, ...], output: str, axis: int) -> tuple:
    """Grid, and pixels seen before and after a cell of it, along one axis."""
    steps = _steps(plan, inputs, axis)
    grid = lcm(*(step.numerator for step in steps.values()))
    cells = 64
    while True:
        side, first = grid * cells + 1, grid * (cells // 2)
        last = first + grid - 1
        step = steps[output]
        end = (side - 1) // step
        start = {output: (int(first // step), int(min(-(-last // step), end)))}
        low, high = _seen(plan, start, _lengths(plan, inputs, side, axis), axis)["image"]
        if (low > 0 and high < side - 1) or side > _SIDE:
            return grid, first - low, high - last
        cells *= 4  # what it sees leaves this image


def _lengths(plan: list[Node], inputs: tuple[str, ...], side: int, axis: int) -> dict[str, int]:
    """Length of every layer on images of this side."""
    lengths = dict.fromkeys(inputs, side)
    for node in plan:
        lengths[node.name] = node.layer.length([lengths[name] for name in node.inputs], axis)
    return lengths


def _steps(plan: list[Node], inputs: tuple[str, ...], axis: int) -> dict[str, Fraction]:
    """Image pixels from each layer's pixel to the next."""
    steps = {}
    for name, length in _lengths(plan, inputs, _SIDE, axis).items():
        steps[name] = Fraction(_SIDE - 1, max(length - 1, 1))
        if steps[name].numerator > _LARGEST:
            raise ValueError(
                f"net: expected layers that keep the corners of an image in place, got {name!r}, "
                f"which makes {length} pixels of {_SIDE}: images cannot be cut for it"
            )
    return steps


def _seen(plan: list[Node], spans: Spans, lengths: dict[str, int], axis: int) -> Spans:
    """Spans of all layers and inputs that the given spans depend on."""
    spans = dict(spans)
    for node in reversed(plan):
        if node.name in spans:
            sizes = [lengths[name] for name in node.inputs]
            for name, span in zip(
                node.inputs, node.layer.reads(spans[node.name], sizes, axis), strict=True
            ):
                if span is not None:
                    low, high = spans.get(name, span)
                    spans[name] = min(low, span[0]), max(high, span[1])
    return spans
