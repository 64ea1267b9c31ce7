"""Segmentation-aware convolution without columns.

    y[n, o, p] = b[o] + sum_{c, k} W[o, c, k] m[n, k, p] x[n, c, p + delta_k]

x       (N, C, H, W)
mask    m, (N, 9, H, W)
weight  (O, C, 9)
bias    (O,)
y       (N, O, H, W)

The same operation. The columns are nine times as large as x, too large for a
photograph: forward takes one offset at a time, and so does backward. The check allows
it less memory than the columns need.
"""

import numpy as np


def pairs(height, width):
    """Yield k, the pixels p that have a neighbour p + delta_k, and these neighbours q.

    a[p] and a[q] are views of any array a of shape (..., H, W).
    """
    for k in range(9):
        i, j = k // 3 - 1, k % 3 - 1
        p = np.s_[..., max(-i, 0) : height - max(i, 0), max(-j, 0) : width - max(j, 0)]
        q = np.s_[..., max(i, 0) : height - max(-i, 0), max(j, 0) : width - max(-j, 0)]
        yield k, p, q


def forward(x, mask, weight, bias):
    y = np.zeros((len(x), len(weight), *x.shape[2:]), x.dtype) + bias[:, None, None]
    for k, p, q in pairs(*x.shape[2:]):
        y[p] += np.einsum("oc,nchw->nohw", weight[:, :, k], mask[:, k, None][p] * x[q])
    return y, (x, mask, weight)


def backward(dy, cache):
    """Return dx, dmask, dweight, dbias."""
    x, mask, weight = cache
    dx, dmask, dweight = np.zeros_like(x), np.zeros_like(mask), np.zeros_like(weight)
    for k, p, q in pairs(*x.shape[2:]):
        tap = weight[:, :, k]
        # Your turn: what offset k gives to dx, dmask and dweight.
        dmasked = np.einsum("oc,nohw->nchw", tap, dy[p])
        m = mask[:, k, None][p]
        dx[q] += m * dmasked
        dmask[:, k][p] = (x[q] * dmasked).sum(1)
        dweight[:, :, k] = np.einsum("nohw,nchw->oc", dy[p], m * x[q])
    dbias = dy.sum((0, 2, 3))
    return dx, dmask, dweight, dbias


HINT = """\
Take the four lines of `segaware` for one k: in the place of the columns stands x[q], dy
and the mask are read at [p]. What was read from x[q] is added to dx[q]; there is no
col2im any more."""

MISTAKES = [
    (
        "dx[q] += m * dmasked",
        "dx[p] += m * dmasked",
        "dx goes to the wrong pixel: the window at p read x at its neighbour q",
    ),
    (
        "dx[q] += m * dmasked",
        "dx[q] = m * dmasked",
        "a pixel is in up to nine windows and hears from all of them; yours keeps only the last "
        "one: add, do not assign",
    ),
    (
        "m = mask[:, k, None][p]",
        "m = mask[:, k, None][q]",
        "the mask is that of the window at p; yours is read at the neighbour q",
    ),
    (
        "(x[q] * dmasked)",
        "(x[p] * dmasked)",
        "dmask needs what the mask multiplied, the neighbour x[q]; yours has the centre x[p]",
    ),
    (
        "dy[p], m * x[q])",
        "dy[p], x[q])",
        "dweight ignores the mask: the weight multiplies the masked neighbour",
    ),
    (
        "dy[p], m * x[q])",
        "dy[q], m * x[q])",
        "dweight meets the neighbour with dy at the neighbour; the window that read it is at p",
    ),
]


def draw(rng):
    c, o = rng.permutation([2, 3])
    height, width = rng.permutation([3, 4])
    x, mask = rng.normal(size=(2, c, height, width)), rng.uniform(size=(2, 9, height, width))
    return x, mask, rng.normal(size=(o, c, 9)), rng.normal(size=o)


def large(rng):
    x, mask = rng.normal(size=(1, 8, 64, 64)), rng.uniform(size=(1, 9, 64, 64))
    return (x, mask, rng.normal(size=(4, 8, 9)), rng.normal(size=4)), 9 * x.nbytes
