"""A sum that is read twice.

    s = x + b            read by the gate and by the product
    g = 1 / (1 + exp(-s))
    y = s g

x, s, g, y  (N, C)
b           (C,), added to every row

This is the Swish function behind a bias. What is read twice hears twice: the gradients
that come back along both ways add up.
"""

import numpy as np


def forward(x, b):
    s = x + b
    g = 1 / (1 + np.exp(-s))
    y = s * g
    return y, (s, g)


def backward(dy, cache):
    """Return dx, db."""
    s, g = cache
    # Your turn: dx and db.
    product = dy * g
    gate = dy * s * g * (1 - g)
    dx = product + gate
    db = dx.sum(0)
    return dx, db


HINT = """\
Go back line by line. y = s g: by the product rule s gets dy g and g gets dg = dy s.
Then the gate: the slope of 1 / (1 + exp(-s)) is g (1 - g), so s gets dg g (1 - g) as
well. Add both. b is in every row of s."""

MISTAKES = [
    (
        "dx = product + gate",
        "dx = product",
        "s is read twice: by the product and by the gate. Yours lacks what comes back through "
        "the gate",
    ),
    (
        "dx = product + gate",
        "dx = gate",
        "s is read twice: by the gate and by the product. Yours has what comes back through the "
        "gate and lacks what comes back through the product",
    ),
    (
        "g * (1 - g)",
        "(1 - g)",
        "the slope of the gate is g (1 - g); yours lacks the factor g",
    ),
    (
        "dy * s * g * (1 - g)",
        "dy * g * (1 - g)",
        "what arrives at the gate is dg = dy s, for y = s g; yours lacks the factor s",
    ),
    (
        "g * (1 - g)",
        "g * (1 + g)",
        "the slope of the gate is g (1 - g); yours has a plus",
    ),
    (
        "dx.sum(0)",
        "dx.mean(0)",
        "b is added to every row, so its gradient is the sum over the rows; yours is their mean",
    ),
]


def draw(rng):
    n, c = rng.permutation([3, 4]) + rng.integers(0, 2)
    return rng.normal(size=(n, c)), rng.normal(size=c)
