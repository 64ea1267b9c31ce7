"""Convolution on the GPU, plain and segmentation-aware, in the three forms that suit the sizes.

* `_implicit`: one kernel reads image, mask and weights and writes the output; no columns at all.
  For few channels.
* `_columns`: columns made a piece at a time, each followed by its matrix product. For many
  channels.
* `_product_first`: since the mask does not depend on the channel, ``y = sum_k m_k shift_k(W_k x)``:
  the product over channels comes first, the masked sum of its shifted results after it. For many
  channels in and few out.

The backward pass makes columns anew, piece by piece: of some channels and all windows for the
gradients of image and mask, of all channels and some windows for that of the weights.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np

from segaware_np.gpu.columns import gather_columns, masked_columns, masked_columns_grad, sum_offsets
from segaware_np.gpu.kernels import launch, sum_dtype, window_struct
from segaware_np.window import Window
from segaware_np.xp import Array, array_module

IMPLICIT_CHANNELS = 128  # most channels (in and out, of a group) for which columns do not pay
PIECE_BYTES = 1 << 27  # most columns at a time: work that outlasts the launches of a piece
_FEW = 32  # matrix products that are made one by one
# As in convolution.cu:
_TILE_WINDOWS = 128  # windows of a tile and threads of a block
_STEP = 8  # rows of weights, of one channel each or two, that are multiplied in one step


def convolution(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Fast form of `segaware_np.ops.convolution.convolution`."""
    return forward(x, None, weight, bias, window, groups)


def convolution_grad(
    dy: Array, x: Array, weight: Array, window: Window, groups: int, need: Collection[str]
) -> tuple[Array | None, Array | None, Array | None]:
    """Fast form of `segaware_np.ops.convolution.convolution_grad`."""
    dx, _, dweight, dbias = backward(dy, x, None, weight, window, groups, need)
    return dx, dweight, dbias


def forward(
    x: Array, mask: Array | None, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    if max(outputs, channels) <= IMPLICIT_CHANNELS:
        return _implicit(x, mask, weight, bias, window, groups)
    shape, count = x.shape[2:], window.output_shape(x.shape[2:])
    fewer = outputs * shape[0] * shape[1] < channels * count[0] * count[1]
    if mask is not None and groups == 1 and fewer:
        return _product_first(x, mask, weight, bias, window)
    return _columns(x, mask, weight, bias, window, groups)


def _implicit(
    x: Array, mask: Array | None, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    xp = array_module(x)
    n, _, *shape = x.shape
    count = window.output_shape(shape)
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    y = xp.empty((n, groups * outputs, *count), x.dtype)
    tensor_cores, widest = _on_tensor_cores(x), 32 if x.dtype.char == "d" else 64
    fitting = next(size for size in (16, 32, 64) if size >= min(outputs, widest))
    tile = 64 if tensor_cores else fitting
    tiles_o, tiles_p = -(-outputs // tile), -(-(count[0] * count[1]) // _TILE_WINDOWS)
    brought = _STEP * (2 if tensor_cores and x.dtype.char == "e" else 1)
    sizes = (np.int32(groups), np.int32(channels), np.int32(outputs))
    words = xp.empty(
        (groups, tiles_o, window.size, -(-channels // brought), _STEP, tile),
        np.uint32 if tensor_cores else sum_dtype(x.dtype),
    )
    weight = xp.ascontiguousarray(weight)
    launch(
        "arrange_weights",
        (x.dtype, 0 if tensor_cores else tile),
        words.size,
        *(weight, words, np.int32(window.size), *sizes),
    )
    launch(
        "convolution_tensor_cores" if tensor_cores else "convolution",
        (x.dtype, *(() if tensor_cores else (tile,)), mask is not None),
        n * groups * tiles_o * tiles_p * _TILE_WINDOWS,
        xp.ascontiguousarray(x),
        None if mask is None else xp.ascontiguousarray(mask),
        words,
        weight,
        None if bias is None else xp.ascontiguousarray(bias),
        *(y, window_struct(window, shape), np.int64(n), *sizes),
        block=_TILE_WINDOWS,
    )
    return y


def _on_tensor_cores(x: Array) -> bool:
    """Whether they keep the precision: float16 as it is, float32 if CuPy was told to use TF32."""
    asked = x.dtype.char == "e" or (x.dtype.char == "f" and os.environ.get("CUPY_TF32") == "1")
    return asked and int(x.device.compute_capability) >= 80


def _columns(
    x: Array, mask: Array | None, weight: Array, bias: Array | None, window: Window, groups: int
) -> Array:
    n, _, *shape = x.shape
    count = window.output_shape(shape)
    taps = weight.reshape(groups, weight.shape[0] // groups, -1)  # (g, O, C K)
    y = array_module(x).empty((n, weight.shape[0], count[0] * count[1]), x.dtype)
    for some, part, cols in _column_pieces(x, mask, window):  # (g C, K, samples, windows)
        samples, windows = cols.shape[2:]
        product = _products(taps, cols.reshape(groups, -1, samples * windows))
        y[some, :, part] = product.reshape(-1, samples, windows).swapaxes(0, 1)
        del cols, product  # before the next piece is made
    if bias is not None:
        y += bias[:, None]
    y = y.reshape(n, weight.shape[0], *count)
    if window.pad != (0, 0):
        _repair("convolution_repair", x, mask, weight, window, groups, [x, mask, weight, bias, y])
    return y


def _product_first(
    x: Array, mask: Array, weight: Array, bias: Array | None, window: Window
) -> Array:
    xp = array_module(x)
    n, c, *shape = x.shape
    outputs, pixels = weight.shape[0], shape[0] * shape[1]
    taps = weight.reshape(outputs, c, window.size).transpose(0, 2, 1).reshape(1, -1, c)  # (1,OK,C)
    y = xp.empty((n, outputs, *mask.shape[2:]), x.dtype)
    for some, _ in _pieces(n, 1, outputs * window.size * pixels * x.dtype.itemsize):
        images = _products(taps, x[some].reshape(-1, c, pixels))
        images = images.reshape(-1, outputs, window.size, *shape)  # W_k x for each offset
        y[some] = sum_offsets(images, mask[some], window)
    if bias is not None:
        y += bias[:, None, None]
    return y


def backward(
    dy: Array,
    x: Array,
    mask: Array | None,
    weight: Array,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    exact, dx, dmask, dweight, dbias = sum_dtype(x.dtype), None, None, None, None
    if "x" in need or "mask" in need:
        dx, dmask = _image_grad(dy, x, mask, weight, window, groups, need)
    if "weight" in need:
        dweight = _weight_grad(dy, x, mask, weight, window, groups)
    if "bias" in need:  # in two steps: the first has enough sums to keep a whole GPU busy
        dbias = dy.sum((2, 3), dtype=exact).sum(0).astype(x.dtype, copy=False)
    return dx, dmask, dweight, dbias


def _image_grad(
    dy: Array,
    x: Array,
    mask: Array | None,
    weight: Array,
    window: Window,
    groups: int,
    need: Collection[str],
) -> tuple[Array | None, Array | None]:
    xp = array_module(x)
    n, _, *shape = x.shape
    windows = dy.shape[2] * dy.shape[3]
    dx = xp.empty(x.shape, x.dtype) if "x" in need else None
    dmask = None
    if mask is not None and "mask" in need:
        dmask = xp.zeros(mask.shape, sum_dtype(x.dtype))
    # Channels by their place in a group: a piece takes the same channels of every group.
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    taps = weight.reshape(groups, outputs, channels, window.size)
    whole = n, groups, channels, *shape
    outer = dy.reshape(n, groups, outputs, windows)
    for some, part in _pieces(n, channels, groups * window.size * windows * x.dtype.itemsize):
        size = some.stop - some.start, groups * (part.stop - part.start), *shape  # (n, g c, H, W)
        transposed = taps[:, :, part].reshape(groups, outputs, -1).swapaxes(1, 2)  # (g, c K, O)
        dcols = _products(transposed, _side_by_side(outer[some]))
        target = None if dx is None else dx.reshape(whole)[some, :, part]
        with _contiguous(target, size) as found:
            if mask is None:
                gather_columns(dcols, found, window)
            else:
                piece = x.reshape(whole)[some, :, part].reshape(size)
                masked_columns_grad(dcols, piece, mask[some], found, _part(dmask, some), window)
        del dcols  # before the next piece is made
    return dx, None if dmask is None else dmask.astype(x.dtype, copy=False)


def _weight_grad(
    dy: Array, x: Array, mask: Array | None, weight: Array, window: Window, groups: int
) -> Array:
    outputs = weight.shape[0] // groups
    outer = dy.reshape(len(dy), groups, outputs, dy.shape[2] * dy.shape[3])
    exact = sum_dtype(x.dtype)
    wide = np.float64 if x.dtype == exact else exact  # cuBLAS adds half products in float32
    dtaps = array_module(x).zeros((groups, outputs, weight[0].size), wide)
    for some, part, cols in _column_pieces(x, mask, window):
        cols = cols.reshape(groups, weight[0].size, -1)  # (g, C K, samples windows)
        _add_products(dtaps, _side_by_side(outer[some, ..., part]), cols)
        del cols  # before the next piece is made
    dtaps = dtaps.astype(exact, copy=False)
    if window.pad != (0, 0):
        arrays = [dy, x, mask, dtaps]
        _repair("weight_gradient_repair", x, mask, weight, window, groups, arrays)
    return dtaps.reshape(weight.shape).astype(x.dtype, copy=False)


def _repair(
    kernel: str,
    x: Array,
    mask: Array | None,
    weight: Array,
    window: Window,
    groups: int,
    arrays: list[Array],
) -> None:
    """Sum again, without the zeros around the image, what is not finite in the last array."""
    xp = array_module(x)
    launch(
        kernel,
        (x.dtype, mask is not None),
        arrays[-1].size,
        *(None if a is None else xp.ascontiguousarray(a) for a in arrays),
        window_struct(window, x.shape[2:]),
        np.int64(len(x)),
        np.int32(groups),
        np.int32(weight.shape[1]),
        np.int32(weight.shape[0] // groups),
    )


def _side_by_side(matrices: Array) -> Array:
    """Return (N, groups, O, windows) as (groups, O, N windows), like columns."""
    n, groups, outputs, windows = matrices.shape
    return matrices.transpose(1, 2, 0, 3).reshape(groups, outputs, n * windows)


def _column_pieces(
    x: Array, mask: Array | None, window: Window
) -> Iterator[tuple[slice, slice, Array]]:
    """Make masked columns of some samples and windows after others."""
    n, c, *shape = x.shape
    count = window.output_shape(shape)
    for some, part in _pieces(n, count[0] * count[1], c * window.size * x.dtype.itemsize):
        length = part.stop - part.start
        yield some, part, masked_columns(x[some], _part(mask, some), window, part.start, length)


def _pieces(samples: int, items: int, item_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Cut samples x items into pieces that fit: whole samples together, or parts of one."""
    fitting = max(1, PIECE_BYTES // max(1, item_bytes))
    for some in _cut(samples, max(1, fitting // max(1, items))):
        for part in _cut(items, fitting):
            yield some, part


def _cut(length: int, most: int) -> Iterator[slice]:
    """Cut a length into as few parts as can be, none longer than `most`, as even as can be."""
    step = -(-length // max(1, -(-length // most)))
    for first in range(0, length, max(1, step)):
        yield slice(first, min(first + step, length))


@contextmanager
def _contiguous(target: Array | None, shape: tuple[int, ...]) -> Iterator[Array | None]:
    """Give an array that a kernel can write to: `target` itself, or one that is copied there."""
    if target is None:
        yield None
    elif target.flags.c_contiguous:
        yield target.reshape(shape)
    else:
        found = array_module(target).empty(shape, target.dtype)
        yield found
        target[...] = found.reshape(target.shape)


def _part(array: Array | None, some: slice) -> Array | None:
    return None if array is None else array[some]


def _products(a: Array, b: Array) -> Array:
    """Return ``a[g] @ b[g]`` for each g.

    a (G, L, M), or (1, L, M) for all g; b (G, M, R) -> (G, L, R)

    CuPy hands two matrices to cuBLAS as they lie, transposed or not, for float16 and TF32 on
    tensor cores. Of a stack it copies what is transposed, widens float16, and never uses TF32:
    that pays only where there are many small ones, as of a depthwise convolution.
    """
    xp = array_module(a)
    if len(b) > _FEW:
        return xp.matmul(a, b)
    c = xp.empty((len(b), a.shape[1], b.shape[2]), b.dtype)
    for g, target in enumerate(c):
        xp.matmul(a[g % len(a)], b[g], out=target)
    return c


def _add_products(c: Array, a: Array, b: Array) -> None:
    """Add ``a[g] @ b[g].T`` to ``c[g]`` for each g, without rounding the sum to the type of a, b.

    a (G, L, M), b (G, R, M); c (G, L, R), float32 if a and b are float16, else float64

    A float16 product of a part of a long sum can be infinite where the whole sum is not.
    """
    if a.dtype.itemsize > 2:
        c += _products(a, b.swapaxes(1, 2))
    elif len(c) > _FEW:
        c += array_module(a).matmul(a.astype(c.dtype), b.astype(c.dtype).swapaxes(1, 2))
    elif a.size and b.size:
        for target, left, right in zip(c, a, b, strict=True):
            _add_half_product(target, left, right)


def _add_half_product(c: Array, a: Array, b: Array) -> None:
    """``c += a @ b.T`` by cuBLAS, which CuPy's own functions ask for float16 sums only."""
    xp = array_module(a)
    cuda, a, b = xp.cuda, xp.ascontiguousarray(a), xp.ascontiguousarray(b)
    cublas, half, single = cuda.cublas, cuda.runtime.CUDA_R_16F, cuda.runtime.CUDA_R_32F
    one = np.ones((), np.float32)
    # cuBLAS names the first index the fastest: to it the matrices are c.T += (b.T).T @ a.T.
    cublas.gemmEx(
        cuda.device.get_cublas_handle(),
        *(cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, len(b), len(a), a.shape[1], one.ctypes.data),
        *(b.data.ptr, half, b.shape[1], a.data.ptr, half, a.shape[1], one.ctypes.data),
        *(c.data.ptr, single, len(b), cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT),
    )
