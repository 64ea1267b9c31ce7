"""Segmentation-aware convolution, all four arguments.

    y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] m[n, k, p] columns[n, c, k, p]

x        (N, C, H, W)
columns  (N, C, 9, H, W), which im2col makes of x: columns[n, c, k, p] = x[n, c, p + delta_k]
mask     m, (N, 9, H, W), one for all channels
weight   (O, C, 9)
bias     (O,)
y        (N, O, H, W)

A convolution whose window listens to the neighbours on its own side of a boundary.
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


def forward(x, mask, weight, bias):
    columns = im2col(x)
    masked = mask[:, None] * columns
    y = np.einsum("ock,nckhw->nohw", weight, masked) + bias[:, None, None]
    return y, (columns, mask, weight)


def backward(dy, cache):
    """Return dx, dmask, dweight, dbias."""
    columns, mask, weight = cache
    # Your turn: dx, dmask, dweight and dbias.
    dmasked = np.einsum("ock,nohw->nckhw", weight, dy)
    dx = col2im(mask[:, None] * dmasked)
    dmask = (columns * dmasked).sum(1)
    dweight = np.einsum("nohw,nckhw->ock", dy, mask[:, None] * columns)
    dbias = dy.sum((0, 2, 3))
    return dx, dmask, dweight, dbias


HINT = """\
First what arrives at the masked columns, dmasked = W^T dy, as in `product`. The masked
columns are a product of two factors: the columns' gradient is the mask times dmasked,
and goes back to x through col2im; the mask's is the columns times dmasked, summed over
the channels that share it."""

MISTAKES = [
    (
        "col2im(mask[:, None] * dmasked)",
        "col2im(dmasked)",
        "dx ignores the mask: what a window hardly saw, it hardly changes",
    ),
    (
        "col2im(mask[:, None] * dmasked)",
        "mask[:, 4:5] * col2im(dmasked)",
        "dx is masked after col2im, by the pixel's own mask; each window has masked what it saw "
        "with its own: multiply before col2im",
    ),
    (
        "(columns * dmasked).sum(1)",
        "(columns * dmasked).mean(1)",
        "one mask serves all channels, so its gradient is their sum; yours is their mean",
    ),
    (
        "(columns * dmasked).sum(1)",
        "dmasked.sum(1)",
        "dmask lacks the factor that the mask multiplies: the columns",
    ),
    (
        "dy, mask[:, None] * columns",
        "dy, columns",
        "dweight ignores the mask: the weight multiplies the masked columns",
    ),
    (
        "dbias = dy.sum((0, 2, 3))",
        "dbias = dy.mean((0, 2, 3))",
        "the bias is added at every pixel of every sample: its gradient is the sum of dy over "
        "them, yours is the mean",
    ),
]


def draw(rng):
    c, o = rng.permutation([2, 3])
    height, width = rng.permutation([3, 4])
    x, mask = rng.normal(size=(2, c, height, width)), rng.uniform(size=(2, 9, height, width))
    return x, mask, rng.normal(size=(o, c, 9)), rng.normal(size=o)
