"""What a command's DATA argument may be: built-in scenes, pair lists, folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from segaware_np.data import Dataset, PairList, SyntheticScenes, VOCFolder

HELP = (
    "`scenes` (built in); a text file of `image label` lines; a folder with SPLIT.txt in it; "
    "or a folder of PASCAL VOC's layout"
)
_SCENES = {"train": (0, 400), "val": (1, 50), "test": (2, 50)}  # split: (seed, number of scenes)


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


def open_dataset(options: argparse.Namespace) -> Dataset:
    """Open what DATA, --split, --root and --labels name.

    Raises
    ------
    FileNotFoundError
        If it does not exist, or its list or a file in the list is missing.
    ValueError
        If it is none of the known kinds, or the list is damaged.
    """
    if options.data == "scenes":
        if options.split not in _SCENES:
            raise ValueError(f"--split: expected one of {', '.join(_SCENES)}, got {options.split}")
        seed, count = _SCENES[options.split]
        return SyntheticScenes(count, size=(96, 128), seed=seed)
    path = Path(options.data)
    if path.is_file():
        return PairList(path, options.root)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if (path / "ImageSets").is_dir():
        return VOCFolder(path, options.split, options.labels)
    listed = path / f"{options.split}.txt"
    if listed.is_file():
        return PairList(listed, options.root)
    raise FileNotFoundError(f"{path}: expected {listed.name} or ImageSets in this folder")
