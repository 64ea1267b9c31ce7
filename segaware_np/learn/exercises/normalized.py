"""The normalised mask.

    m[n, k, p] = exp(-s d[n, k, p]) / sum_j exp(-s d[n, j, p])

distance  (N, 9, H, W)
scale     s, a number (a 0-d array)
m         (N, 9, H, W), 1 in sum over each window

It is a softmax over k of -s d: what one neighbour gains, the others of its window lose.
"""

import numpy as np


def forward(distance, scale):
    logit = -scale * distance
    e = np.exp(logit - logit.max(1, keepdims=True))
    m = e / e.sum(1, keepdims=True)
    return m, (distance, scale, m)


def backward(dm, cache):
    """Return ddistance, dscale."""
    distance, scale, m = cache
    # Your turn: ddistance and dscale.
    dlogit = m * (dm - (m * dm).sum(1, keepdims=True))
    ddistance = -scale * dlogit
    dscale = -(distance * dlogit).sum()
    return ddistance, dscale


HINT = """\
Go through the logits l = -s d. Of a softmax, dm_k/dl_j = m_k ([k = j] - m_j), so dl_j =
m_j (dm_j - sum_k m_k dm_k), with a sum over the window. From there, d and s are one
product away."""

MISTAKES = [
    (
        "m * (dm - (m * dm).sum(1, keepdims=True))",
        "m * dm",
        "that is the exponential mask's backward: the denominator hears, too. From dm take "
        "sum_k m dm of the window off",
    ),
    (
        "(m * dm).sum(1, keepdims=True)",
        "dm.mean(1, keepdims=True)",
        "what is taken off dm is its mean weighted by the mask, sum_k m dm; yours is the plain "
        "mean",
    ),
    (
        "(m * dm).sum(1, keepdims=True)",
        "(m * dm).sum()",
        "each window is normalised for itself: sum over its neighbours only, not over pixels "
        "and samples",
    ),
    (
        "(distance * dlogit)",
        "(distance * m * dm)",
        "dscale goes through the denominator as well: use the same dlogit as for the distance",
    ),
    (
        "ddistance = -scale * dlogit",
        "ddistance = dlogit",
        "that is the gradient by the logit -s d; for d it is yet to be multiplied by -s",
    ),
    (
        "-(distance * dlogit).sum()",
        "-(distance * dlogit).mean()",
        "all entries read the one scale, so its gradient is a sum over them; yours is their mean",
    ),
]


def draw(rng):
    height, width = rng.permutation([2, 3])
    distance = rng.uniform(0, 2, (rng.integers(1, 3), 9, height, width))
    distance[:, 4] = 0
    return distance, np.array(rng.uniform(0.5, 2))
