"""What must hold of segmentation-aware convolution whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import ops
from segaware_np.ops.bilateral import bilateral_filter_forward
from segaware_np.ops.normalized_convolution import (
    normalized_convolution_backward,
    normalized_convolution_forward,
)
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@st.composite
def networks(draw, min_batch: int = 1):
    """A window, and an image, an embedding and a weight for one layer on it."""
    geometry = draw(proofs.geometries(min_batch=min_batch))
    groups = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(proofs.seeds()))
    x = rng.standard_normal(geometry.image(2 * groups))
    embedding = draw(proofs.embeddings(geometry.image(3)))
    weight = rng.standard_normal((2 * groups, 2, *geometry.window.kernel))
    return {"window": geometry.window, "groups": groups}, x, embedding, weight


def aware(x, embedding, weight, options, *, scale=0.8, norm="L1"):
    """Distance, mask and convolution, one behind the other."""
    d, _ = ops.distance_forward(embedding, options["window"], norm)
    mask, _ = ops.exponential_mask_forward(d, scale)
    return ops.segaware_convolution_forward(x, mask, weight, **options)[0]


@given(networks(min_batch=0))
def test_constant_embedding_gives_plain_convolution(case):
    options, x, embedding, weight = case
    plain, _ = ops.convolution_forward(x, weight, **options)
    constant = np.full_like(embedding, 0.37)
    np.testing.assert_allclose(aware(x, constant, weight, options), plain, **CLOSE)


@pytest.mark.parametrize("scale", [2, np.float64(2), np.array(2.0)], ids=["int", "scalar", "0-d"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_everything_keeps_the_dtype_of_the_image(dtype, scale):
    rng, window = np.random.default_rng(0), Window.same(3)
    x, weight = (rng.standard_normal(s).astype(dtype) for s in ((1, 2, 4, 5), (3, 2, 3, 3)))
    y, cache = normalized_convolution_forward(x, x, weight, scale=scale, window=window)
    found = (y, *normalized_convolution_backward(y, cache))
    wide, cache = normalized_convolution_forward(
        *(a.astype("float64") for a in (x, x, weight)), scale=2.0, window=window
    )
    for a, b in zip(found, (wide, *normalized_convolution_backward(wide, cache)), strict=True):
        if b is not None:
            assert a.dtype == dtype
            error = 30 * np.finfo(dtype).eps * np.abs(b).max()
            np.testing.assert_allclose(a, b, rtol=0, atol=error)


def test_resize_to_the_same_size_is_a_copy():
    x = np.ones((1, 1, 2, 3))
    y, cache = ops.resize_forward(x, (2, 3))
    assert not np.shares_memory(x, y) and not np.shares_memory(y, ops.resize_backward(y, cache))


@given(networks(min_batch=0), st.sampled_from(["L1", "L2"]))
def test_scale_zero_gives_plain_convolution(case, norm):
    options, x, embedding, weight = case
    plain, _ = ops.convolution_forward(x, weight, **options)
    found = aware(x, embedding, weight, options, scale=0.0, norm=norm)
    np.testing.assert_allclose(found, plain, **CLOSE)


@given(networks(), proofs.seeds(), st.sampled_from(["L1", "L2"]))
def test_adding_a_constant_to_the_embedding_changes_nothing(case, seed, norm):
    options, x, embedding, weight = case
    shift = np.random.default_rng(seed).integers(-8, 9, (3, 1, 1)) / 4
    want = aware(x, embedding, weight, options, norm=norm)
    found = aware(x, embedding + shift, weight, options, norm=norm)
    np.testing.assert_allclose(found, want, **CLOSE)


@given(networks(), proofs.seeds())
def test_rotating_the_embedding_changes_nothing_under_l2(case, seed):
    options, x, embedding, weight = case
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    rotated = np.einsum("fe,nehw->nfhw", rotation, embedding)
    want = aware(x, embedding, weight, options, norm="L2")
    np.testing.assert_allclose(aware(x, rotated, weight, options, norm="L2"), want, **CLOSE)


@given(networks())
def test_channels_of_the_embedding_have_no_order(case):
    options, x, embedding, weight = case
    want = aware(x, embedding, weight, options)
    np.testing.assert_allclose(aware(x, embedding[:, ::-1], weight, options), want, **CLOSE)


@given(networks())
def test_samples_of_a_batch_do_not_see_each_other(case):
    options, x, embedding, weight = case
    together = aware(x, embedding, weight, options)
    for n in range(len(x)):
        alone = aware(x[n : n + 1], embedding[n : n + 1], weight, options)
        np.testing.assert_allclose(together[n : n + 1], alone, **CLOSE)
    spoilt = x.copy()
    spoilt[0] = np.nan
    found = aware(spoilt, embedding, weight, options)
    np.testing.assert_array_equal(found[1:], together[1:])


@given(networks())
def test_gradients_of_a_batch_are_those_of_its_samples(case):
    options, x, embedding, weight = case
    y, cache = normalized_convolution_forward(x, embedding, weight, **options)
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    dx, de, dw, *_ = normalized_convolution_backward(dy, cache)
    total = np.zeros_like(weight)
    for n in range(len(x)):
        one = slice(n, n + 1)
        _, cache = normalized_convolution_forward(x[one], embedding[one], weight, **options)
        dx1, de1, dw1, *_ = normalized_convolution_backward(dy[one], cache)
        np.testing.assert_allclose(dx[one], dx1, **CLOSE)
        np.testing.assert_allclose(de[one], de1, **CLOSE)
        total += dw1
    np.testing.assert_allclose(dw, total, rtol=1e-10, atol=1e-10)


@given(networks())
def test_two_masks_multiply_out(case):
    """The mask commutes with the product over channels: scaling it scales the output."""
    options, x, embedding, weight = case
    d, _ = ops.distance_forward(embedding, options["window"], "L2")
    mask, _ = ops.exponential_mask_forward(d, 0.3)
    once, _ = ops.segaware_convolution_forward(x, mask, weight, **options)
    twice, _ = ops.segaware_convolution_forward(x, 2 * mask, weight, **options)
    np.testing.assert_array_equal(twice, 2 * once)


@given(networks())
def test_explicit_and_direct_forms_agree(case):
    options, x, embedding, weight = case
    d, _ = ops.distance_forward(embedding, options["window"], "L1")
    mask, _ = ops.exponential_mask_forward(d, 0.3)
    direct = ops.segaware_convolution_forward(x, mask, weight, **options)[0]
    explicit = ops.segaware_convolution_explicit_forward(x, mask, weight, **options)[0]
    np.testing.assert_allclose(direct, explicit, **CLOSE)


@given(networks(), st.booleans(), st.booleans())
def test_masks_are_weights(case, remove_center, remove_bounds):
    options, _, embedding, _ = case
    window = options["window"]
    d, _ = ops.distance_forward(embedding, window, "L1", remove_center, remove_bounds)
    exponential, _ = ops.exponential_mask_forward(d, 0.8)
    assert ((exponential >= 0) & (exponential <= 1)).all()
    assert (exponential[np.isinf(d)] == 0).all()
    if not remove_center:
        assert (exponential[:, window.centre] == 1).all()
    normalized, _ = ops.normalized_mask_forward(d, 0.8)
    np.testing.assert_allclose(normalized.sum(1), 1.0, rtol=1e-12)
    removed_in_part = np.isinf(d) & ~np.isinf(d).all(1, keepdims=True)
    assert (normalized[removed_in_part] == 0).all()


@given(networks())
def test_filtering_a_constant_image_keeps_it(case):
    _, x, embedding, _ = case
    x = np.full_like(x, 3.25)
    y, _ = bilateral_filter_forward(x, embedding, 0.5, window=Window.same(3))
    np.testing.assert_allclose(y, x, rtol=1e-12)


@given(networks())
def test_a_boundary_of_infinite_contrast_separates_regions(case):
    """With a mask of 0 across it, changing one side changes nothing on the other."""
    options, x, _, weight = case
    side = np.zeros((*x.shape[:1], 1, *x.shape[2:]))
    side[..., side.shape[-1] // 2 :] = 1e6
    before = aware(x, side, weight, options)
    changed = x + (side > 0)
    oy, ox = options["window"].origin
    columns = ox + options["window"].stride[1] * np.arange(before.shape[-1])
    left = (columns >= 0) & (columns < side.shape[-1] // 2)
    rows = oy + options["window"].stride[0] * np.arange(before.shape[-2])
    inside = (rows >= 0) & (rows < side.shape[-2])  # a centre outside the image has no distances
    found = aware(changed, side, weight, options)
    kept = np.ix_(inside, left)
    np.testing.assert_array_equal(found[:, :, kept[0], kept[1]], before[:, :, kept[0], kept[1]])


# NaN and infinity.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "forward", [ops.segaware_convolution_forward, ops.segaware_convolution_explicit_forward]
)
def test_nan_behind_a_zero_mask_reaches_its_windows_and_no_others(forward, value, dtype):
    x = np.ones((1, 1, 5, 6), dtype)
    x[0, 0, 1, 2] = value
    mask = np.zeros((1, 9, 5, 6), dtype)
    with np.errstate(invalid="ignore"):
        y, _ = forward(x, mask, np.ones((2, 1, 3, 3), dtype), window=Window(3, pad=1))
    covered = np.zeros((5, 6), bool)
    covered[0:3, 1:4] = True
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(covered, y.shape))
    assert (y[:, :, ~covered] == 0).all()


def test_infinite_distances_make_no_nan():
    d = np.full((1, 3, 1, 2), np.inf)
    d[0, 0, 0, 0] = 1.0
    for scale in (0.0, 1.0, -1.0):
        for forward, backward in (
            (ops.exponential_mask_forward, ops.exponential_mask_backward),
            (ops.normalized_mask_forward, ops.normalized_mask_backward),
        ):
            mask, cache = forward(d, scale)
            dd, ds = backward(np.arange(6.0).reshape(d.shape), cache)
            assert np.isfinite(mask).all() and np.isfinite(dd).all() and np.isfinite(ds)
            assert (dd[np.isinf(d)] == 0).all()
            assert (mask[0, 1:, 0, 0] == 0).all()


# Sizes at the end of the scale.


def test_one_pixel_one_channel_one_tap():
    x, mask, weight = (np.full((1, 1, 1, 1), v) for v in (3.0, 0.5, 2.0))
    y, cache = ops.segaware_convolution_forward(x, mask, weight, window=Window(1))
    assert y.item() == 3.0
    gradients = ops.segaware_convolution_backward(np.ones_like(y), cache)[:3]
    assert [g.item() for g in gradients] == [1.0, 6.0, 1.5]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empty_batch(dtype):
    window = Window(3, stride=2, pad=1)
    x = np.zeros((0, 4, 7, 5), dtype)
    d, distance_cache = ops.distance_forward(x, window)
    mask, mask_cache = ops.exponential_mask_forward(d, 1.0)
    weight = np.ones((6, 2, 3, 3), dtype)
    y, cache = ops.segaware_convolution_forward(x, mask, weight, window=window, groups=2)
    assert y.shape == (0, 6, 4, 3) and y.dtype == dtype
    dx, dmask, dweight, _ = ops.segaware_convolution_backward(y, cache)
    dd, ds = ops.exponential_mask_backward(dmask, mask_cache)
    de = ops.distance_backward(dd, distance_cache)
    assert dx.shape == de.shape == x.shape and (dweight == 0).all() and ds == 0
    labels = ops.label_parity_forward(np.zeros((0, 7, 5), int), window)
    assert labels.shape == (0, 9, 4, 3)
    loss, loss_cache = ops.embedding_loss_forward(d, labels)
    assert loss == 0 and ops.embedding_loss_backward(1.0, loss_cache).shape == d.shape
    for forward in (ops.max_pool_forward, ops.average_pool_forward):
        assert forward(x, window)[0].shape == (0, 4, 4, 3)
    assert ops.resize_forward(x, (3, 9))[0].shape == (0, 4, 3, 9)
    score = np.zeros((0, 4, 7, 5), dtype)
    loss, cache = ops.softmax_cross_entropy_forward(score, np.zeros((0, 7, 5), int))
    assert loss == 0 and ops.softmax_cross_entropy_backward(1.0, cache).shape == score.shape
