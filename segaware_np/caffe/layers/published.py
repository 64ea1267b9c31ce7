"""The Python layers of published repositories, built in under the names that their files use.

FCN's data layers read one image at a time, at its own size. As with all data layers here, sample
number i depends on the seed and i alone; where theirs draws at random (splits with ``train`` in
their name), so does this, each time from all images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.io import loadmat

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.layers.base import Grads, Layer
from segaware_np.caffe.layers.data import Declared, Source
from segaware_np.caffe.layers.loss import EuclideanLoss
from segaware_np.caffe.layers.python import literal, options, register_layer
from segaware_np.files import FormatError, check_file, read_text
from segaware_np.images import read_image, read_labels
from segaware_np.xp import Array


class FolderData(Source):
    """What the data layers have in common: a folder, a list of names, a mean, tops by kind."""

    tops = (1, 4)
    folder: ClassVar[str]  # the option that names the folder
    lists: ClassVar[str]  # where the list of a split lies in it
    mean: ClassVar[tuple[float, ...] | None] = None  # blue, green, red; None: an option
    kinds: ClassVar[tuple[str, ...]] = ("image", "labels")

    @classmethod
    def source(cls, spec: Message) -> str:
        given = literal(spec.python_param.param_str)
        return str(cls.root(given)) if isinstance(given, dict) and cls.folder in given else "?"

    @classmethod
    def root(cls, given: dict[str, Any]) -> Path:
        """The folder of images and lists."""
        return Path(str(given[cls.folder]))

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        return [Declared((1, 1 if kind in ("labels", "depth") else 3, None, None),
                         "labels" if kind == "labels" else "image")
                for kind in cls.top_kinds(literal(spec.python_param.param_str))]

    @classmethod
    def top_kinds(cls, given: Any) -> tuple[str, ...]:
        """What each top holds."""
        return cls.kinds

    def configure(self) -> None:
        given = self.given = options(self)
        for name in (self.folder, "split") + (("mean",) if self.mean is None else ()):
            if name not in given:
                raise self.error(f"param_str: expected {name!r} in it, got {given}")
        mean = given["mean"] if self.mean is None else self.mean
        try:
            self.means = np.array(mean, np.float32).reshape(3)
        except (TypeError, ValueError):
            raise self.error(f"mean: expected three numbers, got {mean!r}") from None
        count = len(self.top_kinds(given))
        if len(self.spec.top) != count:
            raise self.error(f"expected {count} tops, got {len(self.spec.top)}")
        path = self.root(given) / self.lists.format(split=given["split"])
        self.names = read_text(path).split()
        if not self.names:
            raise FormatError(f"{path}: expected at least one name, got none")
        self.drawn = "train" in str(given["split"]) and bool(given.get("randomize", True))

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [array.shape for array in self.batch(0)]

    def batch(self, number: int) -> list[np.ndarray]:
        place = number % len(self.names)
        if self.drawn:
            place = int(self.context.rng(self.index, number).integers(len(self.names)))
        name = self.names[place]
        return [self.read(kind, name)[None] for kind in self.top_kinds(self.given)]

    def read(self, kind: str, name: str) -> np.ndarray:
        """One top of an image."""
        root = self.root(self.given)
        return self.picture(root, name) if kind == "image" else self.labels(root, name)[None]

    def picture(self, root: Path, name: str) -> np.ndarray:
        """The image, blue first, without its mean."""
        return self.centred(root / "JPEGImages" / f"{name}.jpg")

    def labels(self, root: Path, name: str) -> np.ndarray:
        """The labels."""
        raise TypeError(f"{type(self).__name__} has no labels")

    def centred(self, path: Path) -> np.ndarray:
        """A picture as it goes in."""
        bgr = read_image(path, upright=False)[..., ::-1].astype(np.float32)
        return (bgr - self.means).transpose(2, 0, 1)

    def matrix(self, path: Path, read: Callable[[dict], Any]) -> np.ndarray:
        """A map of integers out of a file of MATLAB's."""
        check_file(path)
        try:
            return np.asarray(read(loadmat(path)), np.int64)
        except (KeyError, IndexError, ValueError, TypeError, NotImplementedError) as error:
            raise self.error(f"{path}: {error}") from error


class VOCSegDataLayer(FolderData):
    """PASCAL VOC: options voc_dir, split, mean."""

    folder, lists = "voc_dir", "ImageSets/Segmentation/{split}.txt"

    def labels(self, root: Path, name: str) -> np.ndarray:
        return read_labels(root / "SegmentationClass" / f"{name}.png")


class SBDDSegDataLayer(FolderData):
    """Hariharan's further annotations of PASCAL VOC: options sbdd_dir, split, mean."""

    folder, lists = "sbdd_dir", "{split}.txt"

    def picture(self, root: Path, name: str) -> np.ndarray:
        return self.centred(root / "img" / f"{name}.jpg")

    def labels(self, root: Path, name: str) -> np.ndarray:
        path = root / "cls" / f"{name}.mat"
        return self.matrix(path, lambda mat: mat["GTcls"][0]["Segmentation"][0])


class NYUDSegDataLayer(FolderData):
    """NYUDv2: options nyud_dir, split, and tops of color, depth, hha, label."""

    folder, lists = "nyud_dir", "{split}.txt"
    mean = (116.190, 97.203, 92.318)
    mean_hha = np.array((132.431, 94.076, 118.477), np.float32)
    mean_log_depth = np.float32(7.844)
    _names: ClassVar[dict[str, str]] = {"color": "image", "label": "labels"}

    @classmethod
    def top_kinds(cls, given: Any) -> tuple[str, ...]:
        tops = given.get("tops", ()) if isinstance(given, dict) else ()
        return tuple(cls._names.get(str(top), str(top)) for top in tops)

    def configure(self) -> None:
        super().configure()
        kinds = self.top_kinds(self.given)
        if not kinds or set(kinds) - {"image", "depth", "hha", "labels"}:
            raise self.error("tops: expected some of color, depth, hha, label, "
                             f"got {self.given.get('tops')}")

    def read(self, kind: str, name: str) -> np.ndarray:
        root = self.root(self.given)
        if kind == "depth":
            depth = read_labels(root / "data" / "depth" / f"img_{name}.png")
            return (np.log(depth.astype(np.float32)) - self.mean_log_depth)[None]
        if kind == "hha":
            hha = read_image(root / "data" / "hha" / f"img_{name}.png", upright=False)
            return (hha.astype(np.float32) - self.mean_hha).transpose(2, 0, 1)
        return super().read(kind, name)

    def picture(self, root: Path, name: str) -> np.ndarray:
        return self.centred(root / "data" / "images" / f"img_{name}.png")

    def labels(self, root: Path, name: str) -> np.ndarray:
        """Classes 0 to 39; 255 where the file has 0."""
        path = root / "segmentation" / f"img_{name}.mat"
        return (self.matrix(path, lambda mat: mat["segmentation"]) - 1) % 256


class SIFTFlowSegDataLayer(FolderData):
    """SIFT Flow, semantic and geometric labels: options siftflow_dir, split."""

    folder, lists = "siftflow_dir", "{split}.txt"
    mean = (114.578, 115.294, 108.353)
    kinds = ("image", "SemanticLabels", "GeoLabels")
    _inner = "spatial_envelope_256x256_static_8outdoorcategories"

    @classmethod
    def declared(cls, spec: Message) -> list[Declared]:
        maps = [Declared((1, 1, None, None), "labels")] * 2
        return [Declared((1, 3, None, None)), *maps]

    def read(self, kind: str, name: str) -> np.ndarray:
        """Classes from 0 on; 255 where the file has none (0, or -1 in geometry)."""
        root = self.root(self.given)
        if kind == "image":
            return self.centred(root / "Images" / self._inner / f"{name}.jpg")
        labels = self.matrix(root / kind / self._inner / f"{name}.mat", lambda mat: mat["S"])
        return ((np.maximum(labels, 0) - 1) % 256)[None]


class PASCALContextSegDataLayer(FolderData):
    """PASCAL-Context with 59 classes: options voc_dir (VOC2010 is in it), context_dir, split."""

    folder, lists = "voc_dir", "ImageSets/Main/{split}.txt"
    mean = (104.007, 116.669, 122.679)
    _other: ClassVar[dict[str, str]] = {"diningtable": "table", "bedcloth": "bedclothes",
                                        "clothes": "cloth"}

    @classmethod
    def root(cls, given: dict[str, Any]) -> Path:
        return Path(str(given["voc_dir"])) / "VOC2010"

    def configure(self) -> None:
        super().configure()
        if "context_dir" not in self.given:
            raise self.error(f"param_str: expected 'context_dir' in it, got {self.given}")
        self.context_folder = Path(str(self.given["context_dir"]))
        every, task = (self._class_names(name) for name in ("labels.txt", "59_labels.txt"))
        self.table = np.zeros(len(every) + 1, np.int64)
        for k, name in enumerate(task, start=1):
            name = self._other.get(name, name)
            if name not in every:
                raise FormatError(f"{self.context_folder / 'labels.txt'}: {name!r} is not there")
            self.table[every.index(name) + 1] = k

    def _class_names(self, name: str) -> list[str]:
        """The names behind the colons of a list of classes, without spaces."""
        lines = read_text(self.context_folder / name).splitlines()
        return [re.sub(r"\s", "", line.partition(":")[2]) for line in lines if ":" in line]

    def labels(self, root: Path, name: str) -> np.ndarray:
        path = self.context_folder / "trainval" / f"{name}.mat"
        labels = self.matrix(path, lambda mat: mat["LabelMap"])
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(self.table):
            raise self.error(f"{path}: expected labels up to {len(self.table) - 1}")
        return self.table[labels]


class SpatialDropout(Layer):
    """ENet's dropout of whole channels: options phase and p.

    As there, an option of phase other than TRAIN multiplies by ``1 / (1 - p)`` too.
    """

    def configure(self) -> None:
        given = options(self)
        try:
            self.p = float(given.get("p", ""))
        except (TypeError, ValueError):
            raise self.error(f"p: expected a number, got {given.get('p')!r}") from None
        if not 0 < self.p < 1:
            raise self.error(f"p: expected a number between 0 and 1, got {self.p}")
        self.drops = given.get("phase") == "TRAIN"

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return [self.image(bottoms[0])]

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        x, xp = bottoms[0], self.context.xp
        rng = self.context.rng(self.index, self.context.passes)
        drawn = rng.random((*x.shape[:2], 1, 1)) if self.drops else np.ones((1, 1, 1, 1))
        factor = xp.asarray((drawn >= self.p) / (1 - self.p), x.dtype)
        return [x * factor], factor

    def backward(self, dtops: Grads, cache: Any, need: Sequence[bool]) -> tuple[Grads, Grads]:
        return [dtops[0] * cache], []


class PythonEuclideanLoss(EuclideanLoss):
    """The loss of pycaffe's example; as of all Python layers its weight must be written."""

    loss = False


for _module, _layer in (
    ("voc_layers", VOCSegDataLayer), ("voc_layers", SBDDSegDataLayer),
    ("nyud_layers", NYUDSegDataLayer), ("siftflow_layers", SIFTFlowSegDataLayer),
    ("pascalcontext_layers", PASCALContextSegDataLayer),
):
    register_layer(_module, _layer.__name__, _layer)
register_layer("spatial_dropout", "SpatialDropoutLayer", SpatialDropout)
register_layer("pyloss", "EuclideanLossLayer", PythonEuclideanLoss)
