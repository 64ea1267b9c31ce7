"""Columns: every window of an image laid out as a column, and the adjoint of that."""

from __future__ import annotations

from typing import NamedTuple

from segaware_np.dispatch import fast
from segaware_np.window import Pair, Window, check_window, image_shape, shifts
from segaware_np.xp import Array, array_module, check_array


def im2col(x: Array, window: Window) -> Array:
    """Plain formula of `im2col_forward`: one shifted copy an offset."""
    xp = array_module(x)
    shape = window.output_shape(x.shape[2:])
    cols = xp.zeros((*x.shape[:2], window.size, *shape), x.dtype)
    for k, inside, seen in shifts(x.shape[2:], window):
        cols[:, :, k][inside] = x[seen]
    return cols


def col2im(cols: Array, shape: Pair, window: Window) -> Array:
    """Plain formula of `col2im_forward`: one shifted sum an offset."""
    xp = array_module(cols)
    x = xp.zeros((*cols.shape[:2], *shape), cols.dtype)
    for k, inside, seen in shifts(shape, window):
        x[seen] += cols[:, :, k][inside]
    return x


class ColumnsCache(NamedTuple):
    shape: Pair  # (H, W) of the image
    window: Window


def im2col_forward(x: Array, window: Window) -> tuple[Array, ColumnsCache]:
    """Lay out every window of an image as a column.

    ``cols[n, c, k, p] = x[n, c, p + delta_k]``, zero where ``p + delta_k`` lies outside the image.

    Parameters
    ----------
    x : (N, C, H, W) float array
    window : Window

    Returns
    -------
    cols : (N, C, K, Ho, Wo) array

    Raises
    ------
    TypeError, ValueError
        If ``x`` is not a floating-point image, or smaller than the window.

    Notes
    -----
    Chellapilla, Puri, Simard: *High Performance Convolutional Neural Networks for Document
    Processing* (2006); Caffe's im2col.

    Examples
    --------
    A window of three pixels in a row, on a row of three:

    >>> x, window = np.array([[[[1.0, 2.0, 3.0]]]]), Window((1, 3), pad=(0, 1))
    >>> cols, cache = im2col_forward(x, window)
    >>> cols[0, 0, :, 0].T.tolist()  # one column a pixel
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    >>> im2col_backward(np.ones((1, 1, 3, 1, 3)), cache).ravel().tolist()
    [2.0, 3.0, 2.0]
    """
    check_array("x", x, ("N", "C", "H", "W"))
    check_window(window)
    window.output_shape(x.shape[2:])
    return fast(im2col, x)(x, window), ColumnsCache(x.shape[2:], window)


def im2col_backward(dcols: Array, cache: ColumnsCache) -> Array:
    """``dx = col2im(dcols)``: every pixel gathers from all the windows that it is in."""
    shape, window = cache
    check_array("dcols", dcols, ("N", "C", window.size, *window.output_shape(shape)))
    return fast(col2im, dcols)(dcols, shape, window)


def col2im_forward(cols: Array, shape: Pair, window: Window) -> tuple[Array, ColumnsCache]:
    """Sum columns back into the image that they cover: the exact adjoint of `im2col_forward`.

    ``x[n, c, q] = sum of cols[n, c, k, p] over all (k, p) with p + delta_k = q``

    Parameters
    ----------
    cols : (N, C, K, Ho, Wo) float array
    shape : (H, W)
        Size of the image.
    window : Window

    Returns
    -------
    x : (N, C, H, W) array

    Raises
    ------
    TypeError, ValueError
        If ``cols`` is not a floating-point array of the shape that the window has on the image.

    Notes
    -----
    As for `im2col_forward`, of which it is the transpose.

    Examples
    --------
    How many 3x3 windows a pixel is in:

    >>> x, cache = col2im_forward(np.ones((1, 1, 9, 3, 3)), (3, 3), Window.same(3))
    >>> x[0, 0].astype(int).tolist()
    [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    >>> col2im_backward(x, cache).shape
    (1, 1, 9, 3, 3)
    """
    check_window(window)
    shape = image_shape("shape", shape)
    check_array("cols", cols, ("N", "C", window.size, *window.output_shape(shape)))
    return fast(col2im, cols)(cols, shape, window), ColumnsCache(shape, window)


def col2im_backward(dx: Array, cache: ColumnsCache) -> Array:
    """``dcols = im2col(dx)``."""
    check_array("dx", dx, ("N", "C", *cache.shape))
    return fast(im2col, dx)(dx, cache.window)
