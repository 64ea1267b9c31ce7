"""A trained network at work: labels, embeddings and scores of pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from segaware_np.data.augmentation import RGB_MEAN, Augmentation
from segaware_np.metrics import Evaluation
from segaware_np.net import Net
from segaware_np.ops.resize import resize_forward
from segaware_np.progress import progress as show_progress
from segaware_np.ranges import COUNT, check
from segaware_np.ranks import Alone, Ranks
from segaware_np.reach import Reach, pieces, reach
from segaware_np.xp import Array, host

if TYPE_CHECKING:
    from segaware_np.data.datasets import Dataset

POINTWISE, ALONE = Reach(), Alone()
_TILE = 768  # pixels


def predict(net: Net, image: np.ndarray) -> np.ndarray:
    """Label every pixel of a picture: the class with the highest score.

    Parameters
    ----------
    net : Net
        Has a layer ``score``, as the segmentation networks of `models` do.
    image : (H, W, 3) uint8 array
        RGB.

    Returns
    -------
    (H, W) int32 array

    Raises
    ------
    TypeError, ValueError
        If `image` is not such an array, or `net` has no layer ``score`` of at least two channels.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(3, (4,), (1,))
    >>> predict(net, np.zeros((12, 16, 3), np.uint8)).shape
    (12, 16)
    """
    return score(net, image).argmax(axis=0).astype(np.int32)


def score(net: Net, image: np.ndarray) -> np.ndarray:
    """Scores of all classes before the softmax, (C, H, W): what `crf.refine` takes.

    Where the network's are smaller than the image, they are resized.

    Parameters
    ----------
    net : Net
        Has a layer ``score``.
    image : (H, W, 3) uint8 array

    Returns
    -------
    (C, H, W) array

    Raises
    ------
    TypeError, ValueError
        As for `predict`.

    Examples
    --------
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(3, (4,), (1,))
    >>> score(net, np.zeros((12, 16, 3), np.uint8)).shape
    (3, 12, 16)
    """
    found = _run(net, image, "score")
    if len(found) < 2:
        raise ValueError("net: expected a layer 'score' of at least 2 channels, one a class, got 1 "
                         "(one class against the rest, s, are two: 0 and s)")
    return resize_forward(found[None], image.shape[:2])[0][0]


def embed(net: Net, image: np.ndarray) -> np.ndarray:
    """Embedding of a picture: (E, H, W), by a network that has a layer ``embedding``.

    Parameters
    ----------
    net : Net
        Has a layer ``embedding``.
    image : (H, W, 3) uint8 array

    Returns
    -------
    (E, H, W) array

    Raises
    ------
    TypeError, ValueError
        As for `predict`.

    Examples
    --------
    >>> from segaware_np.models import embedding_network
    >>> embed(embedding_network((4,), (1,), 8), np.zeros((12, 16, 3), np.uint8)).shape
    (8, 12, 16)
    """
    return _run(net, image, "embedding")


def tiled(
    function: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    tile: int | None = None,
    reach: Reach = POINTWISE,
    progress: bool = False,
) -> np.ndarray:
    """Apply a function to pieces of a picture that would take too much memory as a whole.

    The pieces begin on the grid of what the function sees and overlap by its reach, so that there
    are no seams: they give what the whole gives, to rounding. The whole is then the picture with
    RGB's mean below and to the right of it, up to a side of ``grid * k + 1``. A picture that is no
    larger than a piece is not cut, and nothing is put around it.

    Parameters
    ----------
    function : callable
        From an image (h, w, 3) to an array (..., h, w): `predict`, `score` or `embed` of a network.
    image : (H, W, 3) array
    tile : int, optional
        Longest side of a piece with all that it sees, pixels. By default 768, or for a function
        that sees farther twice what it sees on both sides, so that half of a side is new.
    reach : Reach
        How far the function sees: `reach.reach` of its network. By default a pixel sees no other.
    progress : bool
        Show the progress over the pieces on standard error.

    Returns
    -------
    (..., H, W) array

    Raises
    ------
    TypeError, ValueError
        If `tile` is not a positive integer, or too small for what the function sees, or as
        `function` raises them.

    Examples
    --------
    >>> image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    >>> blue = tiled(lambda part: part[..., 2], image, tile=24)
    >>> np.array_equal(blue, image[..., 2])
    True
    """
    if tile is None:
        tile = max(_TILE, 2 * max(map(add, reach.before, reach.after)))
    check("tile", tile, COUNT)
    height, width = image.shape[:2]
    if max(height, width) <= tile:
        return function(image)
    axes = zip((height, width), *reach, strict=True)
    rows, columns = (pieces(length, tile, *axis) for length, *axis in axes)
    result = None
    with show_progress(len(rows) * len(columns), shown=progress) as step:
        for row, column in product(rows, columns):
            part = function(window_of(image, row.seen, column.seen))
            if result is None:
                result = np.empty((*part.shape[:-2], height, width), part.dtype)
            kept = part[..., row.own, column.own]
            result[..., row.kept, column.kept] = kept
            step(f"rows {row.kept.start} to {row.kept.stop}")
    assert result is not None
    return result


def window_of(image: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return some rows and columns of a picture, with RGB's mean where they lie beyond it.

    Parameters
    ----------
    image : (H, W, 3) array
        Anything that gives NumPy arrays for slices.
    rows, columns : slice
        From pixels of the picture on.

    Examples
    --------
    >>> window_of(np.zeros((4, 6, 3), np.uint8), slice(2, 5), slice(0, 2))[:, 0, 0].tolist()
    [0, 0, 123]
    """
    part = np.asarray(image[rows, columns])
    below, right = rows.stop - rows.start - len(part), columns.stop - columns.start - part.shape[1]
    if below == right == 0:
        return part
    whole = np.empty((len(part) + below, part.shape[1] + right, *part.shape[2:]), part.dtype)
    whole[:] = np.rint(RGB_MEAN)
    whole[: len(part), : part.shape[1]] = part
    return whole


def evaluate(
    net: Net,
    dataset: Dataset,
    *,
    ignore_label: int | None = 255,
    width: int = 3,
    tile: int | None = None,
    progress: bool = False,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Predict every picture of a data set and compare with its labels.

    Parameters
    ----------
    net : Net
    dataset : Dataset
        With labels.
    ignore_label : int or None
        Pixels with this true label do not count.
    width : int
        Of the band along true boundaries, pixels on each side.
    tile : int, optional
        Larger pictures are predicted in pieces, see `tiled`.
    progress : bool
        Show the progress on standard error.
    ranks : Ranks
        Processes of which each predicts some of the pictures; all of them get the whole result.

    Returns
    -------
    Evaluation
        Its ``report()`` has pixel accuracy, mean IoU and IoU per class, also within the band.

    Raises
    ------
    ValueError
        If a picture has no labels, or labels that the network does not know.

    Examples
    --------
    >>> from segaware_np.data import SyntheticScenes
    >>> from segaware_np.models import segmentation_network
    >>> net = segmentation_network(6, (4,), (1,))
    >>> report = evaluate(net, SyntheticScenes(2, size=(24, 32))).report()
    >>> 0 <= report["mean_iou"] <= 1 and "mean_iou" in report["band"]
    True
    """
    scores, seen = None, reach(net)
    mine = range(ranks.rank, len(dataset), ranks.size)
    with show_progress(len(mine), shown=progress) as step:
        for index in mine:
            image, labels = dataset[index]
            if labels is None:
                raise ValueError(f"dataset: expected labels, got none for {dataset.name(index)}")
            found = tiled(lambda part: score(net, part), image, tile, seen)
            scores = scores or Evaluation(len(found), ignore_label, width)
            scores.update(found.argmax(axis=0), labels)
            step(dataset.name(index))
    parts = [part for part in ranks.gather(scores) if part is not None]
    if not parts:
        raise ValueError("dataset: expected at least one image, got none")
    total = Evaluation(len(parts[0].whole.matrix), ignore_label, width)
    for part in parts:
        total.add(part)
    return total


def prepare(image: np.ndarray, net: Net) -> Array:
    """Return a picture as the network's input: (1, 3, H, W) minus the mean, where it lives.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
    net : Net

    Raises
    ------
    TypeError, ValueError
        If `image` is not such an array.

    Examples
    --------
    >>> from segaware_np.models import embedding_network
    >>> prepare(np.zeros((4, 6, 3), np.uint8), embedding_network((4,), (1,), 8)).shape
    (1, 3, 4, 6)
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got: Any = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"image: expected a uint8 NumPy array, got {got}")
    pixels, _ = Augmentation()(image, None, np.random.default_rng(0))
    return net.xp.asarray(pixels[None], net.dtype)


def _run(net: Net, image: np.ndarray, output: str) -> np.ndarray:
    if output not in net.nodes:
        raise ValueError(f"net: expected a network with a layer {output!r}, got {list(net.nodes)}")
    trained = any(node.layer.training for node in net.nodes.values())
    net.eval()
    try:
        result = net.forward({"image": prepare(image, net)}, [output], keep=False)[output][0]
    finally:
        net.train(trained)
    return host(result)
