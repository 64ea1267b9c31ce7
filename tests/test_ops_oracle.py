"""Every operation against its formula written as loops, over geometry, dtype and memory layout."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from segaware_np import ops
from segaware_np.ops.bilateral import bilateral_filter_forward
from segaware_np.ops.masked_sum import masked_sum_forward
from segaware_np.ops.mean_field import mean_field_forward
from segaware_np.ops.normalized_convolution import normalized_convolution_forward
from segaware_np.testing import check_same
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

pytestmark = pytest.mark.usefixtures("each_engine")

NORMS = st.sampled_from(["L1", "L2"])


def check(function, oracle, inputs, layout=None):
    """Compare in both dtypes, with the inputs in C order and then in another layout."""
    check_same(function, oracle, inputs)
    if layout is not None:

        def arranged(*arrays):
            return function(*(a if a is None or np.isscalar(a) else layout(a) for a in arrays))

        check_same(arranged, oracle, inputs)


@given(proofs.geometries(min_batch=0), proofs.seeds(), proofs.layouts())
def test_im2col_and_col2im(geometry, seed, layout):
    window, rng = geometry.window, np.random.default_rng(seed)
    x = rng.standard_normal(geometry.image(2))
    check(
        lambda x: ops.im2col_forward(x, window)[0], lambda x: oracles.im2col(x, window), [x], layout
    )
    cols = rng.standard_normal((geometry.batch, 2, window.size, *geometry.output))
    check(
        lambda cols: ops.col2im_forward(cols, geometry.size, window)[0],
        lambda cols: oracles.col2im(cols, geometry.size, window),
        [cols],
        layout,
    )


@given(
    proofs.geometries(min_batch=0), st.data(), NORMS, st.booleans(), st.booleans(), proofs.layouts()
)
def test_distance_and_its_gradient(geometry, data, norm, remove_center, remove_bounds, layout):
    options = geometry.window, norm, remove_center, remove_bounds
    embedding = data.draw(proofs.embeddings(geometry.image(3)))
    dd = np.random.default_rng(0).standard_normal(geometry.result(geometry.window.size))
    check(
        lambda e: ops.distance_forward(e, *options)[0],
        lambda e: oracles.distance(e, *options),
        [embedding],
        layout,
    )
    check(
        lambda dd, e: ops.distance_backward(dd, ops.distance_forward(e, *options)[1]),
        lambda dd, e: oracles.distance_gradient(dd, e, *options),
        [dd, embedding],
        layout,
    )


@given(
    proofs.geometries(min_batch=0),
    st.data(),
    st.sampled_from([None, 0, 2, 255]),
    st.sampled_from(["int64", "int32", "uint8"]),
    proofs.layouts(),
)
def test_label_parity(geometry, data, ignore, dtype, layout):
    shape = (geometry.batch, *geometry.size)
    labels = data.draw(proofs.labels(shape, ignore=ignore, dtype=dtype))
    found = ops.label_parity_forward(layout(labels), geometry.window, ignore)
    np.testing.assert_array_equal(found, oracles.label_parity(labels, geometry.window, ignore))


@given(
    proofs.shapes(channels=9),
    proofs.seeds(),
    st.sampled_from([0.0, 0.05, 1.0, 30.0, -1.0]),
    proofs.layouts(),
)
def test_masks(shape, seed, scale, layout):
    rng = np.random.default_rng(seed)
    d = rng.exponential(size=shape)
    d[rng.uniform(size=shape) < 0.3] = np.inf
    d[0, :, 0, 0] = np.inf  # a window in which everything is removed
    for mask, oracle in (
        (ops.exponential_mask_forward, oracles.exponential_mask),
        (ops.normalized_mask_forward, oracles.normalized_mask),
    ):
        check(lambda d, mask=mask: mask(d, scale)[0], lambda d, o=oracle: o(d, scale), [d], layout)


@given(proofs.geometries(min_batch=0), st.data(), NORMS, st.booleans(), st.booleans())
def test_local_mask(geometry, data, norm, center, bounds):
    embedding = data.draw(proofs.embeddings(geometry.image(2)))
    options = {"norm": norm, "remove_center": center, "remove_bounds": bounds}
    for normalized, oracle in (
        (False, oracles.exponential_mask),
        (True, oracles.normalized_mask),
    ):
        kind = {"normalized": normalized, **options}
        check(
            lambda e, kind=kind: ops.local_mask_forward(e, 0.7, geometry.window, **kind)[0],
            lambda e, o=oracle: o(oracles.distance(e, geometry.window, norm, center, bounds), 0.7),
            [embedding],
        )


@st.composite
def convolutions(draw):
    """A geometry and the arrays ``x, mask, weight, bias`` of a convolution on it."""
    geometry = draw(proofs.geometries(min_batch=0))
    groups, channels = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    outputs = groups * draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(proofs.seeds()))
    x = rng.standard_normal(geometry.image(groups * channels))
    mask = draw(proofs.masks(geometry.result(geometry.window.size)))
    weight = rng.standard_normal((outputs, channels, *geometry.window.kernel))
    bias = rng.standard_normal(outputs) if draw(st.booleans()) else None
    return geometry, groups, x, mask, weight, bias


@given(convolutions(), proofs.layouts())
def test_convolution(case, layout):
    geometry, groups, x, _, weight, bias = case
    window = geometry.window

    def from_image(x, w, b):
        return ops.convolution_forward(x, w, b, window=window, groups=groups)[0]

    def from_columns(x, w, b):
        cols, _ = ops.im2col_forward(x, window)
        return ops.column_convolution_forward(cols, w, b, groups=groups)[0]

    for function in (from_image, from_columns):
        check(
            function,
            lambda x, w, b: oracles.convolution(x, w, b, window, groups),
            [x, weight, bias],
            layout,
        )


@given(convolutions(), proofs.layouts())
def test_transposed_convolution(case, layout):
    geometry, groups, image, _, weight, _ = case
    window, windows = geometry.window, geometry.result(len(weight))[2:]
    size = tuple(next(n for n in range(99) if oracles.counts((n, n), window)[axis] == windows[axis])
                 for axis in (0, 1))  # the smallest image with as many windows
    assume(min(size) > 0)
    rng, options = np.random.default_rng(0), {"window": window, "groups": groups}
    x = rng.standard_normal((len(image), len(weight), *windows))
    bias = rng.standard_normal(groups * weight.shape[1])
    check(
        lambda x, w, b: ops.transposed_convolution_forward(x, w, b, **options)[0],
        lambda x, w, b: oracles.transposed_convolution(x, w, b, size, window, groups),
        [x, weight, bias],
        layout,
    )


@given(convolutions(), proofs.layouts())
def test_segaware_convolution(case, layout):
    geometry, groups, *inputs = case
    for forward in (
        ops.segaware_convolution_forward,
        ops.segaware_convolution_explicit_forward,
    ):
        check(
            lambda *a, f=forward: f(*a, window=geometry.window, groups=groups)[0],
            lambda *a: oracles.segaware_convolution(*a, geometry.window, groups),
            inputs,
            layout,
        )


@given(convolutions(), proofs.layouts())
def test_masked_sum(case, layout):
    geometry, _, x, mask, _, _ = case
    check(
        lambda x, m: masked_sum_forward(x, m, geometry.window)[0],
        lambda x, m: oracles.masked_sum(x, m, geometry.window),
        [x, mask],
        layout,
    )


@given(convolutions(), st.data(), NORMS, st.booleans(), st.booleans())
def test_normalized_convolution_and_bilateral_filter(case, data, norm, center, bounds):
    geometry, groups, x, _, weight, bias = case
    embedding = data.draw(proofs.embeddings(geometry.image(2)))
    options = {
        "window": geometry.window,
        "norm": norm,
        "remove_center": center,
        "remove_bounds": bounds,
    }
    check(
        lambda *a: normalized_convolution_forward(*a, 0.7, groups=groups, **options)[0],
        lambda *a: oracles.normalized_convolution(
            *a, 0.7, geometry.window, groups, norm, center, bounds
        ),
        [x, embedding, weight, bias],
    )
    check(
        lambda *a: bilateral_filter_forward(*a, 0.7, **options)[0],
        lambda *a: oracles.bilateral_filter(*a, 0.7, geometry.window, norm, center, bounds),
        [x, embedding],
    )


@given(proofs.shapes(), proofs.seeds(), st.integers(1, 3))
def test_mean_field(shape, seed, iterations):
    rng = np.random.default_rng(seed)
    n, c, *size = shape
    fields = [rng.standard_normal((n, m, *size)) for m in (c, c, 4, 2)]
    matrices = [rng.standard_normal((c, c)) for _ in range(3)]
    windows = Window.same((3, 5), dilation=2), Window.same(3)

    def function(*inputs):
        return mean_field_forward(
            *inputs, window1=windows[0], window2=windows[1], iterations=iterations
        )[0]

    check(
        function,
        lambda *inputs: oracles.mean_field(*inputs, *windows, iterations),
        [
            *fields,
            *matrices,
        ],
    )


@st.composite
def poolings(draw):
    """A pooling window (pad < kernel) and an image that it fits."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    window = Window(
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        tuple(draw(st.integers(0, k - 1)) for k in kernel),
        draw(st.sampled_from([1, 1, 2])),
    )
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), d * k + 4))
        for k, p, d in zip(window.kernel, window.pad, window.dilation, strict=True)
    ]
    x = draw(proofs.embeddings((draw(st.integers(0, 2)), 2, *size)))
    return window, x


@given(poolings(), proofs.layouts())
def test_pooling(case, layout):
    window, x = case
    if np.isinf(oracles.pool(x, window, "max")).any():
        with pytest.raises(ValueError, match="window: .* has windows in the padding"):
            ops.max_pool_forward(x, window)
        return
    for forward, kind in ((ops.max_pool_forward, "max"), (ops.average_pool_forward, "average")):
        check(
            lambda x, f=forward: f(x, window)[0],
            lambda x, kind=kind: oracles.pool(x, window, kind),
            [x],
            layout,
        )


@given(proofs.images(), st.integers(1, 8), st.integers(1, 8), proofs.layouts())
def test_resize(x, h, w, layout):
    check(lambda x: ops.resize_forward(x, (h, w))[0], lambda x: oracles.resize(x, (h, w)), [x])
    check(
        lambda x: ops.resize_forward(x, (h, w))[0], lambda x: oracles.resize(x, (h, w)), [x], layout
    )


@given(proofs.images(), proofs.layouts(), st.sampled_from([0.0, 500.0]))
def test_softmax(x, layout, shift):
    check(lambda x: ops.softmax_forward(x)[0], oracles.softmax, [x + shift], layout)


@given(proofs.shapes(channels=4), st.data(), st.sampled_from([255, 0, None]))
def test_softmax_cross_entropy(shape, data, ignore):
    score = data.draw(proofs.images(shape))
    labels = data.draw(proofs.labels((shape[0], *shape[2:]), classes=4, ignore=ignore))
    check(
        lambda s, labels: ops.softmax_cross_entropy_forward(s, labels, ignore)[0],
        lambda s, labels: oracles.cross_entropy(s, labels, ignore),
        [score, labels],
    )


@given(
    proofs.shapes(channels=9),
    proofs.seeds(),
    st.sampled_from(["linear", "squared"]),
    st.sampled_from([None, 255]),
    st.sampled_from(["all", "valid"]),
)
def test_embedding_loss(shape, seed, hinge, ignore, normalize):
    rng = np.random.default_rng(seed)
    d = rng.exponential(2.0, shape)
    d[rng.uniform(size=shape) < 0.1] = np.inf
    parity = rng.choice([0, 1, 255 if ignore else 0], shape)
    options = 0.5, 2.0, hinge, ignore, normalize
    check(
        lambda d, parity: ops.embedding_loss_forward(d, parity, *options)[0],
        lambda d, parity: oracles.embedding_loss(d, parity, *options),
        [d, parity],
    )


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), proofs.seeds(), proofs.layouts())
def test_concat_and_add(channels, seed, layout):
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal((2, c, 2, 3)) for c in channels]
    check(
        lambda *xs: ops.concat_forward(*xs)[0], lambda *xs: np.concatenate(xs, axis=1), xs, layout
    )
    xs = [rng.standard_normal((2, 3)) for _ in channels]
    check(lambda *xs: ops.add_forward(*xs)[0], lambda *xs: sum(xs), xs, layout)


@given(proofs.embeddings(), proofs.layouts())
def test_relu(x, layout):
    check(lambda x: ops.relu_forward(x)[0], lambda x: np.where(x > 0, x, 0), [x], layout)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.9])
def test_dropout_keeps_its_share_and_the_mean(ratio):
    y, factor = ops.dropout_forward(np.ones(40_000), ratio, seed=5)
    kept = np.count_nonzero(y) / y.size
    assert abs(kept - (1 - ratio)) < 5 * np.sqrt(ratio * (1 - ratio) / y.size) + 1e-12
    assert set(np.unique(factor)) <= {0.0, 1 / (1 - ratio)}
    other, _ = ops.dropout_forward(np.ones(40_000), ratio, seed=6)
    assert ratio == 0 or np.mean((y == 0) & (other == 0)) == pytest.approx(ratio**2, abs=0.02)
