"""The contrastive loss.

    h    = max(d - 0.5, 0)  for pairs of one segment: they should be nearer than 0.5
    h    = max(2 - d, 0)    for the others: they should be farther than 2
    loss = 1/count sum h    over all count = N 9 H W pairs

distance  d, (N, 9, H, W)
same      (N, 9, H, W) whole numbers: 1 in one segment, 0 across a boundary
loss      a number

This loss teaches embeddings. Where h is 0 there is no gradient, on the kinks (h just 0)
neither.
"""

import numpy as np

ALPHA, BETA = 0.5, 2.0


def forward(distance, same):
    h = np.where(same == 1, distance - ALPHA, BETA - distance)
    h = h * (h.real > 0)
    return h.sum() / h.size, (h, same)


def backward(dloss, cache):
    """Return ddistance."""
    h, same = cache
    # Your turn: ddistance.
    sign = np.where(same == 1, 1, -1).astype(h.dtype)
    ddistance = dloss * sign * (h > 0) / h.size
    return ddistance


HINT = """\
The slope of h by d is 1 for pairs of one segment and -1 for the others, where h > 0;
elsewhere it is 0. Then the mean, and dloss."""

MISTAKES = [
    (
        "sign * (h > 0)",
        "sign",
        "pairs that keep their rule pull on the distance as well; where h is 0 there is no "
        "gradient",
    ),
    (
        "np.where(same == 1, 1, -1)",
        "np.where(same == 1, 1, 1)",
        "pairs across a boundary have the wrong sign: their h is 2 - d, it shrinks as d grows",
    ),
    (
        "np.where(same == 1, 1, -1)",
        "np.where(same == 1, -1, 1)",
        "every sign is wrong: the gradient is +1 for pairs of one segment, whose h grows with d",
    ),
    (
        "(h > 0) / h.size",
        "(h > 0)",
        "the loss is a mean over all pairs; yours lacks the division by their number",
    ),
    (
        "(h > 0) / h.size",
        "(h > 0) / (h > 0).sum()",
        "yours divides by the number of pairs that break their rule; the loss is a mean over "
        "all pairs",
    ),
    (
        "sign * (h > 0)",
        "sign * h",
        "that is the gradient of the squared loss, sum h^2 / 2; here h counts, and its slope is "
        "1 or 0",
    ),
]


def draw(rng):
    height, width = rng.permutation([2, 3])
    distance = rng.uniform(0, 3, (rng.integers(1, 3), 9, height, width))
    same = rng.integers(0, 2, distance.shape)
    distance[:, 0], distance[:, 1] = ALPHA, BETA
    return distance, same
