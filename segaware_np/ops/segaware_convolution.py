"""Segmentation-aware convolution: every window listens only to its centre's own region."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import device_of, fast
from segaware_np.ops.columns import ColumnsCache, im2col_backward, im2col_forward
from segaware_np.ops.convolution import (
    ColumnConvolutionCache,
    bias_grad,
    check_filter,
    column_convolution_backward,
    column_convolution_forward,
    correlate,
    mix,
    mix_transposed,
    start_output,
)
from segaware_np.window import Window, check_window, shifts
from segaware_np.xp import Array, array_module, check_array, needed


def segaware_convolution(
    x: Array, mask: Array, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    """Plain formula of `segaware_convolution_forward`."""
    y = start_output(x, weight, bias, window)
    taps = weight.reshape(*weight.shape[:2], window.size)
    for k, inside, seen in shifts(x.shape[2:], window):
        y[inside] += mix(taps[:, :, k], mask[:, k : k + 1][inside] * x[seen], groups)
    return y


def segaware_convolution_grad(
    dy: Array,
    x: Array,
    mask: Array,
    weight: Array,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """Plain formula of `segaware_convolution_backward`."""
    xp = array_module(x)
    dx = xp.zeros_like(x) if "x" in need else None
    dmask = xp.zeros_like(mask) if "mask" in need else None
    dtaps = xp.zeros((*weight.shape[:2], window.size), x.dtype) if "weight" in need else None
    taps = weight.reshape(*weight.shape[:2], window.size)
    for k, inside, seen in shifts(x.shape[2:], window):
        m = mask[:, k : k + 1][inside]
        if dx is not None or dmask is not None:
            g = mix_transposed(taps[:, :, k], dy[inside], groups)
        if dmask is not None:
            dmask[:, k][inside] = (g * x[seen]).sum(1)
        if dx is not None:
            dx[seen] += m * g
        if dtaps is not None:
            dtaps[:, :, k] = correlate(dy[inside], m * x[seen], groups)
    return (
        dx,
        dmask,
        None if dtaps is None else dtaps.reshape(weight.shape),
        bias_grad(dy) if "bias" in need else None,
    )


ALL = frozenset({"x", "mask", "weight", "bias"})


class SegawareConvolutionCache(NamedTuple):
    x: Array
    mask: Array
    weight: Array
    has_bias: bool
    window: Window
    groups: int


def segaware_convolution_forward(
    x: Array,
    mask: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
) -> tuple[Array, SegawareConvolutionCache]:
    """Convolution with every window weighted by a mask of its own.

    ``y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] m[n, k, p] x[n, c, p + delta_k]``

    The mask does not depend on the channel, so ``y = b + sum_k W_k (m_k * shift_k x)``: one
    offset at a time, and no column buffer is ever built.

    Parameters
    ----------
    x : (N, C, H, W) float array
    mask : (N, K, Ho, Wo) array
        Any non-negative weights, such as those of `exponential_mask_forward`.
    weight : (O, C/groups, kh, kw) array
    bias : (O,) array, optional
    window : Window
    groups : int

    Returns
    -------
    y : (N, O, Ho, Wo) array

    Notes
    -----
    Harley, Derpanis, Kokkinos (ICCV 2017), eq. 3, without its normalisation by the mask's sum
    (see `normalized_convolution_forward` for the normalised form).

    A NaN or an infinity in `x` behind a mask weight of 0 gives NaN, as 0 * NaN does anywhere in
    NumPy. It reaches the windows that cover it and no others, a NaN in a weight those that see the
    image through that weight.

    Examples
    --------
    Averages over the centre's side of a boundary, and over both sides if nothing masks it:

    >>> x, window = np.array([[[[1.0, 1.0, 7.0]]]]), Window((1, 3))
    >>> weight, mask = np.full((1, 1, 1, 3), 1 / 3), np.array([1.5, 1.5, 0.0]).reshape(1, 3, 1, 1)
    >>> y, _ = segaware_convolution_forward(x, np.ones_like(mask), weight, window=window)
    >>> y.round(12).item()
    3.0
    >>> y, cache = segaware_convolution_forward(x, mask, weight, window=window)
    >>> y.item()
    1.0
    >>> dx, dmask, dweight, _ = segaware_convolution_backward(np.full((1, 1, 1, 1), 6.0), cache)
    >>> dx.ravel().tolist(), dmask.ravel().tolist(), dweight.ravel().tolist()
    ([3.0, 3.0, 0.0], [2.0, 2.0, 14.0], [9.0, 9.0, 0.0])
    """
    _check(x, mask, weight, bias, window, groups)
    y = fast(segaware_convolution, x)(x, mask, weight, bias, window, groups)
    return y, SegawareConvolutionCache(x, mask, weight, bias is not None, window, groups)


def segaware_convolution_backward(
    dy: Array, cache: SegawareConvolutionCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """Gradients ``(dx, dmask, dweight, dbias)``; those not in `need` (or absent) are None.

    With ``G_k = W_k^T dy``, the gradient that arrives at the masked neighbours:

    ``dx = sum_k shift_k^T (m_k G_k)``, ``dm_k = sum_c G_k * shift_k x``,
    ``dW_k = sum_{n, p} dy (m_k shift_k x)^T``, ``db = sum_{n, p} dy``
    """
    x, mask, weight, has_bias, window, groups = cache
    check_array("dy", dy, (x.shape[0], weight.shape[0], *mask.shape[2:]), like=x)
    need = needed(need, ALL, has_bias)
    return fast(segaware_convolution_grad, x)(dy, x, mask, weight, window, groups, need)


class ExplicitCache(NamedTuple):
    columns: Array
    mask: Array
    image: ColumnsCache
    product: ColumnConvolutionCache


def segaware_convolution_explicit_forward(
    x: Array,
    mask: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    window: Window,
    groups: int = 1,
) -> tuple[Array, ExplicitCache]:
    """Compute `segaware_convolution_forward` step by step: columns, mask, matrix product.

    ``y = b + W (m * im2col(x))``. It stores the columns twice and is here to be read. Parameters,
    results and errors are those of `segaware_convolution_forward`.

    Notes
    -----
    The composition that the networks of Harley, Derpanis, Kokkinos (ICCV 2017) spell out.

    Examples
    --------
    >>> x, weight, window = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), Window.same(3)
    >>> mask = np.full((1, 9, 3, 3), 0.5)
    >>> y, cache = segaware_convolution_explicit_forward(x, mask, weight, window=window)
    >>> y[0, 0].tolist()
    [[2.0, 3.0, 2.0], [3.0, 4.5, 3.0], [2.0, 3.0, 2.0]]
    >>> _, dmask, _, _ = segaware_convolution_explicit_backward(np.ones((1, 1, 3, 3)), cache)
    >>> dmask[0, :, 0, 0].astype(int).tolist()  # the corner's window: 4 of 9 neighbours are inside
    [0, 0, 0, 0, 1, 1, 0, 1, 1]
    """
    _check(x, mask, weight, bias, window, groups)
    columns, image = im2col_forward(x, window)
    with device_of(x):
        masked = columns * mask[:, None]
        y, product = column_convolution_forward(masked, weight, bias, groups=groups)
    return y, ExplicitCache(columns, mask, image, product)


def segaware_convolution_explicit_backward(
    dy: Array, cache: ExplicitCache
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients ``(dx, dmask, dweight, dbias)``: back through product, mask and columns."""
    with device_of(cache.mask):
        dmasked, dweight, dbias = column_convolution_backward(dy, cache.product)
        dmask = (dmasked * cache.columns).sum(1)
        dx = im2col_backward(dmasked * cache.mask[:, None], cache.image)
    return dx, dmask, dweight, dbias


def _check(
    x: Array, mask: Array, weight: Array, bias: Array | None, window: Window, groups: int
) -> None:
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    check_filter(x.shape[1], x, weight, bias, window.kernel, groups)
    shape = (x.shape[0], window.size, *window.output_shape(x.shape[2:]))
    check_array("mask", mask, shape, like=x)
