"""ReLU and its kink.

    y = max(x, 0)

x, y  arrays of one shape

At x = 0 the function has a kink: its slope is 0 on the left and 1 on the right. Any
number between would do; here, as in Caffe and PyTorch, it is 0.
"""

import numpy as np


def forward(x):
    y = np.maximum(x, 0)
    return y, x


def backward(dy, x):
    """Return dx."""
    # Your turn: dx.
    dx = dy * (x > 0)
    return dx


HINT = """\
Each y depends on the x in the same place and on no other: dx = dy times a slope, entry
by entry. The slope is 1 where x > 0 and 0 elsewhere; in NumPy a comparison is an array
of those two numbers."""

MISTAKES = [
    (
        "(x > 0)",
        "(x >= 0)",
        "all is right but where x is exactly 0: there the slope is to be 0, yours is 1",
    ),
    (
        "(x > 0)",
        "(0.5 * (x > 0) + 0.5 * (x >= 0))",
        "all is right but where x is exactly 0: there the slope is to be 0. Your 1/2 is between "
        "both sides, too, but no framework takes it",
    ),
    (
        "dy * (x > 0)",
        "1.0 * (x > 0)",
        "that is the slope dy/dx; the chain rule multiplies it by dy",
    ),
    (
        "(x > 0)",
        "np.maximum(x, 0)",
        "you multiply by y; the slope of max(x, 0) is not its value but 1 or 0",
    ),
    (
        "dy * (x > 0)",
        "np.maximum(dy, 0)",
        "you cut off where dy is negative; what decides is where x was. dy may have any sign",
    ),
    (
        "(x > 0)",
        "np.sign(x)",
        "where x is negative nothing passes, forward or backward; yours passes -dy there (that "
        "is the slope of |x|)",
    ),
]


def draw(rng):
    x = rng.normal(size=(rng.integers(2, 4), rng.integers(4, 7)))
    x[:, :2] = 0
    return (x,)
