"""``<A x, y> == <x, A' y>`` to the last bit, for every linear operation in every argument.

The numbers are small and whole, so that sums are exact and no tolerance is needed. Only means and
interpolation, whose coefficients are fractions, get a few units in the last place.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import ops
from segaware_np.ops.masked_sum import masked_sum_backward, masked_sum_forward
from segaware_np.testing import check_adjoint
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")

exact = partial(check_adjoint, rtol=0)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(float)


@given(proofs.geometries(min_batch=0), proofs.seeds())
def test_columns(geometry, seed):
    window, size = geometry.window, geometry.size
    shapes = geometry.image(2), (geometry.batch, 2, window.size, *geometry.output)

    def im2col(x):
        return ops.im2col_forward(x, window)[0]

    def col2im(cols):
        return ops.col2im_forward(cols, size, window)[0]

    exact(im2col, col2im, shapes, seed=seed)
    exact(col2im, im2col, shapes[::-1], seed=seed)


@st.composite
def filters(draw):
    geometry = draw(proofs.geometries(min_batch=0))
    groups, channels, seed = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(proofs.seeds())
    rng = np.random.default_rng(seed)
    x = whole(rng, *geometry.image(groups * channels))
    mask = whole(rng, *geometry.result(geometry.window.size))
    weight = whole(rng, 2 * groups, channels, *geometry.window.kernel)
    return {"window": geometry.window, "groups": groups}, x, mask, weight, seed


def in_every_argument(forward, backward, inputs, seed):
    """Set one argument free, hold the others."""
    for at, value in enumerate(inputs):

        def apply(moved, at=at):
            return forward(*inputs[:at], moved, *inputs[at + 1 :])[0]

        def adjoint(dy, at=at):
            return backward(dy, forward(*inputs)[1])[at]

        exact(apply, adjoint, (value.shape, apply(value).shape), seed=seed)


@given(filters())
def test_convolution(case):
    options, x, _, weight, seed = case
    forward = partial(ops.convolution_forward, **options)
    in_every_argument(forward, ops.convolution_backward, [x, weight], seed)


@given(filters())
def test_column_convolution(case):
    options, x, _, weight, seed = case
    cols, _ = ops.im2col_forward(x, options["window"])
    forward = partial(ops.column_convolution_forward, groups=options["groups"])
    in_every_argument(forward, ops.column_convolution_backward, [cols, weight], seed)


@given(filters())
def test_segaware_convolution(case):
    options, *inputs, seed = case
    for forward, backward in (
        (ops.segaware_convolution_forward, ops.segaware_convolution_backward),
        (ops.segaware_convolution_explicit_forward, ops.segaware_convolution_explicit_backward),
    ):
        in_every_argument(partial(forward, **options), backward, inputs, seed)


@given(filters())
def test_masked_sum(case):
    options, x, mask, _, seed = case
    forward = partial(masked_sum_forward, window=options["window"])
    in_every_argument(forward, masked_sum_backward, [x, mask], seed)


@given(proofs.shapes(), st.integers(1, 4), st.integers(1, 3), proofs.seeds())
def test_average_pool(shape, kernel, stride, seed):
    window = Window(min(kernel, *shape[2:]), stride)
    y, cache = ops.average_pool_forward(np.zeros(shape), window)
    check_adjoint(
        lambda x: ops.average_pool_forward(x, window)[0],
        lambda dy: ops.average_pool_backward(dy, cache),
        (shape, y.shape),
        rtol=1e-15,
        seed=seed,
    )


@given(proofs.shapes(), st.integers(1, 9), st.integers(1, 9), proofs.seeds())
def test_resize(shape, h, w, seed):
    _, cache = ops.resize_forward(np.zeros(shape), (h, w))
    check_adjoint(
        lambda x: ops.resize_forward(x, (h, w))[0],
        lambda dy: ops.resize_backward(dy, cache),
        (shape, (*shape[:2], h, w)),
        rtol=1e-14,
        seed=seed,
    )


@given(proofs.shapes(), proofs.seeds())
def test_concat_and_add(shape, seed):
    n, c, *size = shape
    joined = (n, 2 * c, *size)
    exact(
        lambda y: ops.concat_forward(y[:, :c], y[:, c:])[0],
        lambda dy: np.concatenate(ops.concat_backward(dy, [c, c]), axis=1),
        (joined, joined),
        seed=seed,
    )
    exact(
        lambda y: ops.add_forward(y[:, :c], y[:, c:])[0],
        lambda dy: np.concatenate(ops.add_backward(dy, 2), axis=1),
        (joined, shape),
        seed=seed,
    )
