"""Pictures beyond the memory, on Dask: lazy arrays whose pieces are computed where there is room.

A picture is anything with ``shape``, ``dtype`` and slices: a zarr array, a memory map, what
`tifffile` opens; one task a piece reads its own window of it. Or it is a Dask array. What runs the
tasks is Dask's affair: threads of this process by default, else the current
``distributed.Client``. Needs the extra ``large``.

Given the tile, the result is the same bit for bit with any number of threads, workers and machines
of one kind; against a picture in one piece it is the same to rounding.
"""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segaware_np import crf, inference
from segaware_np.extras import require
from segaware_np.net import Net
from segaware_np.ranges import COUNT, check
from segaware_np.reach import Reach, Stretch, pieces, reach
from segaware_np.window import Window, check_window

TILE = 1024  # pixels
_FORMAT = "segaware_np large"


def score(net: Net, image: Any, *, tile: int = TILE, seen: Reach | None = None) -> Any:
    """Return the scores of all classes, as `inference.score` of the whole picture.

    Parameters
    ----------
    net : Net
        Has a layer ``score``.
    image : (H, W, 3) uint8 array, or anything like it that gives arrays for slices
    tile : int
        Longest side of a piece with all that the network sees, pixels.
    seen : Reach, optional
        By default what `reach.reach` finds out from the network's layers.

    Returns
    -------
    (C, H, W) dask.array.Array

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError, ValueError
        If the picture is none, or the tile too small for what the network sees.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(3, (4,), (1,))
    >>> image = np.random.default_rng(0).integers(0, 256, (61, 81, 3), np.uint8)
    >>> lazy = score(net, image, tile=40)
    >>> lazy.shape, bool(np.allclose(lazy, inference.score(net, image), atol=1e-5))
    ((3, 61, 81), True)
    """
    return _of_net(net, image, "score", inference.score, tile, seen)


def predict(net: Net, image: Any, *, tile: int = TILE, seen: Reach | None = None) -> Any:
    """Return the label of every pixel, as `inference.predict` of the whole picture.

    Parameters and errors are those of `score`.

    Returns
    -------
    (H, W) dask.array.Array
        uint8, or uint16 for more than 256 classes.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(3, (4,), (1,))
    >>> predict(net, np.zeros((61, 81, 3), np.uint8), tile=40)[:2, :3].compute().shape
    (2, 3)
    """
    scores = score(net, image, tile=tile, seen=seen)
    dtype = np.uint8 if scores.shape[0] <= 256 else np.uint16
    return scores.map_blocks(_labels, dtype, drop_axis=0, dtype=dtype)


def embed(net: Net, image: Any, *, tile: int = TILE, seen: Reach | None = None) -> Any:
    """Return the embedding, as `inference.embed` of the whole picture.

    Parameters and errors are those of `score`; the network has a layer ``embedding``.

    Returns
    -------
    (E, H, W) dask.array.Array

    Examples
    --------
    >>> from segaware_np.models import embedding_network
    >>> embed(embedding_network((4,), (1,), 8), np.zeros((61, 81, 3), np.uint8), tile=40).shape
    (8, 61, 81)
    """
    return _of_net(net, image, "embedding", inference.embed, tile, seen)


def refine(
    score: Any, image: Any = None, embedding: Any = None, *, tile: int = TILE, **options: Any
) -> Any:
    """Return refined scores, as `crf.refine` of the whole picture.

    Parameters
    ----------
    score : (C, H, W) array or dask.array.Array
    image : (H, W, 3) uint8 array, optional
    embedding : (E, H, W) array or dask.array.Array, optional
    tile : int
        Longest side of a piece with all that the iterations see, pixels.
    **options
        Those of `crf.refine`.

    Returns
    -------
    (C, H, W) dask.array.Array

    Raises
    ------
    ImportError
        If Dask is not installed.
    ValueError
        If the tile is too small for what the iterations see.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=(3, 40, 50)).astype("float32")
    >>> image = rng.integers(0, 256, (40, 50, 3), np.uint8)
    >>> options = {"window": Window.same(5), "iterations": 2}
    >>> lazy = refine(scores, image, tile=32, **options)
    >>> bool(np.allclose(lazy, crf.refine(scores, image, **options), atol=1e-4))
    True
    """
    window, steps = options.get("window", crf.WINDOW), options.get("iterations", 5)
    check_window(window)
    check("iterations", steps, COUNT)
    da = require("dask.array", extra="large")
    guides = {"image": None if image is None else da.moveaxis(da.asanyarray(image), -1, 0)}
    guides["embedding"] = embedding
    given = {name: guide for name, guide in guides.items() if guide is not None}
    function = partial(_refined, list(given), options)
    return _apart(function, [score, *given.values()], tile, _seen_through(window, steps))


def map_window(
    function: Callable[..., np.ndarray], *arrays: Any, window: Window, steps: int = 1,
    tile: int = TILE,
) -> Any:  # fmt: skip
    """Return a function of windows on images, piece by piece: any operation of `ops`.

    Parameters
    ----------
    function : callable
        ``function(*arrays) -> array`` of NumPy arrays (..., h, w); the result is as large.
    *arrays : (..., H, W) array or dask.array.Array
    window : Window
        Through which it looks; of stride 1, with outputs as large as their input.
    steps : int
        How often, one look after another.
    tile : int
        Longest side of a piece with all that it sees, pixels.

    Returns
    -------
    (..., H, W) dask.array.Array

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError, ValueError
        If the window changes an image's size, or the tile is too small.

    Examples
    --------
    >>> from segaware_np import ops
    >>> x, window = np.random.default_rng(0).random((1, 3, 40, 50)), Window.same(5)
    >>> def smooth(x):
    ...     return ops.bilateral_filter_forward(x, x, 9.0, window=window)[0]
    >>> bool(np.allclose(map_window(smooth, x, window=window, tile=20), smooth(x)))
    True
    """
    check_window(window)
    check("steps", steps, COUNT)
    if window != Window.same(window.kernel, window.dilation) or 0 in (k % 2 for k in window.kernel):
        raise ValueError(f"window: expected outputs as large as the input, got {window}")
    return _apart(function, arrays, tile, _seen_through(window, steps))


def piece_bytes(net: Net, tile: int = TILE, output: str = "score") -> int:
    """Return about how much memory a piece takes while the network labels it.

    Measured on a small picture, whose bytes for each pixel those of a large one exceed little.

    Parameters
    ----------
    net : Net
    tile : int
        Side of the piece, pixels.
    output : str
        Name of a layer.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(3, (4,), (1,))
    >>> piece_bytes(net, 512) > 512**2 * 4 * 4  # more than one image of four channels
    True
    """
    side = 8 * max(reach(net, output).grid) + 1
    image = np.zeros((side, side, 3), np.uint8)
    run = {"score": inference.score, "embedding": inference.embed}[output]
    tracemalloc.start()
    try:
        run(net, image)
        return tracemalloc.get_traced_memory()[1] * tile**2 // side**2
    finally:
        tracemalloc.stop()


def write(array: Any, path: str | os.PathLike[str], *, resume: bool = False, **about: Any) -> None:
    """Compute a lazy array into a zarr array on disk, one chunk a task.

    Its attribute ``finished`` is false until the last chunk is there.

    Parameters
    ----------
    array : dask.array.Array
        With chunks of one size, but for the last along each axis: as they are here.
    path : path-like
        A folder, ``labels.zarr``.
    resume : bool
        Compute only the chunks that a killed `write` did not.
    **about : JSON-able values
        Attributes that tell what was computed, of which model say; resuming compares them.

    Raises
    ------
    FileExistsError
        If there is something at the path, and it is not to be resumed.
    ValueError
        If the chunks differ in size, or what is to be resumed is another array.
    ImportError
        If Dask or zarr is not installed.

    Examples
    --------
    >>> import dask.array, zarr
    >>> write(dask.array.ones((60, 80), chunks=40), "ones.zarr")
    >>> zarr.open("ones.zarr", mode="r")[59, 79].item()
    1.0
    """
    dask, zarr = (require(name, extra="large") for name in ("dask", "zarr"))
    path = Path(path)
    if path.exists() and not resume:
        raise FileExistsError(f"{path} exists: resume it, or take another name")
    shape, chunks = array.shape, array.chunksize
    if any({*along[:-1]} - {along[0]} or along[-1] > along[0] for along in array.chunks):
        raise ValueError(f"array: expected chunks of one size, got {array.chunks}: rechunk it")
    identity = {"format": _FORMAT, "about": about}
    if path.exists():
        target = zarr.open_array(path, mode="r+")
        have = (target.shape, target.chunks, target.dtype, target.attrs.get("about"))
        want = (shape, chunks, array.dtype, about)
        if target.attrs.get("format") != _FORMAT or have != want:
            raise ValueError(f"{path}: expected {want} to resume, got {have}")
    else:
        target = zarr.create_array(
            store=path, shape=shape, chunks=chunks, dtype=array.dtype, zarr_format=2,
            attributes={**identity, "finished": False},
        )  # fmt: skip
    blocks = array.to_delayed()
    store = dask.delayed(_store, pure=False)
    missing = [place for place in np.ndindex(*blocks.shape) if not _chunk(path, place).exists()]
    dask.compute(*(store(blocks[place], path, place, chunks) for place in missing))
    target.attrs["finished"] = True


def _store(block: np.ndarray, path: Path, place: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    zarr = require("zarr", extra="large")
    target = zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
    starts = [i * length for i, length in zip(place, chunks, strict=True)]
    index = tuple(slice(a, a + n) for a, n in zip(starts, block.shape, strict=True))
    target[index] = block


def _chunk(path: Path, place: tuple[int, ...]) -> Path:
    """File of a chunk, which zarr renames into place when it is whole."""
    return path / ".".join(map(str, place))


def _of_net(
    net: Net,
    image: Any,
    output: str,
    run: Callable[[Net, np.ndarray], np.ndarray],
    tile: int,
    seen: Reach | None,
) -> Any:
    """A network on pieces of a picture."""
    da = require("dask.array", extra="large")
    shape: tuple[int, ...] = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", None)
    if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8:
        raise ValueError(f"image: expected uint8 of shape (H, W, 3), got {dtype} of shape {shape}")
    check("tile", tile, COUNT)
    seen = reach(net, output) if seen is None else seen
    axes = zip(shape[:2], *seen, strict=True)
    rows, columns = (pieces(length, tile, *axis) for length, *axis in axes)
    probe = run(net, np.zeros((seen.grid[0] + 1, seen.grid[1] + 1, 3), np.uint8))
    function = partial(run, pickle.loads(pickle.dumps(net)).eval())  # a network of the tasks' own
    if isinstance(image, da.Array):
        picture = [da.moveaxis(image, -1, 0)]
        return _composed(partial(_on_picture, function), picture, rows, columns, probe)
    return da.map_blocks(
        partial(_on_window, function, image, rows, columns),
        chunks=((len(probe),), *_lengths(rows, columns)),
        dtype=probe.dtype,
        meta=probe[:0, :0, :0],
    )


def _on_window(
    function: Callable[[np.ndarray], np.ndarray],
    image: Any,
    rows: Sequence[Stretch],
    columns: Sequence[Stretch],
    block_info: Any = None,
) -> np.ndarray:
    """The piece of a block: reads what it sees, keeps what is its own."""
    *_, i, j = block_info[None]["chunk-location"]
    row, column = rows[i], columns[j]
    with _named(row, column):
        found = function(inference.window_of(image, row.seen, column.seen))
        return np.ascontiguousarray(found[..., row.own, column.own])


def _on_picture(
    function: Callable[[np.ndarray], np.ndarray], row: Stretch, column: Stretch, part: np.ndarray
) -> np.ndarray:
    """The same of a part (3, h, w) that Dask has read."""
    height, width = (s.seen.stop - s.seen.start for s in (row, column))
    picture = np.moveaxis(part, 0, -1)
    return function(inference.window_of(picture, slice(0, height), slice(0, width)))


def _apart(
    function: Callable[..., np.ndarray], arrays: Sequence[Any], tile: int, seen: Reach
) -> Any:
    """A function of images (..., H, W) on pieces of them."""
    da = require("dask.array", extra="large")
    check("tile", tile, COUNT)
    lazy = [da.asanyarray(array) for array in arrays]
    axes = zip(lazy[0].shape[-2:], *seen, strict=True)
    rows, columns = (pieces(length, tile, *axis) for length, *axis in axes)
    small = [np.ones((*a.shape[:-2], *(min(n, 3) for n in a.shape[-2:])), a.dtype) for a in lazy]
    run = partial(_without_place, function)
    return _composed(run, lazy, rows, columns, np.asarray(function(*small)))


def _without_place(
    function: Callable[..., np.ndarray], row: Stretch, column: Stretch, *parts: np.ndarray
) -> np.ndarray:
    return function(*parts)


def _composed(
    function: Callable[..., np.ndarray],
    arrays: Sequence[Any],
    rows: Sequence[Stretch],
    columns: Sequence[Stretch],
    like: np.ndarray,
) -> Any:
    """Blocks of lazy arrays (..., H, W), each computed from what its piece sees."""
    da, delayed = require("dask.array", extra="large"), require("dask", extra="large").delayed
    run = delayed(_piece, pure=False)
    lines = []
    for row in rows:
        line = []
        for column in columns:
            parts = [a[..., row.seen, column.seen].rechunk(-1) for a in arrays]
            shape = (
                *like.shape[:-2],
                row.own.stop - row.own.start,
                column.own.stop - column.own.start,
            )
            block = run(function, row, column, *parts)
            line.append(da.from_delayed(block, shape, like.dtype))
        lines.append(line)
    return da.block(lines)


def _piece(
    function: Callable[..., np.ndarray], row: Stretch, column: Stretch, *parts: np.ndarray
) -> np.ndarray:
    with _named(row, column):
        found = function(row, column, *map(np.ascontiguousarray, parts))
        return np.ascontiguousarray(found[..., row.own, column.own])


@contextmanager
def _named(row: Stretch, column: Stretch) -> Iterator[None]:
    """Tell where in the picture an error happened."""
    try:
        yield
    except Exception as error:
        rows, columns = row.kept, column.kept
        place = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        raise RuntimeError(f"{place}: {type(error).__name__}: {error}") from error


def _lengths(rows: Sequence[Stretch], columns: Sequence[Stretch]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(s.own.stop - s.own.start for s in along) for along in (rows, columns))


def _labels(scores: np.ndarray, dtype: type) -> np.ndarray:
    return scores.argmax(0).astype(dtype)


def _refined(
    names: list[str], options: dict[str, Any], score: np.ndarray, *guides: np.ndarray
) -> np.ndarray:
    given: dict[str, Any] = dict(zip(names, guides, strict=True))
    if "image" in given:
        given["image"] = np.moveaxis(given["image"], 0, -1)
    return crf.refine(score, **given, **options)


def _seen_through(window: Window, steps: int) -> Reach:
    far = steps * window.pad[0], steps * window.pad[1]
    return Reach((1, 1), far, far)
