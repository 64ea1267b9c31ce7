"""Transposed convolution ("deconvolution"): a convolution's gradient of its image, as a layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from segaware_np.dispatch import device_of, fast
from segaware_np.ops.convolution import ALL, convolution, convolution_grad
from segaware_np.window import Pair, Window, check_window
from segaware_np.xp import Array, array_module, check_array, needed


class TransposedConvolutionCache(NamedTuple):
    x: Array
    weight: Array
    has_bias: bool
    window: Window
    groups: int


def transposed_convolution_forward(
    x: Array, weight: Array, bias: Array | None = None, *, window: Window, groups: int = 1
) -> tuple[Array, TransposedConvolutionCache]:
    """Spread every pixel over a window: the adjoint of `convolution_forward`, plus a bias.

    ``y[n, o, p + delta_k] += sum_c W[c, o, k] x[n, c, p]``, for all windows ``p``

    Parameters
    ----------
    x : (N, C, H, W) float array
    weight : (C, O/groups, kh, kw) array
        That of the convolution from O to C channels.
    bias : (O,) array, optional
    window : Window
        Of that convolution: its stride is the factor of enlargement.
    groups : int

    Returns
    -------
    y : (N, O, Ho, Wo) array
        The smallest image that has H x W windows: ``Ho = stride (H - 1) + reach - 2 pad``.

    Raises
    ------
    ValueError
        If the padding leaves nothing of the image.

    Notes
    -----
    Caffe's Deconvolution layer; Dumoulin, Visin (arXiv 1603.07285), chapter 4.

    Examples
    --------
    >>> x, weight = np.array([[[[1.0, 2.0]]]]), np.ones((1, 1, 1, 2))
    >>> y, cache = transposed_convolution_forward(x, weight, window=Window((1, 2), stride=(1, 2)))
    >>> y.ravel().tolist()
    [1.0, 1.0, 2.0, 2.0]
    >>> dy = np.array([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> dx, dweight, _ = transposed_convolution_backward(dy, cache)
    >>> dx.ravel().tolist(), dweight.ravel().tolist()
    ([3.0, 7.0], [7.0, 10.0])
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    n, channels, *size = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"groups: expected a divisor of the {channels} channels, got {groups}")
    check_array("weight", weight, (channels, "O", *window.kernel), like=x)
    outputs = groups * weight.shape[1]
    if bias is not None:
        check_array("bias", bias, (outputs,), like=x)
    shape = (n, outputs, *enlarged_shape((size[0], size[1]), window))
    with device_of(x):
        xp = array_module(x)
        # The gradient of an image does not depend on it: one zero stands for all its pixels.
        image = xp.broadcast_to(xp.zeros((), x.dtype), shape)
        y, _, _ = fast(convolution_grad, x)(x, image, weight, window, groups, frozenset({"x"}))
        if bias is not None:
            y += bias[:, None, None]
    return y, TransposedConvolutionCache(x, weight, bias is not None, window, groups)


def transposed_convolution_backward(
    dy: Array, cache: TransposedConvolutionCache, need: Collection[str] = ALL
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients ``(dx, dweight, dbias)``; those not in `need` (or absent) are None.

    ``dx[p] = sum_k W_k dy[p + delta_k]``, ``dW_k = sum_{n, p} x[p] dy[p + delta_k]^T``,
    ``db = sum_{n, p} dy``
    """
    x, weight, has_bias, window, groups = cache
    outputs = groups * weight.shape[1]
    check_array("dy", dy, (len(x), outputs, *enlarged_shape(x.shape[2:], window)), like=x)
    need = needed(need, ALL, has_bias)
    dx = dweight = None
    if "x" in need:
        dx = fast(convolution, x)(dy, weight, None, window, groups)
    if "weight" in need:
        gradients = fast(convolution_grad, x)(x, dy, weight, window, groups, frozenset({"weight"}))
        dweight = gradients[1]
    with device_of(dy):
        return dx, dweight, dy.sum((0, 2, 3)) if "bias" in need else None


def enlarged_shape(size: Pair, window: Window) -> Pair:
    """Return the size of the smallest image that has that many windows.

    Raises
    ------
    ValueError
        If there is no such image.
    """
    axes = window.axes(size)  # whose windows these pixels are: they have become `length`
    height, width = (a.stride * (a.length - 1) + a.reach - 2 * a.pad for a in axes)
    if min(height, width) < 1:
        raise ValueError(
            f"x: expected an image with something left but padding, got {size} for {window}"
        )
    return height, width
