"""L1 and L2 distance.

    L1:  d[n, k, p] = sum_c |e[n, c, p] - e[n, c, p + delta_k]|
    L2:  d[n, k, p] = 1/2 sum_c (e[n, c, p] - e[n, c, p + delta_k])^2

embedding  (N, E, H, W)
norm       "L1" or "L2"
d          (N, 9, H, W), 0 where p + delta_k is outside the image

How different each pixel is from its eight neighbours. |t| has a kink at 0: its slope
there is to be 0.
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


def forward(embedding, norm):
    n, _, height, width = embedding.shape
    d = np.zeros((n, 9, height, width), embedding.dtype)
    for k, p, q in pairs(height, width):
        t = embedding[p] - embedding[q]
        d[:, k][p] = (np.abs(t) if norm == "L1" else t * t / 2).sum(1)
    return d, (embedding, norm)


def backward(dd, cache):
    """Return dembedding."""
    embedding, norm = cache
    dembedding = np.zeros_like(embedding)
    for k, p, q in pairs(*embedding.shape[2:]):
        t = embedding[p] - embedding[q]
        # Your turn: add to dembedding what offset k gives.
        slope = np.sign(t) if norm == "L1" else t
        g = dd[:, k, None][p] * slope
        dembedding[p] += g
        dembedding[q] -= g
    return dembedding


HINT = """\
One distance reads two pixels. With t = e[p] - e[p + delta_k], the slope of |t| is
sign(t) and that of t^2 / 2 is t. Times dd it goes to p with a plus and to p + delta_k
with a minus. dd[:, k, None][p] has the shape (N, 1, ...), so that all channels hear the
same."""

MISTAKES = [
    (
        "        dembedding[q] -= g\n",
        "",
        "a distance reads two pixels; yours gives the centre its gradient and the neighbour none",
    ),
    (
        "        dembedding[p] += g\n",
        "",
        "the centre also receives a gradient from every neighbour; yours has only the neighbours'",
    ),
    (
        "dembedding[q] -= g",
        "dembedding[q] += g",
        "the neighbour stands behind a minus in e[p] - e[p + delta_k]; yours adds where it "
        "should subtract",
    ),
    (
        "np.sign(t) if",
        "np.where(t < 0, -1, 1) if",
        "all is right but where two neighbours are equal: there the slope of |t| is to be 0, "
        "yours is 1",
    ),
    (
        "else t\n",
        "else 2 * t\n",
        "the L2 distance is twice too steep: there is 1/2 before the square",
    ),
    (
        'np.sign(t) if norm == "L1" else t',
        "t",
        "L2 is right; for L1 the slope is sign(t), not t",
    ),
]


def draw(rng):
    height, width = rng.permutation([3, 4])
    embedding = rng.normal(size=(rng.integers(1, 3), 2, height, width))
    embedding[:, :, 1, 1] = embedding[:, :, 1, 2] = embedding[:, :, 2, 1]  # ties
    return embedding, str(rng.choice(["L1", "L2"]))
