"""Layer types that read lists of images: with a label each, or with maps of labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.formats.wire import read_blob
from segaware_np.caffe.layers.base import layer_type
from segaware_np.caffe.layers.data import Declared, Source
from segaware_np.data import Augmentation, PairList
from segaware_np.data.order import shuffled
from segaware_np.files import FormatError, read_text
from segaware_np.images import read_image, read_labels

_SIDE = 1 << 14  # pixels, the largest window
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as in OpenCV


class ImageList(Source):
    """What all layers of image lists share: the order, and from a picture to a sample.

    As in Caffe a picture is stretched to the new size, loses the mean, is scaled by one of the
    scale factors (phase TRAIN), padded at the bottom and on the right where it is smaller than
    the crop, cropped (at random in phase TRAIN, else in the middle), mirrored, and multiplied by
    the scale.
    """

    field: ClassVar[str] = "image_data_param"
    inert: ClassVar[tuple[str, ...]] = ("scale", "mean_file", "crop_size", "mirror")
    least: ClassVar[dict[str, int]] = {"batch_size": 1, "ignore_label": 0}

    @classmethod
    def source(cls, spec: Message) -> str:
        return getattr(spec, cls.field).source

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        n, _, h, w = frame = declared_frame(spec.image_data_param, spec.transform_param)
        tops = [Declared(frame), Declared((n, 1, h, w), "labels"), Declared((n, 1, 1, 2), "size")]
        return tops[: len(spec.top)]

    def configure(self) -> None:
        self.param, self.transform = getattr(self.spec, self.field), self.spec.transform_param
        for field in self.inert:
            if field in self.param:
                raise self.error(f"{field} has no effect in {self.field}: use transform_param")
        if "force_gray" in self.transform:
            raise self.error("force_gray has no effect on lists of images: use is_color: false")
        if not self.param.source:
            raise self.error("source: expected the name of a list")
        for field, least in self.least.items():
            if getattr(self.param, field) < least:
                raise self.error(f"{field}: expected at least {least}, "
                                 f"got {getattr(self.param, field)}")
        self.stretched = self.param.new_height, self.param.new_width
        if (self.stretched[0] > 0) != (self.stretched[1] > 0):
            raise self.error("new_height and new_width: expected both or none")
        if any(not 0 < factor < np.inf for factor in self.transform.scale_factors):
            raise self.error("scale_factors: expected positive numbers")
        self.channels = 3 if self.param.is_color else 1
        self._configure_mean()
        # Without a crop the first picture tells the size.
        self._names: Any = None if self.transform.crop_size else self.read_list()

    def _configure_mean(self) -> None:
        values, self.mean_image = self.transform.mean_value, None
        if "mean_file" in self.transform:
            if values:
                raise self.error("mean_file and mean_value exclude each other")
            mean = read_blob(self.transform.mean_file)
            mean = mean[0] if mean.ndim == 4 and len(mean) == 1 else mean
            if mean.ndim != 3 or len(mean) != self.channels:
                raise self.error(f"{self.transform.mean_file}: expected a mean of "
                                 f"{self.channels} channels, got shape {mean.shape}")
            # blue, green, red; and grey three times, as pictures are here
            mean = np.broadcast_to(mean, (3, *mean.shape[1:]))[::-1].transpose(1, 2, 0)
            self.mean_image = mean.astype(np.float32)
        if len(values) not in (0, 1, self.channels):
            raise self.error(f"expected one mean_value or {self.channels}, got {len(values)}")
        blue, green, red = values if len(values) == 3 else (values or [0.0]) * 3
        self.means = (red, green, blue)

    @property
    def names(self) -> Any:
        """The list, read when it is first needed."""
        if self._names is None:
            self._names = self.read_list()
        return self._names

    def read_list(self) -> Any:
        return PairList(self.param.source, self.param.root_folder or self._here())

    def _here(self) -> str | None:
        """The current folder if names begin there, as in Caffe; else they do beside the list."""
        line = read_text(self.param.source).strip().partition("\n")[0]
        first = Path(line.split("\t" if "\t" in line else None)[0].strip()) if line else Path()
        return "." if not first.is_absolute() and first.is_file() else None

    def picture(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and labels, in the size that Caffe would see."""
        image, labels = self.names[place]
        if labels is None:
            raise self.error(f"{self.param.source}: expected lines 'image label'")
        if self.stretched[0]:
            image, labels = stretch(image, labels, self.stretched)
        if not self.param.is_color:
            grey = np.rint(image @ np.array(_GREY)).astype(np.uint8)
            image = np.repeat(grey[..., None], 3, axis=2)
        if self.mean_image is not None:
            if self.mean_image.shape != image.shape:
                raise self.error(f"{self.transform.mean_file}: expected a mean of the picture's "
                                 f"size {image.shape[:2]}, got {self.mean_image.shape[:2]}")
            image = image - self.mean_image
        return image, labels

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, Shape]:
        """Image, labels and the size of the picture, of one sample of the endless sequence."""
        image, labels = self.picture(self.place(number))
        rng = self.context.rng(self.index, 1, number)
        crop, factor = self.transform.crop_size, 1.0
        size = tuple(min(side, crop or side) for side in image.shape[:2])
        if self.phase != "TRAIN":
            image, labels = _centre(image, crop), _centre(labels, crop)
        elif self.transform.scale_factors:
            factor = float(rng.choice(self.transform.scale_factors))
        augment = Augmentation(
            crop=crop or None, scale=(factor, factor), mean=self.means, order="bgr",
            mirror=self.transform.mirror, ignore_label=self.param.ignore_label,
        )
        pixels, filled = augment(image, labels, rng)
        return (pixels[: self.channels] * np.float32(self.transform.scale), np.asarray(filled),
                size)

    def place(self, number: int) -> int:
        """Where in the list a sample of the endless sequence stands."""
        epoch, place = divmod(number + self._skipped(), len(self.names))
        if self.param.shuffle:
            place = shuffled(len(self.names), self.context.seed, self.index, 0, epoch)[place]
        return int(place)

    def _skipped(self) -> int:
        """How many lines are passed over before the first sample."""
        if not self.param.rand_skip:
            return 0
        skip = int(self.context.rng(self.index, 2).integers(self.param.rand_skip))
        if skip >= len(self.names):
            raise self.error(f"rand_skip: {skip} of {len(self.names)} lines to be skipped")
        return skip

    def samples(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = number * self.param.batch_size
        found = [self.sample(first + i) for i in range(self.param.batch_size)]
        sizes = {image.shape for image, _, _ in found}
        if len(sizes) > 1:
            raise self.error("images of one batch differ in size: set crop_size, new_height and "
                             "new_width, or batch_size 1")
        images, labels, dims = (np.stack(part) for part in zip(*found, strict=True))
        return images, labels, dims.reshape(-1, 1, 1, 2)

    def image_shape(self) -> Shape:
        crop = self.transform.crop_size
        size = (crop, crop) if crop else self.picture(0)[0].shape[:2]
        return (self.param.batch_size, self.channels, *size)


def declared_frame(param: Message, transform: Message) -> tuple[int | None, ...]:
    """The shape of a batch of images as far as a list's and the transformation's options tell."""
    crop = transform.crop_size
    size = (crop, crop) if crop else (param.new_height or None, param.new_width or None)
    return (max(param.batch_size, 1), 3 if param.is_color else 1, *size)


@layer_type("ImageSegData")
class ImageSegData(ImageList):
    """Images, label maps and, as a third top, the pictures' sizes (at most the crop's).

    ``label_type`` says what the lines hold beside the image: PIXEL a label map, IMAGE a number for
    all pixels, NONE nothing of use: all pixels are ignored. Ignored pixels, those beyond the
    picture too, have the label ``ignore_label``. Where it is not set (which is IMAGE in
    Caffe, the number of a map's name being 0) the lines tell: numbers or names.
    """

    tops = (1, 3)

    def read_list(self) -> Any:
        type_ = self.param.label_type if "label_type" in self.param else self._label_type()
        if type_ == "PIXEL":
            return super().read_list()
        label = self.param.ignore_label if type_ == "NONE" else None
        return LabelledImages(self.param.source, self.param.root_folder, label)

    def _label_type(self) -> str:
        lines = filter(str.strip, read_text(self.param.source).splitlines())
        found = "IMAGE" if all(line.split()[-1].isdecimal() for line in lines) else "PIXEL"
        self.note(f"no label_type, so the lines tell: {found}")
        return found

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, _, h, w = image = self.image_shape()
        shapes: list[Shape] = [image, (n, 1, h, w), (n, 1, 1, 2)]
        return shapes[: len(self.spec.top)]

    def batch(self, number: int) -> list[np.ndarray]:
        images, labels, dims = self.samples(number)
        return [images, labels[:, None], dims][: len(self.spec.top)]


@layer_type("TwoImageData")
class TwoImageData(ImageSegData):
    """Images, and label maps as grey second images."""

    tops = (2, 2)

    def configure(self) -> None:
        super().configure()
        param = self.spec.two_image_data_param
        if not param.first_is_color or param.second_is_color:
            raise self.error("only a colour image with a grey one (its labels) is supported")


@layer_type("ImageLabelmapData")
class ImageLabelmapData(ImageSegData):
    """HED's and RCF's images with maps of edges, grey values from 0 to 255 as 0 to 1."""

    tops = (2, 2)

    def configure(self) -> None:
        super().configure()
        self.note("edges are rounded to 0 or 1, as HED's, whose crops have no crop_param"
                  if self.context.edges == "HED" else
                  "edges are grey values / 255, as RCF's; HED's Caffe rounds them to 0 or 1")

    def read_list(self) -> Any:
        return PairList(self.param.source, self.param.root_folder or None)

    def batch(self, number: int) -> list[np.ndarray]:
        images, labels = super().batch(number)
        edges = labels / 255
        return [images, np.rint(edges) if self.context.edges == "HED" else edges]


@layer_type("DenseImageData")
class DenseImageData(ImageSegData):
    """SegNet's images and label maps: mirrored and cropped at random, whatever the phase.

    With ENet's ``label_divide_factor`` every so manieth label is taken, along rows and columns.
    """

    tops = (2, 2)
    field, inert = "dense_image_data_param", ("mean_file",)
    least: ClassVar[dict[str, int]] = {"batch_size": 1}

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        param = spec.dense_image_data_param
        n, c, h, w = declared_frame(param, spec.transform_param)
        h, w = (param.crop_height, param.crop_width) if param.crop_height else (h, w)
        factor = max(param.label_divide_factor, 1)
        labels = (-(-side // factor) if side else None for side in (h, w))
        return [Declared((n, c, h, w)), Declared((n, 1, *labels), "labels")][: len(spec.top)]

    def configure(self) -> None:
        super().configure()
        if self.transform.crop_size or self.transform.mirror or self.transform.scale_factors:
            raise self.error("crop_size, mirror and scale_factors of transform_param would part "
                             "images and labels: use crop_height, crop_width and mirror here")
        self.crop = self.param.crop_height, self.param.crop_width
        if (self.crop[0] > 0) != (self.crop[1] > 0):
            raise self.error("crop_height and crop_width: expected both or none")
        self.factor = self.param.label_divide_factor
        if self.factor < 1:
            raise self.error("label_divide_factor: expected at least 1")

    def read_list(self) -> Any:
        return PairList(self.param.source, self.param.root_folder or None)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        size = self.crop if self.crop[0] else self.picture(0)[0].shape[:2]
        labels = (-(-side // self.factor) for side in size)
        n = self.param.batch_size
        return [(n, self.channels, *size), (n, 1, *labels)]

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, Shape]:
        image, labels = self.picture(self.place(number))
        rng = self.context.rng(self.index, 1, number)
        if self.param.mirror and rng.integers(2):
            image, labels = image[:, ::-1], labels[:, ::-1]
        if self.crop[0]:
            room = [side - crop for side, crop in zip(image.shape[:2], self.crop, strict=True)]
            if min(room) < 0:
                raise self.error(f"a picture of {image.shape[:2]} is smaller than the crop")
            cut = tuple(slice(start, start + side) for start, side in
                        zip(rng.integers(0, np.add(room, 1)).tolist(), self.crop, strict=True))
            image, labels = image[cut], labels[cut]
        bgr = image[..., ::-1].astype(np.float32) - np.array(self.means[::-1], np.float32)
        pixels = bgr.transpose(2, 0, 1)[: self.channels] * np.float32(self.transform.scale)
        return pixels, labels[:: self.factor, :: self.factor], image.shape[:2]


@layer_type("WindowSegData")
class WindowSegData(ImageSegData):
    """DeconvNet's windows of images, stretched: lines ``image labels x1 y1 x2 y2``.

    The corners are in the window; what lies beyond the picture is black, its labels ignored.
    """

    def read_list(self) -> Any:
        if self.param.label_type != "PIXEL" and "label_type" in self.param:
            raise self.error("label_type: expected PIXEL")
        return WindowList(self.param.source, self.param.root_folder, self.param.ignore_label)


class WindowList:
    """A list with lines ``image labels x1 y1 x2 y2``, read as what the windows show."""

    def __init__(self, source: str, root: str, ignored: int) -> None:
        self.lines, self.ignored = [], ignored
        for number, line in enumerate(read_text(source).splitlines(), 1):
            words = line.split()
            corners = words[2:]
            if words and not (len(corners) == 4 and all(map(_whole, corners))):
                raise FormatError(f"{source}:{number}: expected 'image labels x1 y1 x2 y2', "
                                  f"got {line!r}")
            if words:
                x1, y1, x2, y2 = map(int, corners)
                if not (x1 <= x2 < x1 + _SIDE and y1 <= y2 < y1 + _SIDE):
                    raise FormatError(f"{source}:{number}: expected x1 <= x2 and y1 <= y2, less "
                                      f"than {_SIDE} apart, got {line!r}")
                self.lines.append((Path(root + words[0]), Path(root + words[1]), x1, y1, x2, y2))
        if not self.lines:
            raise FormatError(f"{source}: expected at least one line, got none")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        path, label_path, x1, y1, x2, y2 = self.lines[index]
        image, labels = read_image(path), read_labels(label_path)
        if labels.shape != image.shape[:2]:
            raise FormatError(f"{label_path}: labels {labels.shape} and image {image.shape[:2]} "
                              "differ in size")
        return _window(image, 0, y1, x1, y2, x2), _window(labels, self.ignored, y1, x1, y2, x2)


def _whole(word: str) -> bool:
    return word.lstrip("-").isdecimal() and len(word) < 8


def _window(array: np.ndarray, beyond: int, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
    """Rows y1 to y2 and columns x1 to x2, ``beyond`` where there is nothing."""
    out = np.full((y2 - y1 + 1, x2 - x1 + 1, *array.shape[2:]), beyond, array.dtype)
    rows, columns = (slice(max(a, 0), min(b + 1, n))
                     for a, b, n in ((y1, y2, array.shape[0]), (x1, x2, array.shape[1])))
    part = array[rows, columns]
    top, left = max(-y1, 0), max(-x1, 0)
    out[top : top + part.shape[0], left : left + part.shape[1]] = part
    return out


@layer_type("ImageData")
class ImageData(ImageList):
    """Images with one integer label each."""

    tops = (1, 2)

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        image, *_ = super().declared(spec)
        return [image, Declared(image.shape[:1], "labels")][: len(spec.top)]

    def read_list(self) -> Any:
        return LabelledImages(self.param.source, self.param.root_folder)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [self.image_shape(), (self.param.batch_size,)][: len(self.spec.top)]

    def batch(self, number: int) -> list[np.ndarray]:
        images, labels, _ = self.samples(number)
        return [images, labels[:, 0, 0]][: len(self.spec.top)]


class LabelledImages:
    """A list with lines ``image number``, read as images whose label map is that number.

    With a label given, what stands behind the images' names is passed over. Without a root
    names begin in the current folder, as in Caffe, or else beside the list.
    """

    def __init__(self, source: str, root: str, label: int | None = None) -> None:
        self.lines: list[tuple[Path, int]] = []
        for number, line in enumerate(read_text(source).splitlines(), 1):
            if not line.strip():
                continue
            words = line.rsplit(None, 1) if label is None else [line.split()[0], str(label)]
            if len(words) != 2 or not re.fullmatch(r"[-+]?\d+", words[1]):
                raise FormatError(f"{source}:{number}: expected 'image label', got {line!r}")
            path = Path(root + words[0].strip())
            if not (root or path.is_file()):
                path = Path(source).parent / path
            if not path.is_file():
                raise FileNotFoundError(f"{source}:{number}: no such file: {path}")
            self.lines.append((path, int(words[1])))
        if not self.lines:
            raise FormatError(f"{source}: expected at least one line, got none")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        path, label = self.lines[index]
        image = read_image(path)
        return image, np.full(image.shape[:2], label, np.int32)


def _centre(array: np.ndarray, crop: int) -> np.ndarray:
    """The middle of an image that is larger than the crop; all of it without one."""
    top, left = (max(side - (crop or side), 0) // 2 for side in array.shape[:2])
    return array[top : top + crop, left : left + crop] if crop else array


def stretch(
    image: np.ndarray, labels: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize: the image bilinearly, its labels to the nearest; pixel centres at half integers."""
    for axis, side in enumerate(size):
        length = image.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, length - 1)
        low = at.astype(np.intp)
        high = np.minimum(low + 1, length - 1)
        weight = np.expand_dims(at - low, tuple({0, 1, 2} - {axis}))
        image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
        labels = labels.take(np.floor(at + 0.5).astype(np.intp), axis)
    return np.rint(image).astype(np.uint8), labels
