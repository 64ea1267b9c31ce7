"""Images and label maps on disk: pair lists, folders of PASCAL VOC's layout, folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from segaware_np.files import FormatError, read_text
from segaware_np.images import read_image, read_pair, read_palette

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # without loss
_MEMBER = re.compile(r"\s+(-1|0|1)$")


class Dataset(Protocol):
    """What a `Loader` reads: numbered images, each with its labels (None: to be predicted).

    Examples
    --------
    A list of pairs will do, with names:

    >>> class Noise:
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         image = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
    ...         return image, image[..., 0].astype(np.int32) // 128
    ...     def name(self, index):
    ...         return f"noise{index}"
    >>> from segaware_np.data import Loader
    >>> Loader(Noise(), batch=2).batch(0)["label"].shape
    (2, 8, 8)
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, 3) uint8 RGB and labels (H, W) int32."""
        ...

    def name(self, index: int, /) -> str:
        """A name for what is made of this image; need not be unique."""
        ...


class _FilePairs:
    """Image files, all with or all without a file of labels."""

    def __init__(
        self, pairs: list[tuple[Path, Path | None]], classes: int | None, ignore_label: int | None
    ) -> None:
        self._pairs, self._classes, self._ignore_label = pairs, classes, ignore_label

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, 3) uint8 RGB and labels (H, W) int32, None where the image has none.

        Raises
        ------
        FileNotFoundError
            If a file is gone.
        FormatError
            If a file is damaged, labels and image differ in size or do not tell how they lie (see
            `images.read_pair`), or a label is not one of the classes.
        """
        image_path, labels_path = self._pairs[index]
        if labels_path is None:
            return read_image(image_path), None
        image, labels = read_pair(image_path, labels_path)
        self._check(labels, labels_path)
        return image, labels

    def _check(self, labels: np.ndarray, path: Path) -> None:
        wrong, right = labels < 0, "of at least 0"
        if self._classes is not None:
            wrong |= labels >= self._classes
            right = f"from 0 to {self._classes - 1} (classes=...)"
        if self._ignore_label is not None:
            wrong &= labels != self._ignore_label
            right += f" or {self._ignore_label} (ignore_label=...)"
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            raise FormatError(
                f"{path}: expected labels {right}, got {labels[y, x]} in row {y}, column {x}"
            )

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [image for image, _ in self._pairs]

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self._pairs[0][1] is not None

    @property
    def palette(self) -> np.ndarray | None:
        """Colours of the labels, (n, 3) uint8, if the first file of labels has any."""
        path = self._pairs[0][1]
        return None if path is None else read_palette(path)

    def name(self, index: int) -> str:
        """The image file's name without its suffix."""
        return self._pairs[index][0].stem


class PairList(_FilePairs):
    r"""Pairs from a text file, one a line: ``image label``, or ``image`` alone for prediction.

    Fields are separated by a tab if the line has one (so that names may hold spaces: a tab after
    the only name will do), else by white space; empty lines are skipped.

    Parameters
    ----------
    list_file : path-like
        Text in UTF-8, or in UTF-16 with a byte-order mark.
    root : path-like, optional
        Names are relative to this folder, with or without a leading slash (the published lists
        say ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``). By default relative names start
        at the list's own folder and absolute ones stand as they are.
    classes, ignore_label : int or None
        A label below 0, or not below the number of classes where that is given, and that is not
        `ignore_label`, is an error when its image is read, which names its file.

    Raises
    ------
    FileNotFoundError
        If the list, or a file that it names, is missing; the message has the line's number.
    FormatError
        If the list is empty or not text, a line does not have one or two fields, or only some
        lines have labels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from segaware_np.images import write_image, write_labels
    >>> write_image("a.png", np.zeros((4, 6, 3), np.uint8))
    >>> write_labels("a_labels.png", np.ones((4, 6), int))
    >>> _ = Path("train.txt").write_text("a.png a_labels.png\n")
    >>> image, labels = PairList("train.txt")[0]
    >>> image.shape, labels.shape
    ((4, 6, 3), (4, 6))
    """

    def __init__(
        self,
        list_file: str | os.PathLike[str],
        root: str | os.PathLike[str] | None = None,
        *,
        classes: int | None = None,
        ignore_label: int | None = 255,
    ) -> None:
        list_file = Path(list_file)
        pairs: list[tuple[Path, Path | None]] = []
        for place, line in _lines(list_file):
            fields = [name.strip() for name in line.split("\t" if "\t" in line else None)]
            paths = [_under(root, list_file.parent, name) for name in fields if name]
            if len(paths) not in (1, 2):
                raise FormatError(f"{place}: expected 'image label' or 'image', got {line!r}")
            for path in paths:
                if not path.is_file():
                    hint = "" if len(paths) == 2 else " (expected 'image label', space between)"
                    raise FileNotFoundError(f"{place}: no such file: {path}{hint}")
            image, labels = paths[0], paths[1] if len(paths) == 2 else None
            if pairs and (labels is None) != (pairs[0][1] is None):
                raise FormatError(f"{place}: expected all lines with labels or none, got {line!r}")
            pairs.append((image, labels))
        super().__init__(pairs, classes, ignore_label)


class VOCFolder(_FilePairs):
    r"""A folder of PASCAL VOC's layout: ``ImageSets/Segmentation/SPLIT.txt`` lists the names.

    A line is a name without its suffix; a ``1``, ``0`` or ``-1`` behind it, as VOC's lists of one
    class have, is passed over.

    Parameters
    ----------
    root : path-like
        Holds ``JPEGImages`` (files of any image format), ``ImageSets`` and the labels' folder.
    split : str
        Such as ``train`` or ``val``.
    labels : str or None
        The labels' folder: palette PNGs, 255 for void. None: images alone, for prediction.
    classes, ignore_label : int or None
        As for `PairList`.

    Raises
    ------
    FileNotFoundError
        If the split's list or a file that it names is missing.
    FormatError
        If the list is empty or not text.

    Examples
    --------
    >>> from pathlib import Path
    >>> from segaware_np.images import write_image, write_labels
    >>> for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
    ...     Path("voc", folder).mkdir(parents=True)
    >>> write_image("voc/JPEGImages/a.jpg", np.zeros((4, 6, 3), np.uint8))
    >>> write_labels("voc/SegmentationClass/a.png", np.ones((4, 6), int))
    >>> _ = Path("voc/ImageSets/Segmentation/val.txt").write_text("a\n")
    >>> data = VOCFolder("voc", "val")
    >>> len(data), data[0][1].shape
    (1, (4, 6))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        labels: str | None = "SegmentationClass",
        *,
        classes: int | None = None,
        ignore_label: int | None = 255,
    ) -> None:
        root = Path(root)
        images = _Stems(root / "JPEGImages", IMAGE_SUFFIXES)
        maps = None if labels is None else _Stems(root / labels, (".png",))
        pairs: list[tuple[Path, Path | None]] = []
        for place, line in _lines(root / "ImageSets" / "Segmentation" / f"{split}.txt"):
            name = line.strip()
            if _MEMBER.search(name) and name not in images:
                name = _MEMBER.sub("", name)
            image = images.file(name, place)
            pairs.append((image, None if maps is None else maps.file(name, place)))
        super().__init__(pairs, classes, ignore_label)


class PairedFolders(_FilePairs):
    """Images of one folder with the label maps of the same names in another, some held out.

    Parameters
    ----------
    images, labels : path-like
        Folders. Each image has a map of its name, whatever the suffixes; maps of no image are
        passed over.
    split : {"train", "val", "all"}
        All but those held out, those held out, or all.
    hold_out : float
        Share that is held out, above 0 and below 1: at least one image, and one is left.
    seed : int
        Of the draw. It depends on the names alone, not on the machine.
    classes, ignore_label : int or None
        As for `PairList`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, no image in it, or no map of an image's name.
    ValueError
        If `split` is another word, `hold_out` is out of its range, or there are fewer than two
        images to hold one out of.

    Examples
    --------
    >>> from pathlib import Path
    >>> from segaware_np.images import write_image, write_labels
    >>> for name in "abcd":
    ...     for folder in ("photos", "maps"):
    ...         Path(folder).mkdir(exist_ok=True)
    ...     write_image(f"photos/{name}.png", np.zeros((4, 6, 3), np.uint8))
    ...     write_labels(f"maps/{name}.png", np.ones((4, 6), int))
    >>> [len(PairedFolders("photos", "maps", split, 0.25)) for split in ("train", "val", "all")]
    [3, 1, 4]
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str],
        split: str = "train",
        hold_out: float = 0.2,
        seed: int = 0,
        *,
        classes: int | None = None,
        ignore_label: int | None = 255,
    ) -> None:
        if split not in ("train", "val", "all"):
            raise ValueError(f"split: expected 'train', 'val' or 'all', got {split!r}")
        if not 0 < hold_out < 1:
            raise ValueError(f"hold_out: expected a share between 0 and 1, got {hold_out}")
        photos, maps = ImageFolder(images).paths, _Stems(Path(labels), LABEL_SUFFIXES)
        pairs: list[tuple[Path, Path | None]] = []
        for photo in photos:
            pair = photo, maps.file(photo.stem, str(photo))
            if photo.samefile(pair[1]):
                raise ValueError(f"labels: {photo} is an image of its own: expected another folder")
            pairs.append(pair)
        if split != "all":
            chosen = _held_out(len(pairs), hold_out, seed)
            pairs = [p for i, p in enumerate(pairs) if (i in chosen) == (split == "val")]
        super().__init__(pairs, classes, ignore_label)


def _held_out(count: int, share: float, seed: int) -> set[int]:
    if count < 2:
        raise ValueError(f"images: expected at least 2 to hold one out, got {count}")
    number = min(max(round(share * count), 1), count - 1)
    return set(np.random.default_rng(seed).permutation(count)[:number].tolist())


class _Stems:
    """The files of a folder by their names without the suffix, which may be in capitals."""

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self._folder, self._suffixes = folder, suffixes
        self._listed: dict[Path, dict[str, Path]] = {}

    def __contains__(self, name: str) -> bool:
        path = self._folder / name
        return path.name in self._stems(path.parent)

    def _stems(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            known = [path for path in _files(folder) if path.suffix.lower() in self._suffixes]
            known.sort(key=lambda path: self._suffixes.index(path.suffix.lower()), reverse=True)
            self._listed[folder] = {path.stem: path for path in known}  # the first suffix wins
        return self._listed[folder]

    def file(self, name: str, place: str) -> Path:
        path = self._folder / name
        if name not in self:
            raise FileNotFoundError(f"{place}: no such file: {path}{self._suffixes[0]}")
        return self._stems(path.parent)[path.name]


class ImageFolder(_FilePairs):
    """The image files of a folder in the order of their names, without labels, for prediction.

    Folders, pipes and hidden files (``._a.jpg`` of macOS) are passed over, whatever their names.

    Parameters
    ----------
    root : path-like

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.

    Examples
    --------
    >>> from segaware_np.images import write_image
    >>> write_image("a.png", np.zeros((4, 6, 3), np.uint8))
    >>> image, labels = ImageFolder(".")[0]
    >>> image.shape, labels
    ((4, 6, 3), None)
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        files = [path for path in _files(Path(root)) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise FileNotFoundError(f"no image ({', '.join(IMAGE_SUFFIXES)}) in {root}")
        super().__init__([(path, None) for path in files], None, None)


def _files(folder: Path) -> list[Path]:
    """What a folder holds, but folders, pipes and hidden files, as macOS adds ``._a.jpg``."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    named = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in named if path.is_file() or not path.exists()]  # a broken link too


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each non-empty line, after its place ``file:number`` for messages."""
    text = read_text(path)
    if not text.strip():
        raise FormatError(f"{path}: expected at least one line, got none")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def _under(root: str | os.PathLike[str] | None, parent: Path, name: str) -> Path:
    return parent / name if root is None else Path(root) / name.lstrip("/\\")
