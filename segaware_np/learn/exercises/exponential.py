"""The exponential mask.

    m[n, k, p] = exp(-s d[n, k, p])

distance  (N, 9, H, W); infinite where a neighbour is removed: its m is 0
scale     s, a number (a 0-d array)
m         (N, 9, H, W)

A removed neighbour stays removed whatever d and s do, so it has no part in any
gradient. Mind that 0 times infinity is NaN.
"""

import numpy as np


def forward(distance, scale):
    removed = np.isinf(distance)
    d = np.where(removed, 0, distance)
    m = np.where(removed, 0, np.exp(-scale * d))
    return m, (distance, scale, m)


def backward(dm, cache):
    """Return ddistance, dscale."""
    distance, scale, m = cache
    # Your turn: ddistance and dscale.
    d = np.where(np.isinf(distance), 0, distance)
    ddistance = -scale * m * dm
    dscale = -(d * m * dm).sum()
    return ddistance, dscale


HINT = """\
The slope of exp(-s d) by d is -s m, and by s it is -d m. Every entry reads the one s,
so its gradient is a sum over all. Where d is infinite, m is 0: put any finite number in
d's place before you multiply."""

MISTAKES = [
    (
        "ddistance = -scale * m * dm",
        "ddistance = -m * dm",
        "ddistance lacks the inner derivative: exp(-s d) by d is -s exp(-s d)",
    ),
    (
        "ddistance = -scale",
        "ddistance = scale",
        "ddistance has the wrong sign: a larger distance makes the mask smaller",
    ),
    (
        "-(d * m * dm).sum()",
        "-(m * dm).sum()",
        "dscale lacks the factor d: exp(-s d) by s is -d exp(-s d)",
    ),
    (
        "-(d * m * dm).sum()",
        "(d * m * dm).sum()",
        "dscale has the wrong sign: a larger scale makes the mask smaller",
    ),
    (
        "-(d * m * dm).sum()",
        "-(d * m * dm).mean()",
        "all entries read the one scale, so its gradient is a sum over them; yours is their mean",
    ),
    (
        "np.where(np.isinf(distance), 0, distance)",
        "distance",
        "dscale is NaN, from infinity times 0: a removed neighbour has no part in it",
    ),
]


def draw(rng):
    height, width = rng.permutation([2, 3])
    distance = rng.uniform(0, 2, (rng.integers(1, 3), 9, height, width))
    distance[:, 4] = 0
    distance[:, 0, 0] = np.inf
    return distance, np.array(rng.uniform(0.5, 2))
