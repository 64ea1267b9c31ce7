"""From a picture to its labels by somebody's network: what to feed, and where the scores lie.

Caffe leaves that to a script beside each network. Here the network's own layers tell: which sizes
it takes, where its scores lie on the picture, how much of a border they leave out, and what a
single score means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np

from segaware_np.caffe.alignment import places
from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.coordinates import Line, Lines, corners
from segaware_np.caffe.net import Net
from segaware_np.data import RGB_MEAN
from segaware_np.files import FormatError
from segaware_np.xp import Array, array_module, host

GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as in OpenCV
_KEEPING = {"Crop", "Split", "Interp", "Dropout"}  # behind them scores mean what they did before


class Plan(NamedTuple):
    """How pictures of one size go through a network."""

    size: tuple[int, int]  # of the input
    margins: tuple[int, int]  # rows above the picture and columns to its left
    lines: Lines  # where the scores lie on the input


class Labeller:
    """Labels pictures with a network that has one input for them.

    Parameters
    ----------
    net : Net
    blob : str, optional
        The blob of scores; by default the last output.
    mean : sequence of float, optional
        What is subtracted, one number for each channel of the input (blue, green, red); by default
        that of the published networks. An input of one channel, grey, has no default.
    scale : float
        What the difference is multiplied by.
    threshold : float, optional
        With one channel of scores: above it is class 1. By default 0.5 where they come from a
        Sigmoid; else it must be given.
    stretch : bool
        Lay the scores' corners on the picture's corners, instead of where the layers tell.

    Raises
    ------
    ValueError
        If the network has no such input or blob, or an option is missing or does not fit.
    """

    def __init__(
        self,
        net: Net,
        blob: str | None = None,
        *,
        mean: Sequence[float] | None = None,
        scale: float = 1.0,
        threshold: float | None = None,
        stretch: bool = False,
    ) -> None:
        self.net, self.blob, self.scale, self.stretch = net, blob or net.outputs[-1], scale, stretch
        if self.blob not in net.blobs:
            raise ValueError(f"blob: expected one of the network's, got {self.blob!r}")
        self._graph, self._engine = net._graph, net._engine
        self._slot = self._graph.versions[self.blob][-1]
        shape = self._engine.shapes[self._slot]
        if len(shape) != 4:
            raise ValueError(f"blob {self.blob!r}: expected scores (N, C, H, W), got {shape}")
        self.input = self._only_input()
        self._declared = self._graph.inputs[self.input]
        if len(self._declared) != 4 or self._declared[1] not in (1, 3):
            raise ValueError(f"input {self.input!r}: expected images (N, 3, H, W), got "
                             f"{self._declared}")
        self.mean = self._checked_mean(mean)
        self.classes, self._decide = self._decision(shape[1], threshold)
        self._plans: dict[tuple[int, int], Plan] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Label one picture.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, 3) uint8 RGB. It goes in as BGR (or grey) minus the mean. Where it is smaller
            than the declared input it is filled up at the bottom and on the right; where the
            scores of a network without padding leave a border out, it is mirrored all around.

        Returns
        -------
        numpy.ndarray
            (H, W) int32.

        Raises
        ------
        ValueError
            If the network does not take images of this size.
        """
        height, width = size = image.shape[0], image.shape[1]
        plan = self._plans.get(size) or self._plan(size)
        self._plans[size] = plan
        self.net.forward({self.input: self.net.xp.asarray(self._batch(image, plan))})
        scores = self.net.blobs[self.blob].data[0]
        for axis, (side, margin, line) in enumerate(
            zip((height, width), plan.margins, plan.lines, strict=True), start=1
        ):
            places = [line.back().at(margin + pixel) for pixel in range(side)]
            scores = _sample(scores, np.array(places, float), axis, nearest=self.classes == 0)
        return host(self._decide(scores)).astype(np.int32)

    # -- what the network is ------------------------------------------------------------------

    def _only_input(self) -> str:
        reached, todo = set[int](), [self._slot]
        while todo:
            slot = todo.pop()
            if slot not in reached:
                reached.add(slot)
                todo += self._graph.makers[slot].bottoms if slot in self._graph.makers else ()
        names = [name for name, slot in self._engine.inputs.items() if slot in reached]
        if len(names) != 1:
            raise ValueError(f"blob {self.blob!r}: expected scores that depend on one input, the "
                             f"image, got {', '.join(names) or 'none'}")
        return names[0]

    def _checked_mean(self, mean: Sequence[float] | None) -> np.ndarray:
        channels = self._declared[1]
        if mean is None and channels == 1:
            raise ValueError(f"mean: expected that of the grey images of input {self.input!r}")
        values = np.array(RGB_MEAN[::-1] if mean is None else mean, np.float32).ravel()
        if len(values) != channels or not np.isfinite(values).all():
            raise ValueError(f"mean: expected {channels} finite numbers, got {mean}")
        return values

    def _decision(
        self, channels: int, threshold: float | None
    ) -> tuple[int, Callable[[Array], Array]]:
        """The number of classes (0 where the blob holds labels), and what makes labels of it."""
        if channels != 1:
            if threshold is not None:
                raise ValueError(f"threshold: is for one channel of scores, got {channels}")
            return channels, lambda scores: scores.argmax(0)
        kind = self._made_by()
        if threshold is None and kind == "ArgMax":
            return 0, lambda labels: labels[0]
        if threshold is None and kind != "Sigmoid":
            raise ValueError("threshold: expected the score above which pixels are of class 1, as "
                             f"blob {self.blob!r} has one channel and comes from no Sigmoid (0 for "
                             "what a sigmoid would follow)")
        least = 0.5 if threshold is None else threshold
        return 2, lambda scores: scores[0] > least

    def _made_by(self) -> str:
        """The type of the layer that decides what the scores mean."""
        step = self._graph.makers[self._slot]
        while step.layer.type in _KEEPING and step.bottoms[0] in self._graph.makers:
            step = self._graph.makers[step.bottoms[0]]
        return step.layer.type

    # -- sizes --------------------------------------------------------------------------------

    def _plan(self, picture: tuple[int, int]) -> Plan:
        """The smallest input of those that suit the network whose scores cover the picture."""
        lines, ends = self._reach(self._declared)
        margins = _margin(lines[0]), _margin(lines[1])
        lost = [max(ceil(d - 1 - end), 0) for d, end in zip(self._declared[2:], ends, strict=True)]
        sides = [m + side + n for m, side, n in zip(margins, picture, lost, strict=True)]
        reason = ""
        for size in _sizes(sides, self._declared[2:]):
            try:
                lines, ends = self._reach((1, self._declared[1], *size))
            except FormatError as error:
                reason = reason or f" ({error})"
                continue
            if all(m + side - 1 <= end
                   for m, side, end in zip(margins, picture, ends, strict=True)):
                return Plan(size, margins, lines)
        needs = "" if sides == [*picture] else f", which needs {_pixels(sides)} with its border"
        raise ValueError(f"image: expected one that fits the {_pixels(self._declared[2:])} pixels "
                         f"that the network is made for, got {_pixels(picture)}{needs}{reason}")

    def _reach(self, shape: Shape) -> tuple[Lines, list[Fraction]]:
        """Where the scores of an input of that shape lie on it, and how far the last one goes."""
        shapes = self._engine.shapes_for(self.input, shape)
        lines = self._lines(shapes)
        return lines, [line.at(n - 1) + (line.scale - 1) / 2
                       for line, n in zip(lines, shapes[self._slot][2:], strict=True)]

    def _lines(self, shapes: Mapping[int, Shape]) -> Lines:
        slot = self._engine.inputs[self.input]
        size, scores = shapes[slot][2:], shapes[self._slot][2:]
        source, lines = places(self._graph, shapes)[self._slot]
        if self.stretch:
            lines = corners(size[0], scores[0]), corners(size[1], scores[1])
        elif source != slot and size == scores:
            lines = Line(), Line()
        elif source != slot:
            raise ValueError(f"stretch: the layers between do not tell where {_pixels(scores)} "
                             f"scores lie on {_pixels(size)} pixels; they can be stretched over "
                             "them")
        return lines

    def _batch(self, image: np.ndarray, plan: Plan) -> np.ndarray:
        pixels = image[..., ::-1].astype(np.float32)
        if len(self.mean) == 1:
            pixels = np.rint(pixels @ np.array(GREY[::-1]))[..., None]
        pixels = (pixels - self.mean) * np.float32(self.scale)
        around = [(m, n - m - side) for n, m, side in
                  zip(plan.size, plan.margins, image.shape[:2], strict=True)]
        filled = np.pad(pixels, [*around, (0, 0)], "reflect" if any(plan.margins) else "constant")
        return filled.transpose(2, 0, 1)[None].astype(np.float32)


def label_image(
    net: Net, blob: str, image: np.ndarray, *, mean: Sequence[float] | None = None,
    scale: float = 1.0, threshold: float | None = None, stretch: bool = False,
) -> np.ndarray:
    """Label one image (H, W, 3) uint8 RGB by the scores in a blob. Arguments as for `Labeller`."""
    return Labeller(net, blob, mean=mean, scale=scale, threshold=threshold, stretch=stretch)(image)


def _pixels(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _margin(line: Line) -> int:
    """Pixels before the first score's own."""
    return max(ceil(line.shift - (line.scale - 1) / 2), 0)


def _sizes(sides: Sequence[int], declared: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sizes of the input to be tried: the declared where that is enough, then ``32 k - 31``, what
    is needed, and any other remainder by 32.
    """
    def least(side: int, remainder: int, modulus: int) -> int:
        return side + (remainder - side) % modulus

    tried = [(1, 32), (0, 1), (0, 32), *((r, 32) for r in range(2, 32)), (0, 64)]
    for remainder, modulus in tried:
        rows, columns = (d if d >= side else least(side, remainder, modulus)
                         for side, d in zip(sides, declared, strict=True))
        yield rows, columns


def _sample(scores: Array, places: np.ndarray, axis: int, nearest: bool) -> Array:
    """Scores at places between those along an axis, linearly; the outermost go on for ever."""
    xp = array_module(scores)
    places = places.clip(0, scores.shape[axis] - 1)
    if nearest:
        places = np.floor(places + 0.5)
    low = places.astype(np.intp)
    found = scores.take(xp.asarray(low), axis)
    weight = (places - low).astype(scores.dtype)
    if not weight.any():  # whole pixels
        return found
    high = np.minimum(low + 1, scores.shape[axis] - 1)
    weight = weight.reshape(-1, *(1,) * (scores.ndim - 1 - axis))
    return found + xp.asarray(weight) * (scores.take(xp.asarray(high), axis) - found)
