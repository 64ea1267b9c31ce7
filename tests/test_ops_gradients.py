"""Every backward proved: the complex step over geometry, the whole ladder, and kinks by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_cases import OPS, VIEWS

from segaware_np import ops
from segaware_np.ops import elementwise, normalized_convolution
from segaware_np.testing import check_gradients, prove
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")


@pytest.mark.parametrize("name", OPS)
def test_every_entry_of_every_gradient_by_complex_step(name: str):
    forward, backward, inputs, names, _ = OPS[name]
    report = check_gradients(
        forward, backward, inputs, names=names, method="complex", rtol=1e-12, entries=1000
    )
    real = [a for a in inputs if a.dtype.kind == "f"]
    assert len(report.inputs) == len(real)
    for found, array in zip(report.inputs, real, strict=True):
        assert found.checked == f"{array.size} of {array.size} entries"
        assert found.kinks == 0


@pytest.mark.parametrize("name", OPS)
def test_whole_ladder(name: str):
    forward, backward, inputs, names, linear = OPS[name]
    prove(forward, backward, inputs, names=names, linear=linear, may_alias=name in VIEWS)


# The complex step again, over geometry.


@st.composite
def windowed(draw):
    geometry = draw(proofs.geometries(min_batch=0))
    groups, channels, seed = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(proofs.seeds())
    return geometry, groups, channels, np.random.default_rng(seed)


proved = partial(check_gradients, method="complex", rtol=1e-12, entries=30)


@given(windowed())
def test_segaware_convolution_over_geometry(case):
    geometry, groups, channels, rng = case
    inputs = [
        rng.standard_normal(geometry.image(groups * channels)),
        rng.uniform(size=geometry.result(geometry.window.size)),
        rng.standard_normal((2 * groups, channels, *geometry.window.kernel)),
        rng.standard_normal(2 * groups),
    ]
    options = {"window": geometry.window, "groups": groups}
    proved(
        partial(ops.segaware_convolution_forward, **options),
        ops.segaware_convolution_backward,
        inputs,
    )
    proved(
        partial(ops.convolution_forward, **options),
        ops.convolution_backward,
        [inputs[0], *inputs[2:]],
    )


@given(
    proofs.geometries(min_batch=0),
    st.data(),
    st.sampled_from(["L1", "L2"]),
    st.booleans(),
    st.booleans(),
)
def test_distance_over_geometry(geometry, data, norm, remove_center, remove_bounds):
    kind = "apart" if norm == "L1" else None
    embedding = data.draw(proofs.embeddings(geometry.image(2), kind=kind))
    options = geometry.window, norm, remove_center, remove_bounds
    proved(lambda e: ops.distance_forward(e, *options), ops.distance_backward, [embedding])


@given(windowed(), st.booleans(), st.booleans())
def test_normalized_convolution_over_geometry(case, remove_center, remove_bounds):
    geometry, groups, channels, rng = case
    proved(
        partial(
            normalized_convolution.normalized_convolution_forward,
            window=geometry.window,
            groups=groups,
            remove_center=remove_center,
            remove_bounds=remove_bounds,
        ),
        normalized_convolution.normalized_convolution_backward,
        [
            rng.standard_normal(geometry.image(groups * channels)),
            rng.standard_normal(geometry.image(2)),
            rng.standard_normal((groups, channels, *geometry.window.kernel)),
            rng.standard_normal(groups),
            np.array(0.5),
        ],
    )


@given(proofs.images(), st.integers(1, 7), st.integers(1, 7))
def test_resize_over_sizes(x, h, w):
    proved(lambda x: ops.resize_forward(x, (h, w)), ops.resize_backward, [x])


# Gradients that nobody needs are not computed.


@pytest.mark.parametrize(
    "name", ["convolution", "segaware convolution", "normalized convolution", "bilateral filter"]
)
def test_only_what_is_needed_is_returned(name: str):
    forward, backward, inputs, names, _ = OPS[name]
    y, cache = forward(*inputs)
    everything = backward(np.ones_like(y), cache)
    for need in ([], *([one] for one in names), names):
        found = backward(np.ones_like(y), cache, need=need)
        for one, want, got in zip(names, everything, found, strict=True):
            if one in need:
                np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
            else:
                assert got is None
    with pytest.raises(ValueError, match=r"need: expected names out of .*, got \['y'\]"):
        backward(np.ones_like(y), cache, need=["y"])


# Kinks, where the rule is a choice.


def test_l1_distance_of_equal_embeddings_has_no_slope():
    e = np.zeros((1, 1, 1, 3))
    e[0, 0, 0, 2] = 1
    _, cache = ops.distance_forward(e, Window((1, 3), pad=(0, 1)), "L1")
    d = np.zeros((1, 3, 1, 3))
    d[0, 2, 0, 0] = 1  # between the equal pixels 0 and 1
    np.testing.assert_array_equal(ops.distance_backward(d, cache), np.zeros_like(e))
    d[0, 2, 0, 1] = 1  # between pixels 1 and 2
    np.testing.assert_array_equal(ops.distance_backward(d, cache).ravel(), [0, -1, 1])


def test_relu_has_no_slope_at_zero():
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    _, cache = ops.relu_forward(x)
    np.testing.assert_array_equal(ops.relu_backward(np.ones(4), cache), [0, 0, 0, 1])


def test_absolute_has_no_slope_at_zero():
    _, cache = elementwise.absolute_forward(np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(elementwise.absolute_backward(np.ones(3), cache), [-1, 0, 1])


def test_max_pool_gives_to_the_first_maximum():
    x = np.array([[[[1.0, 3.0, 3.0], [3.0, 2.0, 3.0]]]])
    _, cache = ops.max_pool_forward(x, Window((2, 3)))
    dx = ops.max_pool_backward(np.full((1, 1, 1, 1), 5.0), cache)
    np.testing.assert_array_equal(dx[0, 0], [[0, 5, 0], [0, 0, 0]])


@pytest.mark.parametrize("hinge", ["linear", "squared"])
def test_hinge_has_no_slope_at_its_margin(hinge: str):
    d = np.array([0.5, 0.75, 2.0, 1.0]).reshape(1, 4, 1, 1)
    parity = np.array([1, 1, 0, 0]).reshape(1, 4, 1, 1)
    _, cache = ops.embedding_loss_forward(d, parity, hinge=hinge)
    slopes = {"linear": [0, 1, 0, -1], "squared": [0, 0.25, 0, -1]}[hinge]
    found = ops.embedding_loss_backward(1.0, cache).ravel()
    np.testing.assert_array_equal(found, np.array(slopes) / 4)


def test_maximum_ties_go_to_the_second_and_never_to_a_later_one():
    a, b, c = np.array([2.0, 1.0, 0.0]), np.array([2.0, 0.0, 1.0]), np.array([2.0, 1.0, 1.0])
    _, cache = ops.maximum_forward(a, b, c)
    da, db, dc = ops.maximum_backward(np.ones(3), cache)
    np.testing.assert_array_equal([da, db, dc], [[0, 1, 0], [1, 0, 1], [0, 0, 0]])
