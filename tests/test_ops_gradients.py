"""Every backward proved: the complex step over geometry, the whole ladder, and kinks by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import ops
from segaware_np.ops import (
    batch_norm,
    bilateral,
    elementwise,
    masked_sum,
    mean_field,
    normalized_convolution,
    scale,
    tile,
)
from segaware_np.testing import check_gradients, prove
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")

ODD = Window((3, 2), stride=(1, 2), pad=(2, 1), dilation=(2, 1))  # nothing alike on both axes
SIZE = (5, 6)
OUT = ODD.output_shape(SIZE)
K = ODD.size
_rng = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return _rng.exponential(size=shape)


def apart(*shape: int) -> np.ndarray:
    """Numbers that all differ by at least half a unit in 10: far from ties."""
    return (_rng.permutation(int(np.prod(shape))).reshape(shape) / 10) - 1.05


LABELS = _rng.choice([0, 1, 2, 3, 255], (2, 3, 4))
PARITY = _rng.choice([0, 1, 255], (2, K, *OUT))
REMOVED = np.where(_rng.uniform(size=(2, K, *OUT)) < 0.3, np.inf, positive(2, K, *OUT))
REMOVED[0, :, 0, 0] = np.inf  # a whole window

# name: forward, backward, inputs, names of the inputs, in which of them it is linear
OPS = {
    "im2col": (
        lambda x: ops.im2col_forward(x, ODD),
        ops.im2col_backward,
        [normal(2, 2, *SIZE)],
        ["x"],
        ["x"],
    ),
    "col2im": (
        lambda cols: ops.col2im_forward(cols, SIZE, ODD),
        ops.col2im_backward,
        [normal(2, 2, K, *OUT)],
        ["cols"],
        ["cols"],
    ),
    **{
        f"distance {norm}{' removing' * flags}": (
            partial(
                ops.distance_forward,
                window=ODD,
                norm=norm,
                remove_center=flags,
                remove_bounds=flags,
            ),
            ops.distance_backward,
            [apart(2, 3, *SIZE)],
            ["embedding"],
            [],
        )
        for norm in ("L1", "L2")
        for flags in (False, True)
    },
    "exponential mask": (
        ops.exponential_mask_forward,
        ops.exponential_mask_backward,
        [REMOVED, np.array(0.7)],
        ["distance", "scale"],
        [],
    ),
    "exponential mask, s = 0": (
        ops.exponential_mask_forward,
        ops.exponential_mask_backward,
        [REMOVED, np.array(0.0)],
        ["distance", "scale"],
        [],
    ),
    "normalized mask": (
        ops.normalized_mask_forward,
        ops.normalized_mask_backward,
        [REMOVED, np.array(0.7)],
        ["distance", "scale"],
        [],
    ),
    "normalized mask, s < 0": (
        ops.normalized_mask_forward,
        ops.normalized_mask_backward,
        [REMOVED, np.array(-1.0)],
        ["distance", "scale"],
        [],
    ),
    "convolution": (
        partial(ops.convolution_forward, window=ODD, groups=2),
        ops.convolution_backward,
        [normal(2, 4, *SIZE), normal(6, 2, *ODD.kernel), normal(6)],
        ["x", "weight", "bias"],
        ["x", "weight", "bias"],
    ),
    "column convolution": (
        partial(ops.column_convolution_forward, groups=2),
        ops.column_convolution_backward,
        [normal(2, 4, K, *OUT), normal(6, 2, *ODD.kernel), normal(6)],
        ["columns", "weight", "bias"],
        ["columns", "weight", "bias"],
    ),
    **{
        f"segaware convolution{name}": (
            partial(forward, window=ODD, groups=2),
            backward,
            [normal(2, 4, *SIZE), positive(2, K, *OUT), normal(6, 2, *ODD.kernel), normal(6)],
            ["x", "mask", "weight", "bias"],
            ["x", "mask", "weight", "bias"],
        )
        for name, forward, backward in (
            ("", ops.segaware_convolution_forward, ops.segaware_convolution_backward),
            (
                ", explicit",
                ops.segaware_convolution_explicit_forward,
                ops.segaware_convolution_explicit_backward,
            ),
        )
    },
    "masked sum": (
        partial(masked_sum.masked_sum_forward, window=ODD),
        masked_sum.masked_sum_backward,
        [normal(2, 3, *SIZE), positive(2, K, *OUT)],
        ["x", "mask"],
        ["x", "mask"],
    ),
    "bilateral filter": (
        partial(bilateral.bilateral_filter_forward, window=ODD),
        bilateral.bilateral_filter_backward,
        [normal(2, 2, *SIZE), normal(2, 3, *SIZE), np.array(0.4)],
        ["x", "embedding", "scale"],
        ["x"],
    ),
    "normalized convolution": (
        partial(
            normalized_convolution.normalized_convolution_forward,
            window=ODD,
            groups=2,
            remove_center=True,
            remove_bounds=True,
        ),
        normalized_convolution.normalized_convolution_backward,
        [
            normal(1, 4, *SIZE),
            normal(1, 3, *SIZE),
            normal(2, 2, *ODD.kernel),
            normal(2),
            np.array(0.4),
        ],
        ["x", "embedding", "weight", "bias", "scale"],
        ["x", "weight", "bias"],
    ),
    "mean field": (
        partial(
            mean_field.mean_field_forward,
            window1=Window.same((3, 5), dilation=(2, 1)),
            window2=Window.same(3),
            iterations=2,
        ),
        mean_field.mean_field_backward,
        [
            *(normal(2, c, 3, 3) for c in (2, 2, 3, 2)),
            *(normal(2, 2) for _ in range(3)),
        ],
        ["unary", "first_q", "f1", "f2", "ws", "wb", "wc"],
        [],
    ),
    "relu": (ops.relu_forward, ops.relu_backward, [apart(2, 3, 4)], ["x"], []),
    "max pool": (
        lambda x: ops.max_pool_forward(x, Window((3, 2), stride=2, pad=(1, 0))),
        ops.max_pool_backward,
        [apart(2, 2, 5, 6)],
        ["x"],
        [],
    ),
    "average pool": (
        lambda x: ops.average_pool_forward(x, Window((3, 2), stride=2, pad=(1, 0))),
        ops.average_pool_backward,
        [normal(2, 2, 5, 6)],
        ["x"],
        ["x"],
    ),
    "resize": (
        lambda x: ops.resize_forward(x, (7, 3)),
        ops.resize_backward,
        [normal(2, 2, 4, 5)],
        ["x"],
        ["x"],
    ),
    "concat": (
        ops.concat_forward,
        ops.concat_backward,
        [normal(2, 2, 3, 4), normal(2, 1, 3, 4), normal(2, 3, 3, 4)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "add": (
        ops.add_forward,
        ops.add_backward,
        [normal(2, 3), normal(2, 3), normal(2, 3)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "dropout": (
        partial(ops.dropout_forward, ratio=0.4, seed=3),
        ops.dropout_backward,
        [normal(2, 3, 4, 5)],
        ["x"],
        ["x"],
    ),
    "softmax": (ops.softmax_forward, ops.softmax_backward, [normal(2, 4, 3)], ["x"], []),
    "softmax cross-entropy": (
        ops.softmax_cross_entropy_forward,
        ops.softmax_cross_entropy_backward,
        [normal(2, 4, 3, 4), LABELS],
        ["score", "labels"],
        [],
    ),
    **{
        f"embedding loss, {hinge}, {normalize}": (
            partial(ops.embedding_loss_forward, hinge=hinge, ignore_label=255, normalize=normalize),
            ops.embedding_loss_backward,
            [REMOVED, PARITY],
            ["distance", "parity"],
            [],
        )
        for hinge in ("linear", "squared")
        for normalize in ("all", "valid")
    },
    "scale": (
        scale.scale_forward,
        scale.scale_backward,
        [normal(2, 3, 4), normal(3), normal(3)],
        ["x", "scale", "bias"],
        ["x", "scale", "bias"],
    ),
    "scalar scale": (
        scale.scale_forward,
        scale.scale_backward,
        [normal(2, 3, 4), np.array(1.7)],
        ["x", "scale"],
        ["x", "scale"],
    ),
    "absolute": (
        elementwise.absolute_forward,
        elementwise.absolute_backward,
        [apart(2, 3, 4)],
        ["x"],
        [],
    ),
    "power": (
        partial(elementwise.power_forward, power=3.0, scale=0.5, shift=1.0),
        elementwise.power_backward,
        [normal(2, 3)],
        ["x"],
        [],
    ),
    "exponential": (
        partial(elementwise.exponential_forward, base=2.0, scale=-1.5, shift=0.5),
        elementwise.exponential_backward,
        [normal(2, 3)],
        ["x"],
        [],
    ),
    "product": (
        elementwise.product_forward,
        elementwise.product_backward,
        [normal(2, 3), np.array([[0.0, 1, 2], [3, 0, 5]]), normal(2, 3)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "maximum": (
        elementwise.maximum_forward,
        elementwise.maximum_backward,
        list(apart(3, 2, 3)),
        ["a", "b", "c"],
        [],
    ),
    "batch norm": (
        batch_norm.batch_norm_forward,
        batch_norm.batch_norm_backward,
        [normal(3, 2, 2, 3)],
        ["x"],
        [],
    ),
    "tile": (
        partial(tile.tile_forward, tiles=3, axis=1),
        tile.tile_backward,
        [normal(2, 2, 3)],
        ["x"],
        ["x"],
    ),
}
# Documented: their gradients are views of d_output.
VIEWS = {"concat", "add", "scale"}


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
    _, cache = elementwise.maximum_forward(a, b, c)
    da, db, dc = elementwise.maximum_backward(np.ones(3), cache)
    np.testing.assert_array_equal([da, db, dc], [[0, 1, 0], [1, 0, 1], [0, 0, 0]])
