"""What a command's DATA argument may be: built-in scenes, pair lists, folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from segaware_np.data import Dataset, ImageFolder, PairList, SyntheticScenes, VOCFolder
from segaware_np.files import check_file, check_folder, check_writable, remove_leftovers

HELP = (
    "`scenes` (built in; ./scenes is a folder); a text file of `image label` lines; a folder with "
    "SPLIT.txt in it; or a folder of PASCAL VOC's layout"
)
SCENES = "scenes"
_SPLITS = {"train": (0, 400), "val": (1, 50), "test": (2, 50)}  # of scenes: (seed, number)


def add_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """Declare DATA and the options that say how to read it."""
    parser.add_argument("data", metavar="DATA", help=HELP)
    parser.add_argument("--split", default=split, help="which list of the folder, or which scenes")
    parser.add_argument(
        "--root", metavar="FOLDER", help="what the names in a list are relative to (default: the "
        "list's own folder)"
    )
    parser.add_argument(
        "--labels", default="SegmentationClass", metavar="FOLDER", help="VOC layout: the labels"
    )


def open_dataset(
    options: argparse.Namespace, classes: int | None = None, ignore_label: int | None = 255
) -> Dataset:
    """Open what DATA, --split, --root and --labels name: images with labels.

    Parameters
    ----------
    options : argparse.Namespace
    classes, ignore_label : int or None
        Which labels are right; where ``classes`` is None, all are.

    Raises
    ------
    FileNotFoundError
        If it does not exist, or its list or a file in the list is missing.
    ValueError
        If it is none of the known kinds, or the list is damaged, or scenes have more classes.
    """
    if options.data == SCENES:
        return _scenes(options.split, classes)
    path = Path(options.data)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    right: dict[str, int | None] = {"classes": classes, "ignore_label": ignore_label}
    if (path / "ImageSets").is_dir():
        return VOCFolder(path, options.split, options.labels, **right)
    listed = path / f"{options.split}.txt" if path.is_dir() else path
    if not listed.exists():
        raise FileNotFoundError(
            f"{path}: expected {listed.name} (--split names it) or ImageSets in this folder"
        )
    pairs = PairList(listed, options.root, **right)
    if not pairs.labelled:
        raise ValueError(f"{listed}: expected 'image label' in each line, got images alone")
    return pairs


def _scenes(split: str, classes: int | None) -> SyntheticScenes:
    if split not in _SPLITS:
        raise ValueError(f"--split: expected one of {', '.join(_SPLITS)}, got {split}")
    least = len(SyntheticScenes.class_names)
    if classes is not None and classes < least:
        raise ValueError(f"DATA: {SCENES} have {least} classes, the network has {classes}")
    seed, count = _SPLITS[split]
    return SyntheticScenes(count, size=(96, 128), seed=seed)


def label_files(images: Sequence[str], output: str, *more: str) -> list[tuple[Path, Path]]:
    """Pair each image, and each in a folder of images, with the file for its labels.

    Parameters
    ----------
    images : sequence of str
        Files and folders.
    output : str
        The folder for the labels, which is made.
    *more : str
        What follows an image's name in those of further pictures of it.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no image in it.
    FormatError
        If an image is no file on a disk.
    ValueError
        If two images would get one file, or a file to write is an image itself.
    OSError
        If a file cannot be written.
    """
    sources: list[Path] = []
    for path in map(Path, images):
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        sources += ImageFolder(path).paths if path.is_dir() else [path]
    read = {source.resolve() for source in sources}
    made: dict[Path, Path] = {}
    for source in sources:
        check_file(source)
        for end in ("", *more):
            target = Path(output) / f"{source.stem}{end}.png"
            if target in made:
                raise ValueError(f"{made[target]} and {source} would both be labelled in {target}")
            if target.resolve() in read:
                raise ValueError(f"--output: labels would replace the image {target}")
            made[target] = source
    check_folder(output)
    Path(output).mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    for target in made:
        check_writable(target)
    return [(source, Path(output) / f"{source.stem}.png") for source in sources]
