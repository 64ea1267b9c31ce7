"""Refinement of a network's scores by what the picture, or an embedding of it, looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from segaware_np.ops.dense_mean_field import dense_mean_field_forward
from segaware_np.ops.gaussian_filter import permutohedral_lattice
from segaware_np.ops.mean_field import mean_field_forward
from segaware_np.ops.pieces import forward_in_pieces
from segaware_np.ops.resize import resize_forward
from segaware_np.ranges import COUNT, FINITE, POSITIVE, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, array_module, check_array

_VOID = 255
WINDOW = Window.same(13, dilation=6)


def refine(
    score: Array,
    image: Array | None = None,
    embedding: Array | None = None,
    *,
    window: Window = WINDOW,
    iterations: int = 5,
    weight: float = 5.0,
    position: float = 20.0,
    colour: float = 25.0,
    contrast: float = 0.3,
    certainty: float = 3.0,
    dense: bool = False,
    smooth: float = 3.0,
    smooth_weight: float = 3.0,
    each: Callable[[int, int], None] = lambda done, total: None,
) -> Array:
    """Let pixels that look alike and lie near each other agree on their class.

    The mean-field CRF of `mean_field_forward` with one filter and the Potts model, each iteration
    ``Q = score + weight * average of softmax(Q)``. The average runs over the window without its
    centre, weighted by the softmax of ``-1/2 |f(p) - f(q)|^2``, where the features f are
    position, colour (if `image` is given) and embedding (if that is given), each divided by its
    own standard deviation.

    If `dense`, all pixels of the picture agree, not those of a window: the average is
    ``D^-1/2 K D^-1/2`` with ``K = exp(-1/2 |f(p) - f(q)|^2)`` and D its sums, and a second one, of
    position alone, counts `smooth_weight`; see `dense_mean_field_forward`.

    Parameters
    ----------
    score : (C, h, w) float array, or (h, w) integer array
        Scores of the classes before the softmax, float32 or float64 on the CPU; or labels, 255
        where there is none. Of any resolution: smaller ones, whose corner pixels lie on those of
        the picture, are brought to its size as `resize_forward` does.
    image : (H, W, 3) uint8 array, optional
        The picture, as `inference.predict` takes it.
    embedding : (E, H, W) array, optional
        As `inference.embed` gives it.
    window : Window
        Of stride 1, with outputs as large as their input. A wide one pays more than a dense one.
    iterations : int
        At least 1.
    weight : float
        How much neighbours count, in units of the score. If a network is too sure of itself,
        raise it.
    certainty : float
        Above 0: score of the class that a label names; the others have 0.
    position, colour, contrast : float
        Standard deviations above 0 of position in pixels, of colour in grey levels and of the
        embedding: differences much below them do not count, much above them cut the tie.
    dense : bool
        See all pixels, by a permutohedral lattice: on the CPU, without `window`.
    smooth, smooth_weight : float
        Standard deviation of position in the second average of `dense`, and how much it counts.
    each : callable
        To be called with the pieces done and those in all, after each piece of a large picture; a
        dense one is a piece.

    Returns
    -------
    q : (C, H, W) array
        Refined scores, before a softmax; the label is the argmax.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or a number is out of range.

    Notes
    -----
    The defaults were good for street scenes of 240x180 pixels; for larger images enlarge the
    dilation and `position` with them. Masks take ``window.size * H * W`` numbers; where that is
    more than the limit (`memory.set_mask_memory`), the picture is refined in pieces, to the same
    result. A dense picture is never cut: its memory grows with ``(iterations + 5) C H W``.

    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.4. Dense: Krähenbühl, Koltun
    (NIPS 2011).

    Examples
    --------
    A pixel of doubtful class takes the class of those of its own colour:

    >>> import numpy as np
    >>> image = np.zeros((1, 6, 3), np.uint8)
    >>> image[:, 3:] = 255
    >>> score = np.array([[[2, 2, -1, -2, -2, -2.0]], [[-2, -2, 0, 2, 2, 2.0]]])
    >>> score.argmax(0).tolist()
    [[0, 0, 1, 1, 1, 1]]
    >>> refine(score, image, window=Window.same(5)).argmax(0).tolist()
    [[0, 0, 0, 1, 1, 1]]
    >>> refine(score, image, dense=True, smooth_weight=0).argmax(0).tolist()
    [[0, 0, 0, 1, 1, 1]]

    Labels of half the resolution find the edge of the picture:

    >>> labels = np.array([[0, 0, 1]])
    >>> refine(labels, image, window=Window.same(5)).argmax(0).tolist()
    [[0, 0, 0, 1, 1, 1]]
    """
    check_window(window)
    check("certainty", certainty, POSITIVE)
    if getattr(score, "ndim", 0) == 2:
        score = _scores_of(score, certainty)
    check_array("score", score, ("C", "H", "W"))
    if len(score) < 2:
        raise ValueError(f"score: expected scores of at least 2 classes, got {len(score)} (one "
                         "against the rest, s, are two: 0 and s)")
    if image is None and embedding is None:
        raise ValueError("image, embedding: expected at least one of them, got none")
    if type(dense) is not bool:
        raise TypeError(f"dense: expected a bool, got {dense!r}")
    if dense and window != WINDOW:
        raise ValueError(f"window: expected none where dense sees all pixels, got {window}")
    for name, value in (("weight", weight), ("smooth_weight", smooth_weight)):
        check(name, value, FINITE)
    deviations = {"position": position, "colour": colour, "contrast": contrast, "smooth": smooth}
    for name, value in deviations.items():
        check(name, value, POSITIVE)
    check("iterations", iterations, COUNT)
    score = _of_size(score, image, embedding)
    xp, (h, w) = array_module(score), score.shape[1:]
    if window.output_shape((h, w)) != (h, w):
        raise ValueError(f"window: expected outputs as large as the input, got {window}")
    column, row = xp.arange(w), xp.arange(h)[:, None]  # views: no numbers for each pixel
    features = [(xp.broadcast_to(place, (1, h, w)), position) for place in (column, row)]
    if image is not None:
        check_array("image", image, (h, w, 3), kind="integer")
        array_module(score, image)
        features.append((xp.moveaxis(image, -1, 0), colour))
    if embedding is not None:
        check_array("embedding", embedding, ("E", h, w), like=score)
        features.append((embedding, contrast))
    if dense:
        return _dense(score, features, smooth, (weight, smooth_weight), iterations, each)
    scales = [deviation for _, deviation in features]
    run = partial(_refine, deviations=scales, weight=weight, iterations=iterations)
    images = (score[None], *(feature[None] for feature, _ in features))
    return forward_in_pieces(run, images, (window,), iterations, each)[0][0]


def _scores_of(labels: Array, certainty: float) -> Array:
    """Scores (C, h, w) of labels, of two classes at least; all 0 where there is no label."""
    check_array("score", labels, ("H", "W"), kind="integer")
    xp, named = array_module(labels), labels != _VOID
    if bool((labels < 0).any()):
        raise ValueError(f"score: expected labels of at least 0, got {int(labels.min())}")
    classes = max(int(xp.where(named, labels, 0).max(initial=0)) + 1, 2)
    likely = xp.arange(classes)[:, None, None] == labels
    return (certainty * (likely & named)).astype(np.float32)


def _of_size(score: Array, image: Array | None, embedding: Array | None) -> Array:
    """Scores brought to the size of what guides them, where they are smaller."""
    guide = image.shape[:2] if image is not None else embedding.shape[1:]  # type: ignore[union-attr]
    low, size = score.shape[1:], (int(guide[0]), int(guide[1]))
    if low == size or min(low) == 0 or any(a > b for a, b in zip(low, size, strict=True)):
        return score  # too large: refused with the guide
    return resize_forward(score[None], size)[0][0]


def _refine(
    unary: Array, *features: Any, deviations: list[float], weight: float, iterations: int
) -> tuple[Array, None]:
    """The CRF on a piece: scores (1, C, H, W), features each (1, E, H, W), and the window."""
    *parts, window = features
    identity = array_module(unary).eye(unary.shape[1], dtype=unary.dtype)
    scaled = _scaled(parts, deviations, unary.dtype)
    q, _ = mean_field_forward(
        unary, unary, scaled, None, None, identity, -weight * identity,
        window1=window, iterations=iterations,
    )  # fmt: skip
    return q, None


def _dense(
    score: Array,
    features: Sequence[tuple[Array, float]],
    smooth: float,
    weights: tuple[float, float],
    iterations: int,
    each: Callable[[int, int], None],
) -> Array:
    """The CRF of all pixels, by appearance and by position (the first two features) alone."""
    xp, unary, parts = array_module(score), score[None], [part[None] for part, _ in features]
    appearance = _scaled(parts, [deviation for _, deviation in features], score.dtype)
    lattices = [
        permutohedral_lattice(scaled)
        for scaled in (appearance, _scaled(parts[:2], [smooth] * 2, score.dtype))
    ]
    identity = xp.eye(len(score), dtype=score.dtype)
    kernels = xp.asarray(weights, score.dtype)[:, None, None] * identity
    q, _ = dense_mean_field_forward(
        unary, unary, kernels, -identity, lattices=lattices, iterations=iterations
    )
    each(1, 1)
    return q[0]


def _scaled(parts: Sequence[Array], deviations: Sequence[float], dtype: Any) -> Array:
    scaled = [part.astype(dtype) / dtype.type(d) for part, d in zip(parts, deviations, strict=True)]
    return array_module(parts[0]).concatenate(scaled, axis=1)
