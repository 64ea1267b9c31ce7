"""Layer types without bottoms: inputs, dummy data, images and arrays from files.

Batch number i is a pure function of the network's seed and i (random crops, mirroring, order), so
that a run which is stopped and resumed goes through the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.fillers import fill
from segaware_np.caffe.layer import Layer, check_shape, layer_type
from segaware_np.data import Augmentation, PairList
from segaware_np.extras import require
from segaware_np.files import FormatError
from segaware_np.images import read_image
from segaware_np.xp import Array

_IGNORED = 255  # the label of pixels beyond the picture


class Source(Layer):
    """A layer that makes blobs out of nothing."""

    bottoms, tops, stops = (0, 0), (1, 1000), True

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        xp, dtype = self.context.xp, self.context.dtype
        arrays = self.batch(self.context.passes - 1)
        return [xp.asarray(array.astype(dtype, copy=False)) for array in arrays], None

    def batch(self, number: int) -> list[np.ndarray]:
        """Return the tops of the batch of that number."""
        raise TypeError(f"{self.type} has no batches")


@layer_type("Input")
class Input(Source):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        shapes = [tuple(shape.dim) for shape in self.spec.input_param.shape]
        if len(shapes) == 1:
            shapes *= len(self.spec.top)
        if len(shapes) != len(self.spec.top):
            raise self.error(f"expected one shape, or one for each of {len(self.spec.top)} tops, "
                             f"got {len(shapes)}")
        return [check_shape(self.spec, shape) for shape in shapes]


@layer_type("DummyData")
class DummyData(Source):
    def shapes(self, *bottoms: Shape) -> list[Shape]:
        param, count = self.spec.dummy_data_param, len(self.spec.top)
        shapes = [tuple(shape.dim) for shape in param.shape]
        old = list(zip(param.num, param.channels, param.height, param.width, strict=False))
        if shapes and old:
            raise self.error("shape and num, channels, height, width exclude each other")
        shapes = shapes or old
        if len(shapes) not in (1, count) or len(param.data_filler) not in (0, 1, count):
            raise self.error(f"expected one shape and filler, or one for each of {count} tops")
        return [check_shape(self.spec, shape) for shape in shapes * (count // len(shapes))]

    def batch(self, number: int) -> list[np.ndarray]:
        shapes, fillers = self.shapes(), self.spec.dummy_data_param.data_filler
        if not fillers:
            return [np.zeros(shape) for shape in shapes]
        fillers = fillers * (len(shapes) // len(fillers))
        rng = self.context.rng(self.index, number)
        return [fill(f, shape, rng) for f, shape in zip(fillers, shapes, strict=True)]


class _ImageList(Source):
    """Options that all layers of image lists share."""

    def configure(self) -> None:
        self.param, self.transform = self.spec.image_data_param, self.spec.transform_param
        for message, field in ((self.param, "new_height"), (self.param, "new_width"),
                               (self.param, "mean_file"), (self.param, "crop_size"),
                               (self.param, "mirror"), (self.param, "scale"),
                               (self.param, "rand_skip"), (self.transform, "mean_file"),
                               (self.transform, "force_gray")):
            if field in message:
                raise self.error(f"{field} is not supported (crop_size, mirror, mean_value, scale "
                                 "and scale_factors of transform_param are)")
        if self.param.batch_size < 1:
            raise self.error(f"batch_size: expected at least 1, got {self.param.batch_size}")
        means = self.transform.mean_value or [0.0]
        if len(means) not in (1, 3):
            raise self.error(f"expected one mean_value or three, got {len(means)}")
        self.means = tuple(means * (3 // len(means)))  # blue, green, red
        self._names: Any = None

    @property
    def names(self) -> Any:
        """The list, read when it is first needed."""
        if self._names is None:
            self._names = self.read_list()
        return self._names

    def read_list(self) -> Any:
        return PairList(self.param.source, self.param.root_folder or None)

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, Shape]:
        """Image, labels and the size of the picture, of one sample of the endless sequence."""
        epoch, place = divmod(number, len(self.names))
        if self.param.shuffle:
            place = self.context.rng(self.index, 0, epoch).permutation(len(self.names))[place]
        image, labels = self.names[int(place)]
        if labels is None:
            raise self.error(f"{self.param.source}: expected lines 'image label'")
        rng = self.context.rng(self.index, 1, number)
        training = self.phase == "TRAIN"
        crop = self.transform.crop_size
        factor = 1.0
        if training and self.transform.scale_factors:
            factor = float(rng.choice(self.transform.scale_factors))
        elif crop and not training:
            image, labels = _centre(image, crop), _centre(labels, crop)
        augment = Augmentation(
            crop=crop or None, scale=(factor, factor), mean=self.means[::-1], order="bgr",
            mirror=self.transform.mirror, ignore_label=_IGNORED,
        )
        size = image.shape[:2]
        pixels, filled = augment(image, labels, rng)
        return pixels * np.float32(self.transform.scale), np.asarray(filled), size

    def samples(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = number * self.param.batch_size
        found = [self.sample(first + i) for i in range(self.param.batch_size)]
        sizes = {image.shape for image, _, _ in found}
        if len(sizes) > 1:
            raise self.error("images of one batch differ in size: set crop_size, or batch_size 1")
        images, labels, dims = (np.stack(part) for part in zip(*found, strict=True))
        return images, labels, dims.reshape(-1, 1, 1, 2)

    def image_shape(self) -> Shape:
        crop = self.transform.crop_size
        size = (crop, crop) if crop else self.names[0][0].shape[:2]
        return (self.param.batch_size, 3, *size)


@layer_type("ImageSegData")
class ImageSegData(_ImageList):
    """Images, label maps and, as a third top, the pictures' sizes."""

    tops = (1, 3)

    def configure(self) -> None:
        super().configure()
        if self.param.label_type == "IMAGE" and "label_type" in self.param:
            raise self.error("label_type: expected PIXEL or NONE")

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        n, _, h, w = self.image_shape()
        shapes: list[Shape] = [(n, 3, h, w), (n, 1, h, w), (n, 1, 1, 2)]
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


@layer_type("ImageData")
class ImageData(_ImageList):
    """Images with one integer label each."""

    tops = (1, 2)

    def read_list(self) -> Any:
        return _LabelledImages(Path(self.param.source), self.param.root_folder)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [self.image_shape(), (self.param.batch_size,)][: len(self.spec.top)]

    def batch(self, number: int) -> list[np.ndarray]:
        images, labels, _ = self.samples(number)
        return [images, labels[:, 0, 0]][: len(self.spec.top)]


class _LabelledImages:
    """A list with lines ``image number``, read as images whose label map is that number."""

    def __init__(self, source: Path, root: str) -> None:
        self.lines = []
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), start=1):
            name, _, label = line.strip().rpartition(" ")
            if line.strip():
                if not label.lstrip("-").isdigit() or not name:
                    raise FormatError(f"{source}:{number}: expected 'image label', got {line!r}")
                self.lines.append((Path(root + name.strip()), int(label)))
        if not self.lines:
            raise FormatError(f"{source}: expected at least one line, got none")

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        path, label = self.lines[index]
        image = read_image(path)
        return image, np.full(image.shape[:2], label, np.int32)


@layer_type("HDF5Data")
class HDF5Data(Source):
    """Rows of the datasets named like the tops, from all files of a list, round and round."""

    def configure(self) -> None:
        self.param = self.spec.hdf5_data_param
        if self.param.batch_size < 1:
            raise self.error(f"batch_size: expected at least 1, got {self.param.batch_size}")
        self._rows: list[np.ndarray] | None = None

    @property
    def rows(self) -> list[np.ndarray]:
        if self._rows is None:
            self._rows = self._read()
        return self._rows

    def _read(self) -> list[np.ndarray]:
        h5py = require("h5py", extra="caffe")
        files = Path(self.param.source).read_text(encoding="utf-8").split()
        parts: list[list[np.ndarray]] = [[] for _ in self.spec.top]
        for path in files:
            try:
                with h5py.File(path, "r") as file:
                    for top, part in zip(self.spec.top, parts, strict=True):
                        part.append(np.asarray(file[top]))
            except (KeyError, OSError) as error:
                raise self.error(f"{path}: {error}") from error
        rows = [np.concatenate(part) for part in parts if part]
        if len(rows) != len(self.spec.top) or len({len(r) for r in rows}) != 1 or not len(rows[0]):
            raise self.error(f"{self.param.source}: expected datasets of one length for each top")
        return rows

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [(self.param.batch_size, *rows.shape[1:]) for rows in self.rows]

    def batch(self, number: int) -> list[np.ndarray]:
        total, size = len(self.rows[0]), self.param.batch_size
        places = np.arange(number * size, (number + 1) * size)
        epochs, places = places // total, places % total
        if self.param.shuffle:
            orders = {epoch: self.context.rng(self.index, epoch).permutation(total)
                      for epoch in set(epochs.tolist())}
            places = np.array([orders[e][p] for e, p in zip(epochs, places, strict=True)])
        return [rows[places] for rows in self.rows]


def _centre(array: np.ndarray, crop: int) -> np.ndarray:
    """The middle of an image that is larger than the crop (as in use; training crops at random)."""
    top, left = (max(side - crop, 0) // 2 for side in array.shape[:2])
    return array[top : top + crop, left : left + crop]

