"""Refinement of a network's scores by what the picture, or an embedding of it, looks like."""

from __future__ import annotations

from segaware_np.ops.mean_field import mean_field_forward
from segaware_np.ops.position import position_image
from segaware_np.ranges import FINITE, POSITIVE, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, array_module, check_array

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
) -> Array:
    """Let pixels that look alike and lie near each other agree on their class.

    The mean-field CRF of `mean_field_forward` with one filter and the Potts model, each iteration
    ``Q = score + weight * average of softmax(Q)``. The average runs over the window without its
    centre, weighted by the softmax of ``-1/2 |f(p) - f(q)|^2``, where the features f are
    position, colour (if `image` is given) and embedding (if that is given), each divided by its
    own standard deviation.

    Parameters
    ----------
    score : (C, H, W) float array
        Scores of the classes before the softmax; float32 or float64 on the CPU.
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
    position, colour, contrast : float
        Standard deviations above 0 of position in pixels, of colour in grey levels and of the
        embedding: differences much below them do not count, much above them cut the tie.

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
    dilation and `position` with them. Memory: two arrays of window.size * H * W numbers.

    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.4.

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
    """
    check_array("score", score, ("C", "H", "W"))
    check_window(window)
    if len(score) < 2:
        raise ValueError(f"score: expected scores of at least 2 classes, got {len(score)} (one "
                         "against the rest, s, are two: 0 and s)")
    if image is None and embedding is None:
        raise ValueError("image, embedding: expected at least one of them, got none")
    check("weight", weight, FINITE)
    for name, value in (("position", position), ("colour", colour), ("contrast", contrast)):
        check(name, value, POSITIVE)
    xp, (h, w) = array_module(score), score.shape[1:]
    features = [position_image((h, w), 1, score.dtype, xp)[0] / position]
    if image is not None:
        check_array("image", image, (h, w, 3), kind="integer")
        features.append(xp.moveaxis(xp.asarray(image, score.dtype), -1, 0) / colour)
    if embedding is not None:
        check_array("embedding", embedding, ("E", h, w), like=score)
        features.append(embedding / contrast)
    f = xp.concatenate(features).astype(score.dtype, copy=False)
    identity = xp.eye(len(score), dtype=score.dtype)
    unary = score[None]
    q, _ = mean_field_forward(
        unary, unary, f[None], None, None, identity, -weight * identity,
        window1=window, iterations=iterations,
    )
    return q[0]
