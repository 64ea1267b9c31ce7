"""MAX and AVE pooling with Caffe's rounding."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import fast
from segaware_np.window import Axis, Pair, Window, check_window, shifts
from segaware_np.xp import Array, array_module, check_array


def max_pool(x: Array, window: Window, count: Pair) -> Array:
    """Plain formula of `max_pool_forward`."""
    xp = array_module(x)
    y = xp.full((*x.shape[:2], *count), -xp.inf, x.dtype)
    for _, inside, seen in shifts(x.shape[2:], window, count):
        xp.maximum(y[inside], x[seen], out=y[inside])
    return y


def max_pool_grad(dy: Array, x: Array, y: Array, window: Window) -> Array:
    """Plain formula of `max_pool_backward`."""
    xp = array_module(x)
    dx, free = xp.zeros_like(x), xp.ones(dy.shape, bool)  # windows whose maximum is still to come
    finite = xp.isfinite(dy).all()  # else 0 * NaN would reach the rest of a window
    for _, inside, seen in shifts(x.shape[2:], window, y.shape[2:]):
        first = (x[seen] == y[inside]) & free[inside]
        dx[seen] += dy[inside] * first if finite else xp.where(first, dy[inside], dy.dtype.type(0))
        free[inside] &= ~first
    return dx


def average_pool(x: Array, window: Window, count: Pair) -> Array:
    """Plain formula of `average_pool_forward`."""
    xp, shape = array_module(x), x.shape[2:]
    y = xp.zeros((*x.shape[:2], *count), x.dtype)
    for _, inside, seen in shifts(shape, window, count):
        y[inside] += x[seen]
    y /= _padded_area(xp, shape, window, count).astype(x.dtype)
    return y


def average_pool_grad(dy: Array, shape: Pair, window: Window) -> Array:
    """Plain formula of `average_pool_backward`."""
    xp, count = array_module(dy), dy.shape[2:]
    dx = xp.zeros((*dy.shape[:2], *shape), dy.dtype)
    share = dy / _padded_area(xp, shape, window, count).astype(dy.dtype)
    for _, inside, seen in shifts(shape, window, count):
        dx[seen] += share[inside]
    return dx


def pooled_shape(shape: Pair, window: Window) -> Pair:
    """Return the number of pooling windows ``(Ho, Wo)`` on an image of shape ``(H, W)``.

    ``ceil((in + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1``, less a last window that
    would start behind the image (in its padding, or where the stride is larger than the kernel).
    A kernel larger than the image sees all of it, if the stride reaches as far.

    Raises
    ------
    ValueError
        If the padding is not smaller than the kernel, there are no pixels, or no window.
    """
    if any(p >= k for p, k in zip(window.pad, window.kernel, strict=True)):
        raise ValueError(f"window: expected pad < kernel, got {window.pad} and {window.kernel}")
    if min(shape) < 1:
        raise ValueError(f"window: expected an image with pixels, got one of {tuple(shape)}")
    rows, columns = (_pooled(axis) for axis in window.axes(shape))
    if min(rows, columns) < 1:
        window.output_shape(shape)  # raises: it says what does not fit
    return rows, columns


def _pooled(axis: Axis) -> int:
    count = -(-axis.room // axis.stride) + 1
    return count - ((count - 1) * axis.stride >= axis.length + axis.pad)


class MaxPoolCache(NamedTuple):
    x: Array
    y: Array
    window: Window


def max_pool_forward(x: Array, window: Window) -> tuple[Array, MaxPoolCache]:
    """Maximum over each window: ``y[n, c, p] = max_k x[n, c, p + delta_k]`` inside the image.

    Parameters
    ----------
    x : (N, C, H, W) float array
    window : Window

    Returns
    -------
    y : (N, C, Ho, Wo) array
        Sized by `pooled_shape`. A NaN in a window is its maximum.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a floating-point image, the window does not fit it, or a window lies wholly
        in the padding, as one can whose dilation steps over a small image.

    Notes
    -----
    Caffe's Pooling layer, MAX.

    Examples
    --------
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, cache = max_pool_forward(x, Window(3, stride=2, pad=1))
    >>> y[0, 0].tolist()
    [[5.0, 7.0, 7.0], [13.0, 15.0, 15.0], [13.0, 15.0, 15.0]]

    Where a pixel is the maximum of four windows, it gets the gradient of all four:

    >>> max_pool_backward(np.ones((1, 1, 3, 3)), cache)[0, 0].astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0], [0, 2, 0, 4]]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    count = pooled_shape(x.shape[2:], window)
    _check_maxima(x.shape[2:], window, count)
    y = fast(max_pool, x)(x, window, count)
    return y, MaxPoolCache(x, y, window)


def max_pool_backward(dy: Array, cache: MaxPoolCache) -> Array:
    """Hand each window's gradient to the first of its maxima: ``dx[p + delta_k] += dy[p]``."""
    check_array("dy", dy, cache.y.shape, like=cache.y)
    return fast(max_pool_grad, dy)(dy, *cache)


def _check_maxima(shape: Pair, window: Window, count: Pair) -> None:
    """Raise ValueError if a window sees no pixel: the maximum of none would be -inf."""
    for axis, n in zip(window.axes(shape), count, strict=True):
        for start in range(-axis.pad, 0, axis.stride)[:n]:
            # the first row or column that it meets beyond the padding
            if start % axis.dilation >= axis.length:
                raise ValueError(f"window: {window} has windows in the padding of {shape} alone")


class AveragePoolCache(NamedTuple):
    shape: Pair
    window: Window


def average_pool_forward(x: Array, window: Window) -> tuple[Array, AveragePoolCache]:
    """Mean over each window, ``y[n, c, p] = sum_k x[n, c, p + delta_k] / area[p]``.

    `area` counts the pixels of the window in the *padded* image, zeros of the padding included.
    Parameters, result and errors are those of `max_pool_forward`.

    Notes
    -----
    Caffe's Pooling layer, AVE.

    Examples
    --------
    >>> y, cache = average_pool_forward(np.ones((1, 1, 2, 2)), Window(3, pad=1))
    >>> y[0, 0].round(3).tolist()  # 4 pixels of 9: the others are padding
    [[0.444, 0.444], [0.444, 0.444]]
    >>> average_pool_backward(np.ones((1, 1, 2, 2)), cache)[0, 0].round(3).tolist()
    [[0.444, 0.444], [0.444, 0.444]]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    shape = x.shape[2:]
    y = fast(average_pool, x)(x, window, pooled_shape(shape, window))
    return y, AveragePoolCache(shape, window)


def average_pool_backward(dy: Array, cache: AveragePoolCache) -> Array:
    """Hand each pixel of a window the same share: ``dx[p + delta_k] += dy[p] / area[p]``."""
    check_array("dy", dy, ("N", "C", *pooled_shape(*cache)))
    return fast(average_pool_grad, dy)(dy, *cache)


def _padded_area(xp: object, shape: Pair, window: Window, count: Pair) -> Array:
    """Number of pixels of each window that lie in the padded image."""
    areas = []
    for axis, n in zip(window.axes(shape), count, strict=True):
        first = xp.arange(n)[:, None] * axis.stride - axis.pad  # type: ignore[attr-defined]
        taps = first + xp.arange(axis.kernel) * axis.dilation  # type: ignore[attr-defined]
        areas.append((taps < axis.length + axis.pad).sum(1))
    return areas[0][:, None] * areas[1]
