"""Masked sum: every pixel gathers its neighbours, weighted by a mask of its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import fast
from segaware_np.window import Window, check_window, shifts
from segaware_np.xp import Array, array_module, check_array, needed


def masked_sum(x: Array, mask: Array, window: Window) -> Array:
    """Plain formula of `masked_sum_forward`."""
    y = array_module(x).zeros((*x.shape[:2], *mask.shape[2:]), x.dtype)
    for k, inside, seen in shifts(x.shape[2:], window):
        y[inside] += mask[:, k : k + 1][inside] * x[seen]
    return y


def masked_sum_grad(
    dy: Array, x: Array, mask: Array, window: Window, need: Collection[str]
) -> tuple[Array | None, Array | None]:
    """Plain formula of `masked_sum_backward`."""
    xp = array_module(x)
    dx = xp.zeros_like(x) if "x" in need else None
    dmask = xp.zeros_like(mask) if "mask" in need else None
    for k, inside, seen in shifts(x.shape[2:], window):
        if dx is not None:
            dx[seen] += mask[:, k : k + 1][inside] * dy[inside]
        if dmask is not None:
            dmask[:, k][inside] = (dy[inside] * x[seen]).sum(1)
    return dx, dmask


ALL = frozenset({"x", "mask"})


class MaskedSumCache(NamedTuple):
    x: Array
    mask: Array
    window: Window


def masked_sum_forward(x: Array, mask: Array, window: Window) -> tuple[Array, MaskedSumCache]:
    """Sum each channel over its windows, weighted by the mask.

    ``y[n, c, p] = sum_k m[n, k, p] x[n, c, p + delta_k]``

    With a normalised mask this is a local average: the filter of the mean-field CRF and of the
    segmentation-aware bilateral filter.

    Parameters
    ----------
    x : (N, C, H, W) float array
    mask : (N, K, Ho, Wo) array
    window : Window

    Returns
    -------
    y : (N, C, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `window` is no `Window`.

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 3 with weights of 1.

    Examples
    --------
    >>> x, window = np.array([[[[1.0, 2.0, 3.0]]]]), Window((1, 3), pad=(0, 1))
    >>> y, cache = masked_sum_forward(x, np.ones((1, 3, 1, 3)), window)
    >>> y.ravel().tolist()
    [3.0, 6.0, 5.0]
    >>> dx, dmask = masked_sum_backward(np.ones((1, 1, 1, 3)), cache)
    >>> dx.ravel().tolist(), dmask[0, :, 0, 0].tolist()
    ([2.0, 3.0, 2.0], [0.0, 1.0, 2.0])
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    shape = (x.shape[0], window.size, *window.output_shape(x.shape[2:]))
    check_array("mask", mask, shape, like=x)
    return fast(masked_sum, x)(x, mask, window), MaskedSumCache(x, mask, window)


def masked_sum_backward(
    dy: Array, cache: MaskedSumCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None]:
    """Gradients ``(dx, dmask)``; those not in `need` are None.

    ``dx = sum_k shift_k^T (m_k dy)``, ``dm_k = sum_c dy shift_k x``
    """
    x, mask, window = cache
    check_array("dy", dy, (*x.shape[:2], *mask.shape[2:]), like=x)
    need = needed(need, ALL, True)
    return fast(masked_sum_grad, x)(dy, x, mask, window, need)
