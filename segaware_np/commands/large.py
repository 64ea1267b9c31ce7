"""``segaware predict`` of pictures beyond the memory: from a store on disk into another."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np import large
from segaware_np.commands.networks import load_network
from segaware_np.commands.options import whole
from segaware_np.extras import require
from segaware_np.files import FormatError, check_file
from segaware_np.reach import reach

SUFFIXES = (".zarr", ".tif", ".tiff", ".npy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of pictures beyond the memory."""
    group = parser.add_argument_group(
        "pictures beyond the memory",
        "With -o NAME.zarr, the one IMAGE is a .zarr, .tif or .npy file of shape (H, W, 3), read a "
        "piece at a time, and the labels go into that zarr array.",
    )
    group.add_argument("--workers", type=whole(1), help="processes on this machine")
    group.add_argument(
        "--cluster", metavar="URL", help="scheduler of a Dask cluster, tcp://host:8786"
    )
    group.add_argument(
        "--memory",
        type=whole(1),
        metavar="MB",
        help="most memory of a piece: refuse a larger one before it is computed",
    )
    group.add_argument(
        "--resume", action="store_true", help="compute only the labels that a killed run did not"
    )


def wanted(options: argparse.Namespace) -> bool:
    """Whether the labels go into a zarr array."""
    return Path(options.output).suffix == ".zarr"


def run(options: argparse.Namespace) -> None:
    """Label the picture."""
    if options.crf or options.dense or options.gpu:
        raise ValueError("-o NAME.zarr: expected none of --crf, --dense, --gpu with it")
    if len(options.images) != 1:
        raise ValueError(f"-o NAME.zarr: expected one IMAGE, got {len(options.images)}")
    if (options.workers or options.cluster) and Path(options.images[0]).suffix.startswith(".tif"):
        raise ValueError(
            f"{options.images[0]}: expected .zarr or .npy, which other processes can open"
        )
    net = load_network(options.model, "score", partial=options.partial)
    tile = options.tile or large.TILE
    if options.memory:
        _check_memory(net, tile, options.memory * 10**6)
    image = open_picture(options.images[0])
    labels = large.predict(net, image, tile=tile)
    digest = hashlib.sha256(Path(options.model).read_bytes()).hexdigest()
    about = {"model": digest[:16], "image": options.images[0], "tile": tile}
    with _scheduler(options), _progress(options):
        large.write(labels, options.output, resume=options.resume, **about)
    print(f"labelled {labels.shape[0]} x {labels.shape[1]} pixels into {options.output}")


def open_picture(path: str) -> Any:
    """Return a picture (H, W, 3) that is read when it is sliced.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If its name ends otherwise than in one of ``SUFFIXES``, or it holds something else, is
        damaged, or is to be turned before it is looked at.
    """
    suffix = Path(path).suffix.lower()
    if not Path(path).exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected one of {', '.join(SUFFIXES)} for -o NAME.zarr")
    if suffix != ".zarr":
        check_file(path)
    if suffix == ".npy":
        with _reading(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    zarr = require("zarr", extra="large")
    found = zarr.open(path if suffix == ".zarr" else _open_tiff(path), mode="r")
    return found if hasattr(found, "shape") else found["0"]  # OME-Zarr's, and pyramids', largest


def _open_tiff(path: str) -> Any:
    """The store of a TIFF file whose pixels are RGB and lie as they are to be seen."""
    tifffile = require("tifffile", extra="tiff")
    with _reading(path), tifffile.TiffFile(path) as file:
        page = file.pages[0]
        turned = page.tags.valueof("Orientation", 1)
        colours = page.photometric.name
        converted = page.compression.name == "JPEG"  # JPEG's YCbCr becomes RGB as it is read
    if turned != 1:
        raise FormatError(f"{path}: expected a picture stored upright, got orientation {turned}")
    if colours != "RGB" and not (colours == "YCBCR" and converted):
        raise FormatError(f"{path}: expected colours in RGB, got {colours}")
    return tifffile.imread(path, aszarr=True)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Whatever a reader trips over means a damaged file."""
    try:
        yield
    except Exception as error:
        raise FormatError(f"{path}: damaged or of another kind ({error})") from error


def _check_memory(net: Any, tile: int, limit: int) -> None:
    need = large.piece_bytes(net, tile)
    if need > limit:
        fits = isqrt(limit * tile**2 // need)
        sees = max(map(sum, zip(*reach(net)[1:], strict=True)))
        advice = f"--tile {fits} fits" if fits > 2 * sees else "give it more"
        raise ValueError(
            f"--memory: expected at least {need // 10**6} MB for a piece of {tile} pixels, got "
            f"{limit // 10**6}: {advice}"
        )


def _scheduler(options: argparse.Namespace) -> AbstractContextManager:
    """What runs the tasks: threads of this process, processes of this machine, or a cluster."""
    if not (options.workers or options.cluster):
        return nullcontext()
    distributed = require("distributed", extra="cluster")
    stack = ExitStack()
    where = options.cluster
    if options.workers:
        where = stack.enter_context(
            distributed.LocalCluster(n_workers=options.workers, threads_per_worker=1)
        )
    stack.enter_context(distributed.Client(where))
    return stack


def _progress(options: argparse.Namespace) -> AbstractContextManager:
    """Dask's own bar, which knows threads alone; a cluster has a page that shows more."""
    if options.workers or options.cluster:
        return nullcontext()
    return require("dask.diagnostics", extra="large").ProgressBar(dt=1.0)
