"""A linear layer.

    y[n, o] = b[o] + sum_i W[o, i] x[n, i]

x       (N, I), one sample a row
weight  (O, I)
bias    (O,)
y       (N, O)

Somewhere behind y stands a loss L, a number. The backward pass is given dy[n, o] =
dL/dy[n, o], of the shape of y, and returns dL/dx, dL/dweight and dL/dbias, each of the
shape of what it belongs to.
"""

import numpy as np


def forward(x, weight, bias):
    y = x @ weight.T + bias
    return y, (x, weight)


def backward(dy, cache):
    """Return dx, dweight, dbias."""
    x, weight = cache
    # Your turn: dx, dweight and dbias.
    dx = dy @ weight
    dweight = dy.T @ x
    dbias = np.sum(dy, 0)
    return dx, dweight, dbias


HINT = """\
Write down one entry: dL/dW[o, i] = sum over all y that W[o, i] is in, of dL/dy times
dy/dW. W[o, i] is in y[n, o] of every sample n, with the factor x[n, i]. A sum over n of
a product of two arrays is a matrix product. Then do the same for x[n, i], which is in
y[n, o] for every o, and for b[o]."""

MISTAKES = [
    (
        "dbias = np.sum(dy, 0)",
        "dbias = np.mean(dy, 0)",
        "the bias is added to every sample, so its gradient is the sum over the samples; yours "
        "is their mean",
    ),
    (
        "dbias = np.sum(dy, 0)",
        "dbias = dy[0]",
        "the bias is added to every sample; your gradient has only what the first one says",
    ),
    (
        "dweight = dy.T @ x",
        "dweight = dy.T @ x / len(x)",
        "the weight's gradient is the sum over the samples; yours is divided by their number. "
        "(Where the loss is a mean, that factor is already in dy.)",
    ),
    (
        "dweight = dy.T @ x",
        "dweight = np.outer(dy[0], x[0])",
        "every sample uses the same weight, so every sample adds to its gradient; yours has "
        "only the first sample",
    ),
    (
        "dx = dy @ weight",
        "dx = np.repeat((dy @ weight).sum(0, keepdims=True), len(x), 0)",
        "x[n] acts on y[n] alone; your dx adds up all samples and gives each the same",
    ),
    (
        "dx = dy @ weight",
        "dx = np.repeat(weight.sum(0, keepdims=True), len(x), 0)",
        "your dx is dy/dx, summed over the outputs; the chain rule multiplies each output's by "
        "its dy first",
    ),
]


def draw(rng):
    n, i, o = rng.permutation([2, 3, 4]) + rng.integers(0, 2)
    return rng.normal(size=(n, i)), rng.normal(size=(o, i)), rng.normal(size=o)
