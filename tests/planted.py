"""Gradient bugs of the kinds that people write, planted in operations that are right.

Each bug names the input whose gradient it spoils. `right` is the correct backward, so that a test
can tell which entries are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segaware_np.ops.columns import im2col_backward, im2col_forward
from segaware_np.ops.convolution import convolution_backward, convolution_forward
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.embedding_loss import embedding_loss_backward, embedding_loss_forward
from segaware_np.ops.mask import exponential_mask_backward, exponential_mask_forward
from segaware_np.ops.pooling import average_pool_backward, average_pool_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import softmax_backward, softmax_forward
from segaware_np.window import Window

WINDOW = Window(3, pad=1)
_rng = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape)


@dataclass(frozen=True)
class Bug:
    """A wrong backward (or forward) for an operation."""

    name: str
    forward: Callable
    right: Callable
    wrong: Callable
    inputs: tuple[Any, ...]
    spoils: str


BUGS: list[Bug] = []


def plant(forward: Callable, right: Callable, inputs: tuple[Any, ...], spoils: str) -> Callable:
    """Register the decorated backward as a wrong one."""

    def register(wrong: Callable) -> Callable:
        BUGS.append(Bug(wrong.__name__, forward, right, wrong, inputs, spoils))
        return wrong

    return register


def affine_forward(x, weight, bias):
    return x @ weight.T + bias, (x, weight)


def affine_backward(dy, cache):
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.sum(0)


def multiply_forward(a, b):
    return a * b, (a, b)


def multiply_backward(dy, cache):
    a, b = cache
    return dy * b, dy * a


def segaware_forward(x, mask, weight, bias):
    return segaware_convolution_forward(x, mask, weight, bias, window=WINDOW, groups=2)


def plain_forward(x, weight, bias):
    return convolution_forward(x, weight, bias, window=WINDOW)


def l2_forward(embedding):
    return distance_forward(embedding, WINDOW, norm="L2")


def columns_forward(x):
    return im2col_forward(x, WINDOW)


def average_forward(x):
    return average_pool_forward(x, WINDOW)


def squared_loss_forward(distance, parity):
    loss, cache = embedding_loss_forward(distance, parity, hinge="squared")
    _, linear = embedding_loss_forward(distance, parity, hinge="linear")
    return loss, (cache, linear)


def squared_loss_backward(d_loss, cache):
    return embedding_loss_backward(d_loss, cache[0])


AFFINE = affine_forward, affine_backward, (normal(4, 3), normal(3, 3), normal(3))
MULTIPLY = multiply_forward, multiply_backward, (normal(2, 3), normal(2, 3))
MASK = (
    exponential_mask_forward,
    exponential_mask_backward,
    (np.abs(normal(2, 9, 2, 3)), np.array(0.7)),
)
SEGAWARE = (
    segaware_forward,
    segaware_convolution_backward,
    (normal(2, 4, 2, 2), np.abs(normal(2, 9, 2, 2)), normal(4, 2, 3, 3), normal(4)),
)
PLAIN = plain_forward, convolution_backward, (normal(2, 2, 3, 4), normal(2, 2, 3, 3), normal(2))
DISTANCE = l2_forward, distance_backward, (normal(2, 2, 3, 3),)
COLUMNS = columns_forward, im2col_backward, (normal(1, 2, 5, 5),)
AVERAGE = average_forward, average_pool_backward, (normal(1, 2, 4, 4),)
SOFTMAX = softmax_forward, softmax_backward, (normal(2, 4, 2, 2),)
LOSS = (
    squared_loss_forward,
    squared_loss_backward,
    (np.abs(normal(1, 9, 2, 3)) + 0.7, _rng.integers(0, 2, (1, 9, 2, 3))),
)


@plant(*MASK, spoils="distance")
def sign_of_the_distance_gradient(dm, cache):
    dd, ds = exponential_mask_backward(dm, cache)
    return -dd, ds


@plant(*MASK, spoils="scale")
def scale_gradient_from_the_first_sample_only(dm, cache):
    dd, _ = exponential_mask_backward(dm, cache)
    return dd, -(cache.distance * cache.mask * dm)[0].sum()


@plant(*MASK, spoils="distance")
def scale_factor_forgotten(dm, cache):
    _, ds = exponential_mask_backward(dm, cache)
    return -cache.mask * dm, ds


@plant(*DISTANCE, spoils="embedding")
def sum_over_the_centre_missing(dd, cache):
    """Only neighbours are pulled; the centre of each window is not."""
    e = cache.embedding
    padded = np.pad(e, ((0, 0), (0, 0), (1, 1), (1, 1)))
    de = np.zeros_like(padded)
    h, w = e.shape[2:]
    for k, (dy, dx) in enumerate(WINDOW.offsets):
        there = (..., slice(1 + dy, 1 + dy + h), slice(1 + dx, 1 + dx + w))
        de[there] -= dd[:, k : k + 1] * (e - padded[there])
    return de[:, :, 1:-1, 1:-1]


@plant(*DISTANCE, spoils="embedding")
def factor_two_of_the_square(dd, cache):
    return 2 * distance_backward(dd, cache)


@plant(*AFFINE, spoils="x")
def transposed_weight(dy, cache):
    _, dweight, dbias = affine_backward(dy, cache)
    return dy @ cache[1].T, dweight, dbias


@plant(*AFFINE, spoils="weight")
def transposed_weight_gradient(dy, cache):
    dx, dweight, dbias = affine_backward(dy, cache)
    return dx, dweight.T, dbias


@plant(*AFFINE, spoils="bias")
def mean_for_sum_over_the_batch(dy, cache):
    dx, dweight, _ = affine_backward(dy, cache)
    return dx, dweight, dy.mean(0)


@plant(*AFFINE, spoils="bias")
def broadcast_not_summed(dy, cache):
    dx, dweight, _ = affine_backward(dy, cache)
    return dx, dweight, dy


@plant(*MULTIPLY, spoils="a")
def gradients_in_the_wrong_order(dy, cache):
    return multiply_backward(dy, cache)[::-1]


@plant(*AVERAGE, spoils="x")
def mean_not_divided_by_the_area(dy, cache):
    return average_pool_backward(dy * WINDOW.size, cache)


@plant(*COLUMNS, spoils="x")
def window_off_by_one(dcols, cache):
    return np.roll(im2col_backward(dcols, cache), 1, axis=3)


@plant(*COLUMNS, spoils="x")
def border_dropped(dcols, cache):
    dx = im2col_backward(dcols, cache)
    dx[:, :, :, 0] = 0
    return dx


@plant(*PLAIN, spoils="weight")
def batch_forgotten_in_the_weight_gradient(dy, cache):
    dx, _, dbias = convolution_backward(dy, cache)
    first = cache._replace(x=cache.x[:1])
    return dx, convolution_backward(dy[:1], first)[1], dbias


@plant(*PLAIN, spoils="x")
def second_sample_forgotten(dy, cache):
    dx, dweight, dbias = convolution_backward(dy, cache)
    dx[1] = 0
    return dx, dweight, dbias


@plant(*PLAIN, spoils="weight")
def kernel_mirrored(dy, cache):
    dx, dweight, dbias = convolution_backward(dy, cache)
    return dx, dweight[..., ::-1], dbias


@plant(*SEGAWARE, spoils="x")
def groups_mixed_up(dy, cache):
    swapped = cache._replace(weight=np.roll(cache.weight, 2, axis=0))
    dx, _, _, _ = segaware_convolution_backward(dy, swapped)
    return (dx, *segaware_convolution_backward(dy, cache)[1:])


@plant(*SEGAWARE, spoils="mask")
def mask_gradient_of_one_channel_only(dy, cache):
    dx, _, dweight, dbias = segaware_convolution_backward(dy, cache)
    x = cache.x * (np.arange(4) == 0)[:, None, None]
    return dx, segaware_convolution_backward(dy, cache._replace(x=x))[1], dweight, dbias


@plant(*SEGAWARE, spoils="x")
def mask_forgotten(dy, cache):
    bare = cache._replace(mask=np.ones_like(cache.mask))
    return (
        segaware_convolution_backward(dy, bare)[0],
        *segaware_convolution_backward(dy, cache)[1:],
    )


@plant(*SEGAWARE, spoils="weight")
def computed_in_single_precision(dy, cache):
    dx, dmask, dweight, dbias = segaware_convolution_backward(dy, cache)
    return dx, dmask, dweight.astype(np.float32).astype(np.float64), dbias


@plant(*SOFTMAX, spoils="x")
def softmax_without_its_coupling(dp, cache):
    return cache * dp


@plant(*LOSS, spoils="distance")
def linear_gradient_of_the_squared_hinge(d_loss, cache):
    return embedding_loss_backward(d_loss, cache[1])
