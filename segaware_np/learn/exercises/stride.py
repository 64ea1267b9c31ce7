"""Stride and padding.

    y[n, o, i, j] = sum_{c, r, s} W[o, c, r, s] x[n, c, 2 i + r - 1, 2 j + s - 1]

x       (N, C, H, W), taken as 0 outside: it is padded by PAD = 1 on each side
weight  (O, C, 3, 3)
y       (N, O, Ho, Wo), Ho = (H + 2 PAD - 3) // STRIDE + 1, and Wo alike

Windows begin at every second pixel. With an even H the last row of padding is in no
window.
"""

import numpy as np

STRIDE, PAD = 2, 1


def seen(padded, r, s, y):
    """What row r and column s of every window see: a view of the shape of y."""
    height, width = y.shape[2:]
    return padded[:, :, r : r + STRIDE * height : STRIDE, s : s + STRIDE * width : STRIDE]


def forward(x, weight):
    padded = np.pad(x, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    size = [(length + 2 * PAD - 3) // STRIDE + 1 for length in x.shape[2:]]
    y = np.zeros((len(x), len(weight), *size), x.dtype)
    for r in range(3):
        for s in range(3):
            y += np.einsum("oc,nchw->nohw", weight[:, :, r, s], seen(padded, r, s, y))
    return y, (padded, weight)


def backward(dy, cache):
    """Return dx, dweight."""
    padded, weight = cache
    # Your turn: dx and dweight.
    dpadded = np.zeros_like(padded)
    dweight = np.zeros_like(weight)
    for r in range(3):
        for s in range(3):
            dweight[:, :, r, s] = np.einsum("nohw,nchw->oc", dy, seen(padded, r, s, dy))
            dseen = seen(dpadded, r, s, dy)
            dseen += np.einsum("oc,nohw->nchw", weight[:, :, r, s], dy)
    dx = dpadded[:, :, PAD:-PAD, PAD:-PAD]
    return dx, dweight


HINT = """\
seen(...) is a view: what is added to seen(dpadded, r, s, dy) is added to dpadded. Run
the same two loops as forward. In each turn one tap weight[:, :, r, s] multiplies one
view: the tap's gradient sums dy times the view over samples and pixels, the view's
gradient is the tap, transposed, times dy. Take the padding off last."""

MISTAKES = [
    (
        "dseen += ",
        "dseen[...] = ",
        "windows overlap, so some pixels are read by several taps; yours keeps only the last "
        "one: add, do not assign",
    ),
    (
        "dx = dpadded[:, :, PAD:-PAD, PAD:-PAD]",
        "dx = dpadded[:, :, : -2 * PAD, : -2 * PAD]",
        "dx is off by the padding: pixel 0 of the image is pixel PAD of the padded one",
    ),
    (
        "dseen = seen(dpadded, r, s, dy)",
        "dseen = dpadded[:, :, r : r + dy.shape[2], s : s + dy.shape[3]]",
        "the stride is missing on the way back: the windows begin at every second pixel, yours "
        "lie side by side",
    ),
    (
        '"oc,nohw->nchw", weight[:, :, r, s], dy',
        '"oc,nohw->nchw", weight[:, :, 2 - r, 2 - s], dy',
        "the weights are mirrored: what tap (r, s) read, it gets back from dy with the same weight",
    ),
    (
        "dy, seen(padded, r, s, dy))",
        "dy, seen(padded, 2 - r, 2 - s, dy))",
        "dweight is mirrored: tap (r, s) is met with what row r and column s of the windows see",
    ),
    (
        'np.einsum("nohw,nchw->oc", dy, seen(padded, r, s, dy))',
        'np.einsum("ohw,chw->oc", dy[0], seen(padded, r, s, dy)[0])',
        "all samples use the same weight; its gradient has only the first one",
    ),
]


def draw(rng):
    c, o = rng.permutation([1, 2])
    height, width = rng.permutation([5, 6]) + rng.integers(0, 2)
    return rng.normal(size=(2, c, height, width)), rng.normal(size=(o, c, 3, 3))
