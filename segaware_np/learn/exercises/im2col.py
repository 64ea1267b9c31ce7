"""im2col and its adjoint.

    columns[n, c, k, p] = x[n, c, p + delta_k]        0 outside the image

x        (N, C, H, W)
columns  (N, C, 9, H, W)

delta_k runs through a 3x3 window, row by row: k = 0 is its upper left corner, k = 4 its
centre p, k = 8 its lower right corner. The map is linear, so its backward is its
adjoint (its transposed matrix): whatever reads x[q] sends its gradient back to x[q].
"""

import numpy as np


def forward(x):
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.stack(views, axis=2), x.shape


def backward(dcolumns, shape):
    """Return dx."""
    n, c, height, width = shape
    # Your turn: dx. Walk the lines of forward from the last to the first.
    padded = np.zeros((n, c, height + 2, width + 2), dcolumns.dtype)
    for k in range(9):
        i, j = k // 3, k % 3
        padded[:, :, i : i + height, j : j + width] += dcolumns[:, :, k]
    dx = padded[:, :, 1:-1, 1:-1]
    return dx


HINT = """\
forward pads, then reads nine views. Its adjoint starts with a padded array of zeros,
adds each dcolumns[:, :, k] to the very view that it was read from, and takes off the
padding last."""

MISTAKES = [
    (
        "] += dcolumns",
        "] = dcolumns",
        "a pixel is in up to nine windows and hears from all of them; yours keeps only the last "
        "one: add, do not assign",
    ),
    (
        "i, j = k // 3, k % 3",
        "i, j = 2 - k // 3, 2 - k % 3",
        "the windows are mirrored: what was read at p + delta_k goes back to p + delta_k, yours "
        "goes to p - delta_k",
    ),
    (
        "i, j = k // 3, k % 3",
        "j, i = k // 3, k % 3",
        "rows and columns of the window are exchanged: k = 1 is above the centre, k = 3 to its "
        "left",
    ),
    (
        "padded[:, :, 1:-1, 1:-1]",
        "padded[:, :, :-2, :-2]",
        "yours is off by one pixel: the padding is one pixel on each side, the image begins at 1",
    ),
    (
        "padded[:, :, 1:-1, 1:-1]",
        "padded[:, :, 1:-1, 1:-1] / 9",
        "yours is a mean over nine windows; the adjoint is their sum",
    ),
    (
        "for k in range(9)",
        "for k in [4]",
        "yours has the centres of the windows only; the eight neighbours read the pixel, too",
    ),
]


def draw(rng):
    n, c = rng.permutation([1, 2])
    height, width = rng.permutation([3, 4]) + rng.integers(0, 2)
    return (rng.normal(size=(n, c, height, width)),)
