"""Convolution as a product.

    y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] columns[n, c, k, p]

x        (N, C, H, W)
columns  (N, C, 9, H, W), which im2col makes of x
weight   (O, C, 9)
bias     (O,)
y        (N, O, H, W)

With the columns of a pixel in one line, convolution is one product of matrices, W times
columns. im2col and its adjoint col2im are those of the exercise before.
"""

import numpy as np


def im2col(x):
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.stack(views, axis=2)


def col2im(columns):
    n, c, _, height, width = columns.shape
    padded = np.zeros((n, c, height + 2, width + 2), columns.dtype)
    for k in range(9):
        i, j = k // 3, k % 3
        padded[:, :, i : i + height, j : j + width] += columns[:, :, k]
    return padded[:, :, 1:-1, 1:-1]


def forward(x, weight, bias):
    columns = im2col(x)
    y = np.einsum("ock,nckhw->nohw", weight, columns) + bias[:, None, None]
    return y, (columns, weight)


def backward(dy, cache):
    """Return dx, dweight, dbias."""
    columns, weight = cache
    # Your turn: dx, dweight and dbias.
    dx = col2im(np.einsum("ock,nohw->nckhw", weight, dy))
    dweight = np.einsum("nohw,nckhw->ock", dy, columns)
    dbias = dy.sum((0, 2, 3))
    return dx, dweight, dbias


HINT = """\
It is the linear layer again, with (n, p) in the place of the samples. In einsum's
letters: a gradient has the letters of what it belongs to, and is made of dy and the
other factor; letters that are missing on the right are summed. The columns' gradient
goes back to x through col2im."""

MISTAKES = [
    (
        'dx = col2im(np.einsum("ock,nohw->nckhw", weight, dy))',
        'dx = np.einsum("oc,nohw->nchw", weight[:, :, 4], dy)',
        "dx has only the windows that have the pixel in their centre; it is in eight others as "
        "well: the columns' gradient goes through col2im",
    ),
    (
        '"ock,nohw->nckhw", weight, dy',
        '"ock,nohw->nckhw", weight[:, :, ::-1], dy',
        "for dx the weights are mirrored once too often: col2im mirrors already",
    ),
    (
        'dweight = np.einsum("nohw,nckhw->ock", dy, columns)',
        'dweight = np.einsum("nohw,nckhw->ock", dy, columns) / len(dy)',
        "the weight's gradient is the sum over the samples; yours is divided by their number",
    ),
    (
        'np.einsum("nohw,nckhw->ock", dy, columns)',
        'np.einsum("ohw,ckhw->ock", dy[0], columns[0])',
        "all samples use the same weight; its gradient has only the first one",
    ),
    (
        "dbias = dy.sum((0, 2, 3))",
        "dbias = dy.mean((0, 2, 3))",
        "the bias is added at every pixel of every sample: its gradient is the sum of dy over "
        "them, yours is the mean",
    ),
    (
        "dbias = dy.sum((0, 2, 3))",
        "dbias = dy.sum((2, 3))[0]",
        "the bias is added in every sample; its gradient has only the first one",
    ),
]


def draw(rng):
    c, o = rng.permutation([2, 3])
    height, width = rng.permutation([3, 4])
    x = rng.normal(size=(2, c, height, width))
    return x, rng.normal(size=(o, c, 9)), rng.normal(size=o)
