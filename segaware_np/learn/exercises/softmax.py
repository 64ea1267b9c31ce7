"""Softmax with loss.

    p[n, c] = exp(score[n, c]) / sum_d exp(score[n, d])
    loss    = -1/N sum_n log p[n, label[n]]

score  (N, C), one sample a row
label  (N,) whole numbers from 0 to C - 1
loss   a number

Two steps at once have a simpler gradient than each alone. dloss is a number, too: it is
1 if nothing follows the loss.
"""

import numpy as np


def forward(score, label):
    e = np.exp(score - score.max(1, keepdims=True))  # the largest is taken off: exp overflows soon
    p = e / e.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(label)), label]).mean()
    return loss, (p, label)


def backward(dloss, cache):
    """Return dscore."""
    p, label = cache
    # Your turn: dscore.
    one_hot = label[:, None] == np.arange(p.shape[1])
    dscore = dloss * (p - one_hot) / len(label)
    return dscore


HINT = """\
log p[n, l] = score[n, l] - log sum_d exp(score[n, d]). Differentiate by score[n, c]:
the first term gives 1 if c is the label and 0 else, the second gives p[n, c]. Then the
sign, the mean, and dloss."""

MISTAKES = [
    (
        "(p - one_hot) / len(label)",
        "(p - one_hot)",
        "the loss is a mean over the N samples; yours lacks the division by N",
    ),
    (
        "(p - one_hot)",
        "(one_hot - p)",
        "every sign is wrong: more score for the label makes the loss smaller, so its gradient "
        "is negative",
    ),
    (
        "(p - one_hot)",
        "p",
        "that is the gradient of log sum exp(score); yours lacks the -1 at the label",
    ),
    (
        "(p - one_hot)",
        "((p - 1) * one_hot)",
        "yours is right at the label and zero elsewhere: the scores of the other classes are in "
        "the softmax's sum, they count as well",
    ),
    (
        "(p - one_hot)",
        "(-1 * one_hot / p)",
        "that is the gradient by p, of -log p; it has yet to go back through the softmax",
    ),
    (
        "dloss * (p",
        "(p",
        "yours is the gradient for dloss = 1; the chain rule multiplies by dloss",
    ),
]


def draw(rng):
    n, c = rng.permutation([3, 4]) + rng.integers(0, 2)
    return rng.normal(size=(n, c)), rng.integers(0, c, n)
