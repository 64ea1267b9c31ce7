"""Convolution as matrix products, from an image or from columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import fast, follows
from segaware_np.window import Window, check_window, shifts
from segaware_np.xp import Array, array_module, check_array, long_sum, needed


def convolution(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Plain formula of `convolution_forward`: one matrix product an offset, no columns."""
    y = start_output(x, weight, bias, window)
    taps = weight.reshape(*weight.shape[:2], window.size)
    for k, inside, seen in shifts(x.shape[2:], window):
        y[inside] += mix(taps[:, :, k], x[seen], groups)
    return y


def convolution_grad(
    dy: Array, x: Array, weight: Array, window: Window, groups: int, need: Collection[str]
) -> tuple[Array | None, Array | None, Array | None]:
    """Plain formula of `convolution_backward`."""
    xp = array_module(x)
    dx = xp.zeros_like(x) if "x" in need else None
    dtaps = xp.zeros((*weight.shape[:2], window.size), x.dtype) if "weight" in need else None
    taps = weight.reshape(*weight.shape[:2], window.size)
    for k, inside, seen in shifts(x.shape[2:], window):
        if dx is not None:
            dx[seen] += mix_transposed(taps[:, :, k], dy[inside], groups)
        if dtaps is not None:
            dtaps[:, :, k] = correlate(dy[inside], x[seen], groups)
    return (
        dx,
        None if dtaps is None else dtaps.reshape(weight.shape),
        bias_grad(dy) if "bias" in need else None,
    )


ALL = frozenset({"x", "weight", "bias"})


_RUN = 1 << 14  # pixels that a matrix product may add up: longer sums in single precision drift


class ConvolutionCache(NamedTuple):
    x: Array
    weight: Array
    has_bias: bool
    window: Window
    groups: int


def convolution_forward(
    x: Array, weight: Array, bias: Array | None = None, *, window: Window, groups: int = 1
) -> tuple[Array, ConvolutionCache]:
    """Convolution (cross-correlation, as in all networks).

    ``y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] x[n, c, p + delta_k]``

    Parameters
    ----------
    x : (N, C, H, W) float array
    weight : (O, C/groups, kh, kw) array
    bias : (O,) array, optional
    window : Window
    groups : int
        Output channels of group g see only input channels of group g.

    Returns
    -------
    y : (N, O, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If the arrays do not go together, or `window` is no `Window`.

    Notes
    -----
    Dumoulin, Visin: *A guide to convolution arithmetic for deep learning* (arXiv 1603.07285).

    Examples
    --------
    >>> x, weight = np.array([[[[1.0, 2.0, 4.0]]]]), np.array([[[[-1.0, 1.0]]]])
    >>> y, cache = convolution_forward(x, weight, window=Window((1, 2)))
    >>> y.ravel().tolist()
    [1.0, 2.0]
    >>> dx, dweight, _ = convolution_backward(np.ones((1, 1, 1, 2)), cache)
    >>> dx.ravel().tolist(), dweight.ravel().tolist()
    ([-1.0, 0.0, 1.0], [3.0, 6.0])
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    check_filter(x.shape[1], x, weight, bias, window.kernel, groups)
    window.output_shape(x.shape[2:])
    y = fast(convolution, x)(x, weight, bias, window, groups)
    return y, ConvolutionCache(x, weight, bias is not None, window, groups)


def convolution_backward(
    dy: Array, cache: ConvolutionCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients ``(dx, dweight, dbias)``; those not in `need` (or absent) are None.

    ``dx = sum_k shift_k^T (W_k^T dy)``, ``dW_k = sum_{n, p} dy x_k^T``, ``db = sum_{n, p} dy``
    """
    x, weight, has_bias, window, groups = cache
    shape = (x.shape[0], weight.shape[0], *window.output_shape(x.shape[2:]))
    check_array("dy", dy, shape, like=x)
    need = needed(need, ALL, has_bias)
    return fast(convolution_grad, x)(dy, x, weight, window, groups, need)


class ColumnConvolutionCache(NamedTuple):
    columns: Array
    weight: Array
    has_bias: bool
    groups: int


@follows
def column_convolution_forward(
    columns: Array, weight: Array, bias: Array | None = None, *, groups: int = 1
) -> tuple[Array, ColumnConvolutionCache]:
    """Convolution of an image that is laid out in columns: one matrix product.

    ``y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] cols[n, c, k, p]``

    Parameters
    ----------
    columns : (N, C, K, Ho, Wo) float array
    weight : (O, C/groups, kh, kw) array
        With ``kh * kw = K``.
    bias : (O,) array, optional
    groups : int

    Returns
    -------
    y : (N, O, Ho, Wo) array

    Raises
    ------
    ValueError
        If the columns have another number of taps than the kernel.

    Notes
    -----
    As for `im2col_forward`.

    Examples
    --------
    >>> columns = np.arange(6.0).reshape(1, 1, 2, 1, 3)  # two taps, three windows
    >>> y, cache = column_convolution_forward(columns, np.array([[[[1.0, 10.0]]]]))
    >>> y.ravel().tolist()
    [30.0, 41.0, 52.0]
    >>> dcolumns, dweight, _ = column_convolution_backward(np.ones((1, 1, 1, 3)), cache)
    >>> dcolumns[0, 0, :, 0].tolist(), dweight.ravel().tolist()
    ([[1.0, 1.0, 1.0], [10.0, 10.0, 10.0]], [3.0, 12.0])
    """
    check_array("columns", columns, ("N", "C", "K", "Ho", "Wo"))
    check_filter(columns.shape[1], columns, weight, bias, None, groups)
    kernel = weight.shape[2] * weight.shape[3]
    if kernel != columns.shape[2]:
        raise ValueError(
            f"weight: expected a kernel of {columns.shape[2]} taps to match columns, got "
            f"{weight.shape[2]}x{weight.shape[3]}"
        )
    n, c, k, *shape = columns.shape
    y = mix(_flat(weight), columns.reshape(n, c * k, *shape), groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, ColumnConvolutionCache(columns, weight, bias is not None, groups)


@follows
def column_convolution_backward(
    dy: Array, cache: ColumnConvolutionCache
) -> tuple[Array, Array, Array | None]:
    """Gradients ``(dcolumns, dweight, dbias)``, the last None where there was no bias.

    ``dcols = W^T dy``, ``dW = sum_{n, p} dy cols^T``, ``db = sum_{n, p} dy``
    """
    columns, weight, has_bias, groups = cache
    n, c, k, *shape = columns.shape
    check_array("dy", dy, (n, weight.shape[0], *shape), like=columns)
    dcolumns = mix_transposed(_flat(weight), dy, groups).reshape(columns.shape)
    dweight = correlate(dy, columns.reshape(n, c * k, *shape), groups).reshape(weight.shape)
    return dcolumns, dweight, bias_grad(dy) if has_bias else None


def mix(weight: Array, x: Array, groups: int) -> Array:
    """Mix channels: ``y[n, o, p] = sum_c W[o, c] x[n, c, p]``, group by group."""
    return _mix(_grouped(weight, groups), x, groups)


def mix_transposed(weight: Array, y: Array, groups: int) -> Array:
    """``x[n, c, p] = sum_o W[o, c] y[n, o, p]``, group by group."""
    return _mix(_grouped(weight, groups).swapaxes(1, 2), y, groups)


def correlate(y: Array, x: Array, groups: int) -> Array:
    """``W[o, c] = sum_{n, p} y[n, o, p] x[n, c, p]``, group by group."""
    xp = array_module(x)
    n, o, *shape = y.shape
    size = shape[0] * shape[1]
    left = y.reshape(n, groups, o // groups, size)
    right = x.reshape(n, groups, x.shape[1] // groups, size).swapaxes(2, 3)
    parts = [
        long_sum(
            xp.matmul(left[..., start : start + _RUN], right[:, :, start : start + _RUN]), (0,)
        )
        for start in range(0, max(1, size), _RUN)
    ]
    return sum(parts[1:], parts[0]).astype(x.dtype).reshape(o, x.shape[1] // groups)


def bias_grad(dy: Array) -> Array:
    """``db[o] = sum_{n, p} dy[n, o, p]``."""
    return long_sum(dy, (0, 2, 3)).astype(dy.dtype)


def start_output(x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
    """Return an output image that holds the bias."""
    xp = array_module(x)
    y = xp.zeros((x.shape[0], weight.shape[0], *window.output_shape(x.shape[2:])), x.dtype)
    if bias is not None:
        y += bias[:, None, None]
    return y


def check_filter(
    channels: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    kernel: tuple[int, int] | None,
    groups: int,
) -> None:
    """Raise unless weight, bias and groups go together with an input of that many channels."""
    _check_channels_first(channels, x, weight, groups)
    if groups < 1 or channels % groups:
        raise ValueError(f"groups: expected a divisor of the {channels} channels, got {groups}")
    taps: tuple[int | str, ...] = kernel or ("kh", "kw")
    check_array("weight", weight, ("O", channels // groups, *taps), like=x)
    if weight.shape[0] % groups:
        raise ValueError(
            f"weight: expected a multiple of {groups} (groups) output channels, "
            f"got {weight.shape[0]}"
        )
    if bias is not None:
        check_array("bias", bias, (weight.shape[0],), like=x)


def _check_channels_first(channels: int, x: Array, weight: Array, groups: int) -> None:
    """Blame the image, not the weight, if its channels are last."""
    wanted = [inner * groups for inner in getattr(weight, "shape", ())[1:2]]
    if x.ndim == 4 and wanted == [x.shape[-1]] != [channels]:
        raise ValueError(
            f"x: expected shape (N, {x.shape[-1]}, H, W) to go with weight, got {x.shape} "
            "(channels last? x.transpose(0, 3, 1, 2) puts them first)"
        )


def _mix(weight: Array, x: Array, groups: int) -> Array:
    n, c, *shape = x.shape
    flat = x.reshape(n, groups, c // groups, shape[0] * shape[1])
    y = array_module(x).matmul(weight, flat)
    return y.reshape(n, groups * weight.shape[1], *shape)


def _grouped(weight: Array, groups: int) -> Array:
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1])


def _flat(weight: Array) -> Array:
    return weight.reshape(weight.shape[0], weight.shape[1] * weight.shape[2] * weight.shape[3])
