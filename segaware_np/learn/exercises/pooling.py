"""Max pooling with ties.

    y[n, c, i, j] = max over r, s in {0, 1} of x[n, c, 2 i + r, 2 j + s]

x  (N, C, H, W), H and W even
y  (N, C, H/2, W/2)

The largest pixel of each 2x2 block gets the whole gradient. If several are equally
large (after a ReLU many are 0), the first of them gets it, read row by row. That is
Caffe's rule and PyTorch's.
"""

import numpy as np


def to_blocks(x):
    """(N, C, H, W) to (N, C, H/2, W/2, 4): the pixels of a block, row by row."""
    n, c, height, width = x.shape
    split = x.reshape(n, c, height // 2, 2, width // 2, 2)
    return split.swapaxes(3, 4).reshape(n, c, height // 2, width // 2, 4)


def from_blocks(blocks):
    """The inverse of to_blocks."""
    n, c, height, width, _ = blocks.shape
    split = blocks.reshape(n, c, height, width, 2, 2)
    return split.swapaxes(3, 4).reshape(n, c, 2 * height, 2 * width)


def forward(x):
    blocks = to_blocks(x)
    return blocks.max(-1), blocks


def backward(dy, blocks):
    """Return dx."""
    # Your turn: dx.
    first = blocks.argmax(-1)
    chosen = np.arange(4) == first[..., None]
    dx = from_blocks(chosen * dy[..., None])
    return dx


HINT = """\
np.argmax returns the first of several maxima. Compare np.arange(4) with it, and you
have an array of the shape of blocks that is True at one pixel of each."""

MISTAKES = [
    (
        "chosen = np.arange(4) == first[..., None]",
        "chosen = blocks == blocks.max(-1, keepdims=True)",
        "without ties yours is right; with ties it gives the whole gradient to each of them, "
        "and so several times in all. Only the first gets it",
    ),
    (
        "dx = from_blocks(chosen * dy[..., None])",
        "largest = blocks == blocks.max(-1, keepdims=True)\n"
        "    dx = from_blocks(largest * (dy / largest.sum(-1))[..., None])",
        "without ties yours is right; with ties it shares the gradient among them. Here the "
        "first gets it all",
    ),
    (
        "first = blocks.argmax(-1)",
        "first = 3 - blocks[..., ::-1].argmax(-1)",
        "without ties yours is right; with ties it takes the last of the maxima, not the first",
    ),
    (
        "chosen * dy[..., None]",
        "np.ones_like(blocks) * dy[..., None] / 4",
        "that is the backward of the mean: all four pixels get a quarter. Of a maximum, one "
        "gets it all",
    ),
    (
        "first = blocks.argmax(-1)",
        "first = np.zeros(dy.shape, int)",
        "the gradient goes to the largest pixel of a block; yours goes to the upper left one "
        "always",
    ),
    (
        "chosen * dy[..., None]",
        "1.0 * chosen * np.ones_like(dy)[..., None]",
        "that is the slope dy/dx; the chain rule multiplies it by dy",
    ),
]


def draw(rng):
    n, c = rng.permutation([1, 2])
    height, width = 2 * rng.permutation([2, 3])
    x = rng.integers(-1, 3, (n, c, height, width)).clip(0).astype(float)
    x[..., :2, :2] = [[1, 2], [0, 2]]
    x[..., :2, 2:4] = [[1, 3], [0, 2]]
    return (x,)
