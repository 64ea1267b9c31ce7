"""The layer type that reads windows of images with a class each, as R-CNN was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.formats.wire import read_blob
from segaware_np.caffe.layers.base import layer_type
from segaware_np.caffe.layers.data import Declared, Source
from segaware_np.caffe.layers.image import stretch
from segaware_np.files import FormatError, read_text
from segaware_np.images import read_image


class Box(NamedTuple):
    """A window, its corners in it, and the class of what it shows."""

    image: Path
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


@layer_type("WindowData")
class WindowData(Source):
    """Windows drawn at random, ``fg_fraction`` of a batch showing objects, stretched to the crop.

    A window is an object's if it overlaps one by ``fg_threshold`` or more, and background, of
    class 0, below ``bg_threshold``. It is widened so that ``context_pad`` pixels lie around it
    after stretching, and made square first with ``crop_mode: "square"``; beyond the picture are
    zeros.
    """

    tops = (2, 2)

    @classmethod
    def source(cls, spec: Message) -> str:
        return spec.window_data_param.source

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        n, crop = max(spec.window_data_param.batch_size, 1), spec.transform_param.crop_size or None
        return [Declared((n, 3, crop, crop)), Declared((n,), "labels")]

    def configure(self) -> None:
        param, transform = self.spec.window_data_param, self.spec.transform_param
        self.param, self.mirror = param, transform.mirror or param.mirror
        self.crop = transform.crop_size or param.crop_size
        if param.batch_size < 1 or self.crop <= 2 * param.context_pad:
            raise self.error("batch_size and crop_size: expected at least 1, and more than twice "
                             "context_pad")
        if param.crop_mode not in ("warp", "square") or not 0 <= param.fg_fraction <= 1:
            raise self.error('crop_mode and fg_fraction: expected "warp" or "square", and 0 to 1')
        self.scale = transform.scale if "scale" in transform else param.scale
        self.mean = self._read_mean(transform)
        objects, background = self._read()
        count = int(param.batch_size * param.fg_fraction)
        self.pools = [(background, param.batch_size - count), (objects, count)]
        if any(wanted and not boxes for boxes, wanted in self.pools):
            raise self.error(f"{param.source}: expected windows of objects and of background, got "
                             f"{len(objects)} and {len(background)}")

    def _read_mean(self, transform: Message) -> np.ndarray:
        """The mean (rows, columns, BGR) of the crop, or one for all pixels."""
        path = transform.mean_file or self.param.mean_file
        if not path:
            return np.array(transform.mean_value or [0.0], np.float32)
        mean = read_blob(path)
        mean = mean.reshape(mean.shape[-3:])
        top, left = ((length - self.crop) // 2 for length in np.shape(mean)[-2:])
        if min(top, left) < 0 or len(mean) != 3:
            raise self.error(f"{path}: expected a mean of 3 channels, not smaller than the crop, "
                             f"got {mean.shape}")
        return mean[:, top : top + self.crop, left : left + self.crop].transpose(1, 2, 0)

    def _read(self) -> tuple[list[Box], list[Box]]:
        """The windows of objects and those of background."""
        path, root = self.param.source, self.param.root_folder
        words = iter(read_text(path).split())
        objects: list[Box] = []
        background: list[Box] = []
        try:
            for mark in words:
                if mark != "#":
                    raise ValueError(f"expected '#', got {mark!r}")
                next(words)  # the number of the image
                image = Path(root + next(words))
                _, _, _, count = (int(next(words)) for _ in range(4))
                for _ in range(count):
                    label, overlap = int(next(words)), float(next(words))
                    box = Box(image, label, *(int(next(words)) for _ in range(4)))
                    if overlap >= self.param.fg_threshold:
                        objects.append(box)
                    elif overlap < self.param.bg_threshold:
                        background.append(box._replace(label=0))
        except (ValueError, StopIteration, RuntimeError, TypeError) as error:
            raise FormatError(f"{path}: not a list of windows, or cut off ({error})") from error
        return objects, background

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n = self.param.batch_size
        return [(n, 3, self.crop, self.crop), (n,)]

    def batch(self, number: int) -> list[np.ndarray]:
        rng = self.context.rng(self.index, number)
        boxes = [boxes[int(rng.integers(len(boxes)))] for boxes, count in self.pools
                 for _ in range(count)]
        flips = [bool(self.mirror and rng.integers(2)) for _ in boxes]
        images = [self._window(box, flip) for box, flip in zip(boxes, flips, strict=True)]
        return [np.stack(images), np.array([box.label for box in boxes])]

    def _window(self, box: Box, flip: bool) -> np.ndarray:
        """What a window shows, (3, crop, crop)."""
        image = read_image(box.image, upright=False)[..., ::-1]
        spans = self._spans(box)
        parts, places = [], []
        for axis, (low, high) in enumerate(spans):
            inner = max(low, 0), min(high, image.shape[axis] - 1)
            if inner[0] > inner[1]:
                raise self.error(f"{box.image}: a window lies beyond the picture")
            factor = self.crop / (high - low + 1)
            start = min(round((inner[0] - low) * factor), self.crop - 1)
            side = min(max(round((inner[1] - inner[0] + 1) * factor), 1), self.crop - start)
            parts.append(slice(inner[0], inner[1] + 1))
            places.append(slice(start, start + side))
        part = image[tuple(parts)]
        size = places[0].stop - places[0].start, places[1].stop - places[1].start
        stretched, _ = stretch(part, np.zeros(part.shape[:2], np.int32), size)
        out = np.zeros((self.crop, self.crop, 3), np.float32)
        mean = np.broadcast_to(self.mean, out.shape)[tuple(places)]
        out[tuple(places)] = (stretched - mean) * np.float32(self.scale)
        return (out[:, ::-1] if flip else out).transpose(2, 0, 1)

    def _spans(self, box: Box) -> list[tuple[int, int]]:
        """Rows and columns of the window with what is around it."""
        sides = [(box.y1, box.y2), (box.x1, box.x2)]
        square, pad = self.param.crop_mode == "square", self.param.context_pad
        if not (square or pad):
            return sides
        factor = self.crop / (self.crop - 2 * pad)
        halves = [(high - low + 1) / 2 for low, high in sides]
        middles = [low + half for (low, _), half in zip(sides, halves, strict=True)]
        halves = [max(halves)] * 2 if square else halves
        return [(round(middle - half * factor), round(middle + half * factor))
                for middle, half in zip(middles, halves, strict=True)]
