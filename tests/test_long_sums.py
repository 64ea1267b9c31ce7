"""Long sums of float32 numbers keep their digits: gradients of weights, statistics, norms.

All summands are the same, so that errors of rounding go one way and the sum is known: added up
one by one, or by BLAS, millions of them lose three digits and more.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from segaware_np import layers, ops, optim
from segaware_np.cpu import convolution as bands
from segaware_np.cpu.threads import get_num_threads, set_num_threads
from segaware_np.ops import mean_field
from segaware_np.window import Window
from segaware_np.xp import long_sum

VALUE = np.float32(1.1)
V = float(VALUE)
N = 1 << 22  # summands


@pytest.fixture(autouse=True)
def one_thread():
    before = get_num_threads()
    set_num_threads(1)
    yield
    set_num_threads(before)


def full(*shape):
    return np.full(shape, VALUE)


def assert_close(have, want, tolerance=2e-6):
    assert have.dtype == np.float32
    np.testing.assert_allclose(have.astype(float), want, rtol=tolerance)


IMAGES = full(4, 1, 1024, 1024)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_weights_and_biases(masked):
    weight = np.ones((1, 1, 1, 1), "f4")
    if masked:
        forward = partial(ops.segaware_convolution_forward, IMAGES, np.ones_like(IMAGES))
        backward = ops.segaware_convolution_backward
    else:
        forward, backward = partial(ops.convolution_forward, IMAGES), ops.convolution_backward
    _, cache = forward(weight, np.zeros(1, "f4"), window=Window(1))
    *_, dweight, dbias = backward(IMAGES, cache, {"weight", "bias"})
    assert_close(dweight.ravel(), [N * V * V])
    assert_close(dbias, [N * V])


def test_a_sum_of_many_bands_is_that_of_all_of_them():
    total, steps = bands._LongSum(np.zeros((2, 3), "f4")), 3 * bands._FEW + 5
    for step in range(steps):
        total.next()[...] += step
    assert (total.total() == sum(range(steps))).all()


def test_gradients_of_a_convolution_of_columns():
    columns = IMAGES.reshape(4, 1, 1, 1024, 1024)
    _, cache = ops.column_convolution_forward(
        columns, np.ones((1, 1, 1, 1), "f4"), np.zeros(1, "f4")
    )
    _, dweight, dbias = ops.column_convolution_backward(IMAGES, cache)
    assert_close(dweight.ravel(), [N * V * V])
    assert_close(dbias, [N * V])


@pytest.mark.parametrize(("shape", "axis"), [((N, 1), 1), ((4, 1, 1024, 1024), 1), ((N,), 0)])
def test_gradients_of_scale_and_bias(shape, axis):
    x, factor = full(*shape), full(*shape[axis : axis + 1] if len(shape) > 1 else ())
    _, cache = ops.scale_forward(x, factor, factor, axis)
    _, dscale, dbias = ops.scale_backward(x, cache)
    assert_close(dscale.ravel(), [N * V * V])
    assert_close(dbias.ravel(), [N * V])


@pytest.mark.parametrize("kind", ["exponential", "normalized"])
def test_the_gradient_of_a_masks_scale(kind):
    d = full(1, 4, 1024, 1024)
    d[:, 1:] = 0
    mask, cache = getattr(ops, f"{kind}_mask_forward")(d, 1.0)
    dmask = np.ones_like(mask)
    dmask[:, 1:] = 0
    _, ds = getattr(ops, f"{kind}_mask_backward")(dmask, cache)
    m = np.exp(-V) if kind == "exponential" else np.exp(-V) / (3 + np.exp(-V))
    slope = m if kind == "exponential" else m * (1 - m)
    assert_close(ds, -(N // 4) * V * slope, 2e-6)


@pytest.mark.parametrize("shape", [(N, 1), (4, 1, 1024, 1024)])
def test_statistics_of_a_batch(shape):
    x = full(*shape)
    y, _ = ops.batch_norm_forward(x)
    assert np.abs(y).max() < 1e-3  # x is its own mean; a mean that is off by 1e-4 gives 0.03


def test_gradients_of_the_mixing_of_classes():
    q = full(4, 1, 1024, 1024)
    (_,), (dmixer,) = mean_field.fast(mean_field.mean_field_update_grad, q)(
        q, [q], [np.ones((1, 1), "f4")]
    )
    assert_close(dmixer.ravel(), [-N * V * V])


def test_losses():
    score, labels = np.zeros((1, 2, 2048, 2048), "f4"), np.zeros((1, 2048, 2048), "i4")
    score[:, 1] = VALUE
    loss, _ = ops.softmax_cross_entropy_forward(score, labels)
    assert_close(loss, np.log1p(np.exp(V)))
    d, same = full(1, 1, 2048, 2048), np.ones((1, 1, 2048, 2048), "i4")
    for hinge, want in (("linear", V - 0.5), ("squared", (V - 0.5) ** 2 / 2)):
        assert_close(ops.embedding_loss_forward(d, same, hinge=hinge)[0], want)


def test_the_norm_of_a_gradient():
    parameter = layers.Parameter(np.zeros((2048, 2048), "f4"))
    parameter.accumulate(full(2048, 2048))
    norm = optim.SGD({"w": parameter}, 0.1).step()
    assert norm == pytest.approx(np.sqrt(N) * V, rel=1e-5)  # a single dot product: 3e-4


@pytest.mark.parametrize("axes", [None, (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (-1,)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_a_long_sum_is_a_sum(axes, keepdims, dtype):
    x = np.arange(24.0).reshape(2, 3, 4).astype(dtype)
    found, wanted = long_sum(x, axes, keepdims=keepdims), x.sum(axes, keepdims=keepdims)
    assert found.dtype == ("c16" if dtype[0] == "c" else "f8")
    assert found.shape == wanted.shape and np.array_equal(found, wanted)
