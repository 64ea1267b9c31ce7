"""Images whose masks are too large for the memory, worked on in pieces: same result, to rounding.

* A dilated window that keeps an image's size falls apart: pixels whose rows and columns leave the
  same remainder by the dilation see each other alone. They are images of their own, of dilation 1,
  and share nothing with the others.
* What is still too large is cut into rectangles that overlap by all that their windows see, over
  all steps (iterations) of the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import gcd, isqrt
from typing import Any, NamedTuple

from segaware_np.dispatch import device_of
from segaware_np.memory import get_mask_memory
from segaware_np.window import Axis, Index, Window
from segaware_np.xp import Array, array_module

Run = Callable[..., tuple[Array, Any]]


class Piece(NamedTuple):
    """A part of some images (N, C, H, W).

    Attributes
    ----------
    seen : index
        Of the images: all that the piece sees.
    kept : index
        Of the result: what the piece is for.
    own : index
        Where that stands in the piece's own result.
    windows : tuple of Window
        Those of the operation, on this piece.
    """

    seen: Index
    kept: Index
    own: Index
    windows: tuple[Window, ...]


class PiecesCache(NamedTuple):
    """What the forward of an operation in pieces leaves: no masks, they are made again.

    Attributes
    ----------
    run : callable
        The operation on a piece: ``run(*images, *windows) -> y, cache``.
    images : tuple of array or None
        The images that were cut, (N, C, H, W).
    pieces : list of Piece
    """

    run: Run
    images: tuple[Array | None, ...]
    pieces: list[Piece]


def forward_in_pieces(
    run: Run,
    images: tuple[Array | None, ...],
    windows: tuple[Window, ...],
    steps: int = 1,
    each: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Array, Any]:
    """Run an operation on images, in pieces if the masks of these windows exceed the limit.

    Parameters
    ----------
    run : callable
        ``run(*images, *windows) -> y, cache`` with y (N, O, Ho, Wo).
    images : tuple of array or None
        Each (N, C, H, W), the first not None.
    windows : tuple of Window
        With several, or several steps, each keeps the size of an image.
    steps : int
        How often the windows are looked through, one after another.
    each : callable
        To be called with the pieces done and those in all, after each.

    Returns
    -------
    y : (N, O, Ho, Wo) array
    cache : object
        That of `run`, or a PiecesCache.
    """
    first = images[0]
    assert first is not None
    found = pieces(first.shape, first.dtype.itemsize, windows, steps)
    if not found:
        return run(*images, *windows)
    y = None
    with device_of(first):
        for done, piece in enumerate(found, start=1):
            part, _ = run(*_cut(images, piece), *piece.windows)
            if y is None:
                shape = (len(first), part.shape[1], *windows[0].output_shape(first.shape[2:]))
                y = array_module(first).empty(shape, part.dtype)
            y[piece.kept] = part[piece.own]
            each(done, len(found))
    return y, PiecesCache(run, images, found)


def backward_in_pieces(
    dy: Array, cache: PiecesCache, back: Callable[[Array, Any], tuple[Array | None, ...]]
) -> tuple[Array | None, ...]:
    """Run an operation's backward piece by piece, each after its forward.

    Parameters
    ----------
    dy : (N, O, Ho, Wo) array
    cache : PiecesCache
    back : callable
        ``back(d_part, cache) -> gradients``: first those of the images, then others, which add up.

    Returns
    -------
    tuple of array or None
    """
    images = cache.images
    totals: list[Array | None] = []
    with device_of(dy):
        xp = array_module(dy)
        for piece in cache.pieces:
            part, inner = cache.run(*_cut(images, piece), *piece.windows)
            d_part = xp.zeros(part.shape, dy.dtype)
            d_part[piece.own] = dy[piece.kept]
            found = back(d_part, inner)
            if not totals:
                likes = [*images, *found[len(images) :]]
                totals = [
                    None if gradient is None else xp.zeros_like(like)
                    for gradient, like in zip(found, likes, strict=True)
                ]
            for i, (total, gradient) in enumerate(zip(totals, found, strict=True)):
                if total is not None:
                    total[piece.seen if i < len(images) else ...] += gradient
    return tuple(totals)


def pieces(
    shape: tuple[int, ...], itemsize: int, windows: Sequence[Window], steps: int = 1
) -> list[Piece]:
    """Cut images so that the masks of a piece stay below the limit; none, if those of all do.

    Parameters
    ----------
    shape : (N, C, H, W)
        Of the images.
    itemsize : int
        Bytes of a number.
    windows : sequence of Window
        Whose masks are held together.
    steps : int
    """
    n, _, *size = shape
    count = windows[0].output_shape((size[0], size[1]))
    weights = sum(window.size for window in windows)  # of a pixel
    most = max(1, get_mask_memory() // (itemsize * weights))  # windows of a piece
    if n * count[0] * count[1] <= most:
        return []
    by_axis = list(zip(*(window.axes((size[0], size[1])) for window in windows), strict=True))
    apart = [_residues(axes) if count[0] * count[1] > most else 1 for axes in by_axis]
    small = [-(-c // r) for c, r in zip(count, apart, strict=True)]
    height = min(small[0], most // min(small[1], isqrt(most)))
    width = min(small[1], max(1, most // height))
    rows, columns = (
        _stretches(*axis, steps) for axis in zip(by_axis, apart, (height, width), strict=True)
    )
    smaller = tuple(_divided(window, apart) for window in windows)
    found = []
    for i, y, x in product(range(n), rows, columns):
        image, channels = slice(i, i + 1), slice(None)
        seen, kept = (image, channels, y.seen, x.seen), (image, channels, y.kept, x.kept)
        found.append(Piece(seen, kept, (..., y.own, x.own), smaller))
    return found


class _Stretch(NamedTuple):
    """Along one axis: what a piece sees, what it is for, and where that is in its own result."""

    seen: slice
    kept: slice
    own: slice


def _cut(images: tuple[Array | None, ...], piece: Piece) -> list[Array | None]:
    return [None if image is None else image[piece.seen] for image in images]


def _residues(axes: Sequence[Axis]) -> int:
    """Number of images along an axis that have nothing to do with each other."""
    keeps = all(a.stride == 1 and 2 * a.pad == a.reach - 1 and a.kernel % 2 for a in axes)
    return gcd(*(a.dilation for a in axes if a.kernel > 1)) or 1 if keeps else 1


def _stretches(axes: Sequence[Axis], apart: int, most: int, steps: int) -> list[_Stretch]:
    """Pieces along one axis, of at most so many windows where what they see allows it."""
    found, stride = [], axes[0].stride
    lead = steps * max(-(-(a.pad // apart) // stride) for a in axes)  # windows
    tail = steps * max((a.reach - 1) // apart - a.pad // apart for a in axes)  # pixels
    for residue in range(min(apart, axes[0].length)):
        length = len(range(residue, axes[0].length, apart))
        count = len(range(residue, axes[0].windows, apart))
        inner = count if count <= most else max(1, lead, most - lead - -(-tail // stride))
        inner = -(-count // -(-count // inner))  # as even as can be
        for a in range(0, count, inner):
            b = min(a + inner, count)
            first = stride * min(max(0, a - lead), (length - 1) // stride)  # a pixel, at least
            last = max(first + 1, min(length, stride * (b - 1) + tail + 1))
            own = slice(a - first // stride, b - first // stride)
            kept = _stepping(residue, a, b, apart)
            found.append(_Stretch(_stepping(residue, first, last, apart), kept, own))
    return found


def _stepping(residue: int, first: int, last: int, step: int) -> slice:
    return slice(residue + step * first, residue + step * (last - 1) + 1, step)


def _divided(window: Window, apart: Sequence[int]) -> Window:
    """The window on every so-manieth row and column."""
    pad, dilation = (
        tuple(max(low, value // by) for value, by in zip(pair, apart, strict=True))
        for pair, low in ((window.pad, 0), (window.dilation, 1))
    )
    return Window(window.kernel, window.stride, (pad[0], pad[1]), (dilation[0], dilation[1]))
