"""Mean-field inference of a conditional random field with segmentation-aware filters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from segaware_np.dispatch import device_of, fast
from segaware_np.ops.convolution import correlate, mix, mix_transposed
from segaware_np.ops.mask import LocalMaskCache, local_mask_backward, local_mask_forward
from segaware_np.ops.masked_sum import MaskedSumCache, masked_sum_backward, masked_sum_forward
from segaware_np.ops.pieces import PiecesCache, backward_in_pieces, forward_in_pieces
from segaware_np.ops.softmax import softmax_backward, softmax_forward
from segaware_np.ranges import COUNT, check
from segaware_np.window import Window, check_window
from segaware_np.xp import Array, array_module, check_array


def mean_field_update(unary: Array, filtered: Sequence[Array], mixers: Sequence[Array]) -> Array:
    """Plain formula of the end of an iteration: ``Q = U - sum of mixer a`` over the filters."""
    return unary - sum(mix(mixer, a, 1) for mixer, a in zip(mixers, filtered, strict=True))


def mean_field_update_grad(
    dq: Array, filtered: Sequence[Array], mixers: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Plain formula of its way back: gradients of what was filtered, and of the mixers."""
    dfiltered = [mix_transposed(mixer, -dq, 1) for mixer in mixers]
    return dfiltered, [-correlate(dq, a, 1) for a in filtered]


Flags = tuple[bool, bool]


class Filter(NamedTuple):
    """One of the two averaging filters: its mask, made once, and the way back to its features."""

    mask: Array
    window: Window
    features: LocalMaskCache


class Iteration(NamedTuple):
    """What one iteration leaves for its way back."""

    probability: Array
    filtered: tuple[Array, ...]  # by each filter


class MeanFieldCache(NamedTuple):
    filters: tuple[Filter, ...]
    weights: tuple[Array, ...]  # of each filter, C x C
    compatibility: Array
    iterations: list[Iteration]


def mean_field_forward(
    unary: Array,
    first_q: Array,
    f1: Array,
    f2: Array | None,
    ws: Array | None,
    wb: Array,
    wc: Array,
    *,
    window1: Window,
    window2: Window | None = None,
    iterations: int,
    scale1: float = 1.0,
    scale2: float = 1.0,
    remove_center: Flags = (True, True),
    remove_bounds: Flags = (True, True),
) -> tuple[Array, MeanFieldCache | PiecesCache]:
    """Refine scores by the opinions of the neighbours that look alike.

    Each iteration computes::

        P = softmax over classes of Q
        a = average of P by f2, b = average of P by f1      (masks softmax(-s d), L2 distances)
        M = Ws a + Wb b
        Q = U - Wc M

    The masks do not depend on Q: they are made once for all iterations.

    Parameters
    ----------
    unary, first_q : (N, C, H, W) float array
        Scores U, and the logits that the first iteration starts from (often U itself).
    f1 : (N, E, H, W) array
        Features of the bilateral filter: an embedding or a colour image, with position.
    f2 : (N, E2, H, W) array or None
        Features of the spatial filter: position. None leaves that filter out, with `ws` and
        `window2`.
    ws, wb : (C, C) array
        Weights of the spatial and of the bilateral filter (start: identity).
    wc : (C, C) array
        Compatibility of classes (start: minus identity, the Potts model).
    window1, window2 : Window
        Of stride 1, with outputs as large as their input.
    iterations : int
        At least 1.
    scale1, scale2 : float
        Scales s of the distances in f1 and in f2.
    remove_center, remove_bounds : (bool, bool)
        Whether the filters of f1 and of f2 leave out the pixel itself, and neighbours outside
        the image.

    Returns
    -------
    q : (N, C, H, W) array
        The last Q, not normalised.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, a window changes the size, or `iterations` is not a
        positive integer.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), section 3.4, after Zheng et al.: *Conditional Random
    Fields as Recurrent Neural Networks* (ICCV 2015).

    Examples
    --------
    Two classes, three pixels that look alike. The doubtful one in the middle joins the others:

    >>> unary, one = np.array([[[[2.0, -0.1, 2.0]], [[0.0, 0.0, 0.0]]]]), np.eye(2)
    >>> f1, window = np.zeros((1, 1, 1, 3)), Window((1, 3), pad=(0, 1))
    >>> q, cache = mean_field_forward(
    ...     unary, unary, f1, None, None, one, -one, window1=window, iterations=1
    ... )
    >>> unary.argmax(1).ravel().tolist(), q.argmax(1).ravel().tolist()
    ([0, 1, 0], [0, 0, 0])
    >>> dunary, *_ = mean_field_backward(np.ones((1, 2, 1, 3)), cache)
    >>> dunary.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    check_array("unary", unary, ("N", "C", "H", "W"))
    check_window(window1, "window1")
    if window2 is not None:
        check_window(window2, "window2")
    check_array("first_q", first_q, unary.shape, like=unary)
    check("iterations", iterations, COUNT)
    for name, flags in (("remove_center", remove_center), ("remove_bounds", remove_bounds)):
        if not (isinstance(flags, (tuple, list)) and [*map(type, flags)] == [bool, bool]):
            raise TypeError(f"{name}: expected a pair of bool, for f1 and for f2, got {flags!r}")
    second = {"f2": f2, "ws": ws, "window2": window2}
    absent = [name for name, value in second.items() if value is None]
    if len(absent) in (1, 2):
        raise ValueError(
            f"f2, ws, window2: expected all three or none of them, got no {', '.join(absent)}"
        )
    for name, matrix in (("ws", ws), ("wb", wb), ("wc", wc)):
        if matrix is not None:
            check_array(name, matrix, (unary.shape[1],) * 2, like=unary)
    given, weights = [("1", f1, window1, scale1)], [wb]
    if f2 is not None and ws is not None and window2 is not None:
        given.append(("2", f2, window2, scale2))
        weights.append(ws)
    for name, features, window, _ in given:
        _check_filter(name, features, window, unary)
    measures = [
        {"scale": scale, "remove_center": center, "remove_bounds": bounds}
        for (*_, scale), center, bounds in zip(given, remove_center, remove_bounds, strict=False)
    ]
    run = partial(_mean_field, measures=measures, weights=weights, wc=wc, iterations=iterations)
    windows = tuple(window for _, _, window, _ in given)
    return forward_in_pieces(run, (unary, first_q, f1, f2), windows, steps=iterations)


def mean_field_backward(dq: Array, cache: MeanFieldCache | PiecesCache) -> tuple[Array | None, ...]:
    """Gradients ``(dunary, dfirst_q, df1, df2, dws, dwb, dwc)``, None where there was no input.

    Backwards through the iterations. What reaches the matrices is summed over them; so is what
    reaches the masks, and for these the sum over iterations is one over channels: those of all
    iterations, side by side, are the channels of one masked sum.
    """
    if isinstance(cache, PiecesCache):
        return backward_in_pieces(dq, cache, mean_field_backward)
    filters, weights, wc, steps = cache
    check_array("dq", dq, steps[-1].probability.shape, like=wc)
    with device_of(dq):
        xp, dunary = array_module(wc), dq.copy()
        mixers = _mixers(weights, wc)
        dmixers = [xp.zeros_like(wc) for _ in weights]
        ps = xp.concatenate([step.probability for step in steps], 1)
        arrived = [xp.empty_like(ps) for _ in filters]
        for number, (p, filtered) in reversed(list(enumerate(steps))):
            das, parts = fast(mean_field_update_grad, dq)(dq, filtered, mixers)
            dps: list[Array] = []
            for i, (f, da) in enumerate(zip(filters, das, strict=True)):
                dmixers[i] += parts[i]
                arrived[i][:, number * len(wc) : (number + 1) * len(wc)] = da
                dps += masked_sum_backward(da, MaskedSumCache(p, f.mask, f.window), {"x"})[:1]
            dp = dps[0] if len(dps) == 1 else dps[0] + dps[1]
            dq = softmax_backward(dp, p)
            if number:  # the Q that this iteration started from is U - Wc M as well
                dunary += dq
        dfeatures = []
        for f in filters:
            to_mask = MaskedSumCache(ps, f.mask, f.window)
            dmask = masked_sum_backward(arrived.pop(0), to_mask, {"mask"})[1]
            dfeatures.append(local_mask_backward(dmask, f.features, {"embedding"})[0])
        df1, df2 = [*dfeatures, None][:2]
        dwc = sum(d @ w.T for d, w in zip(dmixers, weights, strict=True))
        dwb, dws = [*(wc.T @ d for d in dmixers), None][:2]
        return dunary, dq, df1, df2, dws, dwb, dwc


def _mean_field(
    unary: Array,
    first_q: Array,
    f1: Array,
    f2: Array | None,
    *windows: Window,
    measures: Sequence[dict[str, Any]],
    weights: Sequence[Array],
    wc: Array,
    iterations: int,
) -> tuple[Array, MeanFieldCache]:
    filters = tuple(
        _filter(features, window, **measure)
        for features, window, measure in zip((f1, f2), windows, measures, strict=False)
    )
    with device_of(unary):
        mixers = _mixers(weights, wc)
    q, steps = first_q, []
    for _ in range(iterations):
        p, _ = softmax_forward(q)
        filtered = tuple(masked_sum_forward(p, f.mask, f.window)[0] for f in filters)
        q = fast(mean_field_update, unary)(unary, filtered, mixers)
        steps.append(Iteration(p, filtered))
    return q, MeanFieldCache(filters, tuple(weights), wc, steps)


def _mixers(weights: Sequence[Array], compatibility: Array) -> list[Array]:
    """Matrices Wc Ws and Wc Wb, with which ``Wc M = (Wc Ws) a + (Wc Wb) b``.

    In double precision: an error here is the same for all pixels, and would not average out.
    """
    wide = np.promote_types(compatibility.dtype, np.float64)
    wc = compatibility.astype(wide)
    return [(wc @ w.astype(wide)).astype(compatibility.dtype) for w in weights]


def _check_filter(name: str, features: Array, window: Window, unary: Array) -> None:
    n, _, *shape = unary.shape
    check_array(f"f{name}", features, (n, "E", *shape), like=unary)
    if window.output_shape(features.shape[2:]) != tuple(shape):
        raise ValueError(f"window{name}: expected outputs as large as the input, got {window}")


def _filter(
    features: Array, window: Window, scale: float, remove_center: bool, remove_bounds: bool
) -> Filter:
    mask, cache = local_mask_forward(
        features,
        scale,
        window,
        normalized=True,
        norm="L2",
        remove_center=remove_center,
        remove_bounds=remove_bounds,
    )
    return Filter(mask, window, cache)
