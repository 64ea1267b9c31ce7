"""One mean-field iteration of a CRF.

    P[n, c, p] = exp(Q[n, c, p]) / sum_d exp(Q[n, d, p])
    M[n, c, p] = sum_k m[n, k, p] P[n, c, p + delta_k]
    Q'[n, c, p] = U[n, c, p] - sum_d A[c, d] M[n, d, p]

unary   U, (N, C, H, W), what a network says of each pixel
logits  Q, (N, C, H, W)
mask    m, (N, 9, H, W), one for all classes
matrix  A, (C, C), how ill two classes go together
Q'      (N, C, H, W)

Each pixel asks its neighbours what they are. The masked sum is given with its backward.
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


def masked_sum(x, mask):
    y = np.zeros_like(x)
    for k, p, q in pairs(*x.shape[2:]):
        y[p] += mask[:, k, None][p] * x[q]
    return y


def masked_sum_backward(dy, x, mask):
    dx, dmask = np.zeros_like(x), np.zeros_like(mask)
    for k, p, q in pairs(*x.shape[2:]):
        dx[q] += mask[:, k, None][p] * dy[p]
        dmask[:, k][p] = (x[q] * dy[p]).sum(1)
    return dx, dmask


def forward(unary, logits, mask, matrix):
    e = np.exp(logits - logits.max(1, keepdims=True))
    probability = e / e.sum(1, keepdims=True)
    message = masked_sum(probability, mask)
    y = unary - np.einsum("cd,ndhw->nchw", matrix, message)
    return y, (probability, message, mask, matrix)


def backward(dy, cache):
    """Return dunary, dlogits, dmask, dmatrix."""
    probability, message, mask, matrix = cache
    # Your turn: dunary, dlogits, dmask and dmatrix.
    dunary = dy.copy()
    dmatrix = -np.einsum("nchw,ndhw->cd", dy, message)
    dmessage = -np.einsum("cd,nchw->ndhw", matrix, dy)
    dprobability, dmask = masked_sum_backward(dmessage, probability, mask)
    mean = (probability * dprobability).sum(1, keepdims=True)
    dlogits = probability * (dprobability - mean)
    return dunary, dlogits, dmask, dmatrix


HINT = """\
Four steps back: the difference, the product with A (as in `product`: the matrix'
gradient is a sum of outer products, the message's goes through the transposed matrix),
masked_sum_backward, and the softmax as in `normalized`, this time over classes."""

MISTAKES = [
    (
        "dunary = dy.copy()",
        "dunary = -dy",
        "the unary term stands before the minus, so its gradient is dy itself",
    ),
    (
        "dmatrix = -np",
        "dmatrix = np",
        "dmatrix has the wrong sign: the message is subtracted",
    ),
    (
        "dmessage = -np",
        "dmessage = np",
        "what goes back through the message has the wrong sign: the message is subtracted",
    ),
    (
        '"cd,nchw->ndhw", matrix, dy',
        '"cd,ndhw->nchw", matrix, dy',
        "on the way back the matrix is to be transposed: M[d] hears from every class c that it "
        "was in, with A[c, d]",
    ),
    (
        "probability * (dprobability - mean)",
        "probability * dprobability",
        "dlogits lacks the softmax's denominator: from dP take sum_c P dP of the pixel off",
    ),
    (
        "dlogits = probability * (dprobability - mean)",
        "dlogits = dprobability",
        "that is the gradient by the probabilities; it has yet to go back through the softmax",
    ),
]


def draw(rng):
    c = rng.integers(2, 4)
    height, width = rng.permutation([3, 4])
    unary, logits = rng.normal(size=(2, 2, c, height, width))
    return unary, logits, rng.uniform(size=(2, 9, height, width)), rng.normal(size=(c, c))
