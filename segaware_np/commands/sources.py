"""What a command's DATA argument may be: built-in scenes, pair lists, folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segaware_np.commands.options import fraction, whole
from segaware_np.data import (
    Dataset,
    ImageFolder,
    PairedFolders,
    PairList,
    SyntheticScenes,
    VOCFolder,
)
from segaware_np.files import check_file, check_folder, check_writable, remove_leftovers

HELP = (
    "`scenes` (built in; ./scenes is a folder); a text file of `image label` lines; a folder with "
    "SPLIT.txt in it; or a folder of PASCAL VOC's layout"
)
SCENES = "scenes"
_SPLITS = {"train": (0, 400), "val": (1, 50), "test": (2, 50)}  # of scenes: (seed, number)


def add_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """Declare DATA and the options that say how to read it."""
    parser.add_argument("data", metavar="DATA", nargs="?", help=f"{HELP}. Or none, and --images")
    parser.add_argument(
        "--split", default=split,
        help="which list of the folder, or which scenes; of --images: train, val (held out) or all",
    )
    parser.add_argument(
        "--root", metavar="FOLDER", help="what the names in a list are relative to (default: the "
        "list's own folder)"
    )
    parser.add_argument(
        "--images", metavar="FOLDER",
        help="instead of DATA: a folder of images, without a list; --labels has their label maps",
    )
    parser.add_argument(
        "--labels", metavar="FOLDER",
        help="with --images: the folder of label maps, each of its image's name; with DATA of "
        "VOC's layout: which folder in it has the labels (default: SegmentationClass)",
    )
    parser.add_argument(
        "--hold-out", type=fraction, default=0.2, metavar="SHARE",
        help="of --images: what --split train leaves to --split val; give both the same",
    )
    parser.add_argument(
        "--hold-out-seed", type=whole(0), default=0, metavar="SEED", help="which are held out"
    )


def open_dataset(
    options: argparse.Namespace, classes: int | None = None, ignore_label: int | None = 255
) -> Dataset:
    """Open what DATA, or --images and --labels, and --split name: images with labels.

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
    right: dict[str, int | None] = {"classes": classes, "ignore_label": ignore_label}
    if options.images is not None or options.data is None:
        return _folders(options, right)
    if options.data == SCENES:
        return _scenes(options.split, classes)
    path = Path(options.data)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if (path / "ImageSets").is_dir():
        return VOCFolder(path, options.split, options.labels or "SegmentationClass", **right)
    listed = path / f"{options.split}.txt" if path.is_dir() else path
    if not listed.exists():
        raise FileNotFoundError(
            f"{path}: expected {listed.name} (--split names it), a text file of lines such as "
            "'images/0001.jpg labels/0001.png', or ImageSets in this folder; folders without a "
            "list: --images FOLDER --labels FOLDER"
        )
    pairs = PairList(listed, options.root, **right)
    if not pairs.labelled:
        raise ValueError(f"{listed}: expected 'image label' in each line, got images alone")
    return pairs


def _folders(options: argparse.Namespace, right: dict[str, Any]) -> PairedFolders:
    if options.images is None:
        raise ValueError(f"DATA: expected {HELP}; or --images FOLDER --labels FOLDER")
    if options.data is not None:
        raise ValueError(f"--images: expected no DATA beside it, got {options.data}")
    if options.labels is None:
        raise ValueError("--labels: expected the folder of the label maps of --images")
    how: tuple[Any, ...] = options.split, options.hold_out, options.hold_out_seed
    return PairedFolders(options.images, options.labels, *how, **right)


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
