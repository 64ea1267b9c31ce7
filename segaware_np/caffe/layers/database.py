"""The layer type that reads databases of images, as Caffe's ``convert_imageset`` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.formats.wire import Datum, read_blob, read_datum
from segaware_np.caffe.layers.base import layer_type
from segaware_np.caffe.layers.data import Declared, Source
from segaware_np.extras import require
from segaware_np.files import FormatError


@layer_type("Data")
class Data(Source):
    """Images and their labels out of an LMDB, in the order of its keys, round and round.

    As in Caffe an image loses its mean, is cropped (at random in phase TRAIN, else in the middle),
    mirrored, and multiplied by the scale.
    """

    tops = (1, 2)

    @classmethod
    def source(cls, spec: Message) -> str:
        return spec.data_param.source

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        n, crop = max(spec.data_param.batch_size, 1), spec.transform_param.crop_size or None
        return [Declared((n, None, crop, crop)), Declared((n,), "labels")][: len(spec.top)]

    def configure(self) -> None:
        self.param, self.transform = self.spec.data_param, self.spec.transform_param
        for field in ("scale", "mean_file", "crop_size", "mirror"):
            if field in self.param:
                raise self.error(f"{field} has no effect in data_param: use transform_param")
        if self.param.batch_size < 1:
            raise self.error(f"batch_size: expected at least 1, got {self.param.batch_size}")
        self.mean = self._read_mean()
        self.rows = self._open()

    def _open(self) -> Database:
        path = Path(self.param.source)
        if not path.exists():
            raise FileNotFoundError(f"no such database: {path}")
        if self.param.backend == "LEVELDB" and not (path / "data.mdb").exists():
            raise self.error("LevelDB is not read: convert the images to LMDB, or use ImageData")
        place = str(path.resolve())
        return _OPEN.get(place) or _OPEN.setdefault(place, Database(path))

    def _read_mean(self) -> np.ndarray | None:
        values = self.transform.mean_value
        if "mean_file" not in self.transform:
            return np.array(values, np.float32).reshape(-1, 1, 1) if values else None
        if values:
            raise self.error("mean_file and mean_value exclude each other")
        mean = read_blob(self.transform.mean_file)
        return mean.reshape(mean.shape[-3:]).astype(np.float32)

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        image = self._image(0)
        n = self.param.batch_size
        return [(n, *image.shape), (n,)][: len(self.spec.top)]

    def batch(self, number: int) -> list[np.ndarray]:
        first = number * self.param.batch_size
        places = range(first, first + self.param.batch_size)
        images = [self._image(place) for place in places]
        if len({image.shape for image in images}) > 1:
            raise self.error("images of one batch differ in size: set crop_size, or batch_size 1")
        labels = [self.rows[self._place(place)].label for place in places]
        return [np.stack(images), np.array(labels)][: len(self.spec.top)]

    def _place(self, number: int) -> int:
        skip = 0
        if self.param.rand_skip:
            skip = int(self.context.rng(self.index, 2).integers(self.param.rand_skip))
        return (number + skip) % len(self.rows)

    def _image(self, number: int) -> np.ndarray:
        image = self.rows[self._place(number)].image.astype(np.float32)
        if self.mean is not None:
            if self.mean.shape[0] not in (1, len(image)) or (
                self.mean.shape[1:] not in ((1, 1), image.shape[1:])
            ):
                raise self.error(f"a mean {self.mean.shape} does not fit images {image.shape}")
            image = image - self.mean
        rng = self.context.rng(self.index, 1, number)
        if crop := self.transform.crop_size:
            room = [side - crop for side in image.shape[1:]]
            if min(room) < 0:
                raise self.error(f"an image {image.shape} is smaller than crop_size {crop}")
            top, left = (side // 2 for side in room)
            if self.phase == "TRAIN":
                top, left = rng.integers(0, np.add(room, 1)).tolist()
            image = image[:, top : top + crop, left : left + crop]
        if self.transform.mirror and rng.integers(2):
            image = image[..., ::-1]
        return image * np.float32(self.transform.scale)


class Database:
    """The records of an LMDB, by their place in the order of keys."""

    def __init__(self, path: Path) -> None:
        lmdb = require("lmdb", extra="lmdb")
        self.path = path
        try:
            self._environment = lmdb.open(str(path), readonly=True, lock=False,
                                          subdir=path.is_dir(), create=False)
            with self._environment.begin() as transaction:
                self._keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        except lmdb.Error as error:
            raise FormatError(f"{path}: not an LMDB, or a damaged one ({error})") from error
        if not self._keys:
            raise FormatError(f"{path}: expected at least one record, got none")

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: int) -> Datum:
        with self._environment.begin() as transaction:
            record: Any = transaction.get(self._keys[place])
        return read_datum(record, f"{self.path}, record {self._keys[place].decode('latin-1')!r}")


# A process may open a database once; those in use stay here.
_OPEN: WeakValueDictionary[str, Database] = WeakValueDictionary()
