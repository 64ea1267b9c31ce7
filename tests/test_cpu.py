"""The fast forms on the CPU: equal to the plain formulas, band by band and thread by thread."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_dispatch import FORMS, PLAIN

from segaware_np.cpu import gemm
from segaware_np.ops.distance import Measure
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window


def module(name):
    return importlib.import_module(name)  # `cpu.distance` is the function, not its module


@pytest.fixture(scope="module", autouse=True)
def three_threads():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("segaware_np.cpu.threads")._state, "count", 3)
        yield


@pytest.fixture(scope="module", autouse=True)
def small_bands():
    """Bands of a few pixels and blocks of a channel or two, so that small images have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("segaware_np.cpu.views"), "_PIXELS", 6)
        patch.setattr(module("segaware_np.cpu.views"), "_COLUMN_BYTES", 600)
        patch.setattr(module("segaware_np.cpu.distance"), "_VALUES", 40)  # rows that meet
        patch.setattr(module("segaware_np.cpu.distance"), "_CHANNELS", 2)
        patch.setattr(module("segaware_np.cpu.distance"), "_SHARING", 3)
        patch.setattr(module("segaware_np.cpu.mask"), "_VALUES", 6)
        patch.setattr(module("segaware_np.cpu.band_matrices"), "_BLOCK", 3)
        patch.setattr(module("segaware_np.cpu.band_matrices"), "_HEIGHT", 2)
        patch.setattr(module("segaware_np.cpu.band_matrices"), "_VALUES", 200)
        patch.setattr(module("segaware_np.cpu.masked_sum"), "_FEW", 2)
        patch.setattr(module("segaware_np.cpu.pixels"), "_VALUES", 20)
        patch.setattr(module("segaware_np.cpu.planes"), "_BYTES", 200)
        yield


def compare(name, *arguments):
    """Hold a fast form against its plain formula: values, shape, dtype, what is absent."""
    actual, expected = FORMS["cpu", name](*arguments), PLAIN[name](*arguments)
    if not isinstance(expected, tuple):
        actual, expected = (actual,), (expected,)
    for have, want in zip(actual, expected, strict=True):
        if want is None:
            assert have is None
            continue
        assert (have.shape, have.dtype) == (want.shape, want.dtype)
        tolerance = 1e-4 if want.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance)
    return actual


class Problem:
    """Inputs of a grouped convolution on a drawn geometry, perhaps with a NaN or an infinity."""

    def __init__(self, geometry, dtype, seed, groups, poison=None):
        rng, self.window, self.groups = np.random.default_rng(seed), geometry.window, groups
        channels, outputs = groups * rng.integers(0, 4), groups * rng.integers(0, 3)

        def draw(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.x = draw(*geometry.image(channels))
        self.mask = np.abs(draw(*geometry.result(self.window.size)))
        self.weight = draw(outputs, channels // groups, *self.window.kernel)
        self.bias = draw(outputs)
        self.dy = draw(*geometry.result(outputs))
        if poison is not None:
            self.poison(self.x, rng, poison)
            self.poison(self.mask, rng, poison)

    @staticmethod
    def poison(array, rng, value):
        if array.size:
            array.flat[rng.integers(array.size)] = value


odd, dilations = st.sampled_from([1, 3, 5]), st.integers(1, 3)
windows = st.one_of(
    st.builds(Window.same, st.tuples(odd, odd), st.tuples(dilations, dilations)),
    proofs.windows(),
)
problems = st.builds(
    Problem,
    proofs.geometries(windows, min_batch=0, max_output=6),
    proofs.dtypes(),
    proofs.seeds(),
    st.integers(1, 3),
    st.sampled_from([None, None, np.nan]),
)
needs = st.sets(st.sampled_from(["x", "mask", "weight", "bias"]))


@given(problems, needs, st.booleans())
def test_convolutions(p, need, with_bias):
    bias = p.bias if with_bias else None
    compare("convolution", p.x, p.weight, bias, p.window, p.groups)
    compare("convolution_grad", p.dy, p.x, p.weight, p.window, p.groups, need - {"mask"})
    compare("segaware_convolution", p.x, p.mask, p.weight, bias, p.window, p.groups)
    compare("segaware_convolution_grad", p.dy, p.x, p.mask, p.weight, p.window, p.groups, need)


@given(problems, proofs.seeds())
def test_a_nan_that_comes_back_reaches_its_own_windows_only(p, seed):
    # dW sums over all windows: there 0 * NaN, through a tap that sees nothing, is NaN like any.
    p.poison(p.dy, np.random.default_rng(seed), np.nan)
    compare("convolution_grad", p.dy, p.x, p.weight, p.window, p.groups, {"x"})
    compare(
        "segaware_convolution_grad", p.dy, p.x, p.mask, p.weight, p.window, p.groups, {"x", "mask"}
    )


@given(problems, needs)
def test_columns_and_masked_sums(p, need):
    (cols,) = compare("im2col", p.x, p.window)
    compare("col2im", np.nan_to_num(cols) + 1, p.x.shape[2:], p.window)
    mask = np.nan_to_num(p.mask)
    (y,) = compare("masked_sum", p.x, mask, p.window)
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)
    compare("masked_sum_grad", dy, p.x, mask, p.window, need & {"x", "mask"})


@given(problems)
def test_masked_sums_of_views_and_the_same_bits_for_any_threads(p):
    x, mask = np.nan_to_num(p.x)[..., ::-1], np.nan_to_num(p.mask).swapaxes(2, 3).copy()
    mask = mask.swapaxes(2, 3)
    (y,) = compare("masked_sum", x, mask, p.window)
    dy = np.broadcast_to(y[..., :1], y.shape)
    several = compare("masked_sum_grad", dy, x, mask, p.window, {"x", "mask"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("segaware_np.cpu.threads")._state, "count", 1)
        one = FORMS["cpu", "masked_sum_grad"](dy, x, mask, p.window, {"x", "mask"})
        assert np.array_equal(FORMS["cpu", "masked_sum"](x, mask, p.window), y)
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))


@given(problems, st.sampled_from(["L1", "L2"]), st.booleans(), st.booleans(), st.booleans())
def test_distances(p, norm, remove_center, remove_bounds, ties):
    x = np.round(p.x) if ties else p.x
    measure = Measure(p.window, norm, remove_center, remove_bounds)
    compare("distance", x, measure)
    compare("distance_grad", p.mask, x, measure)


@given(problems, st.sampled_from([1.0, 0.05, 0.0, -1.0]), st.sampled_from([None, "f4", "f8"]))
def test_masks(p, scale, scale_dtype):
    distance, dmask = p.mask, p.mask[..., ::-1]  # its NaN may come back to a removed entry
    distance = np.where(distance > 1.5, distance.dtype.type(np.inf), distance)
    scale = scale if scale_dtype is None else np.array(scale, scale_dtype)
    for name in ("exponential_mask", "normalized_mask"):
        (mask,) = compare(name, distance, scale)
        compare(f"{name}_grad", dmask, distance, scale, mask)


@given(problems, st.sampled_from([1.0, 0.05, 0.0, -1.0]), st.booleans(), st.booleans())
def test_local_masks(p, scale, normalized, remove):
    scale, x = p.x.dtype.type(scale), np.nan_to_num(p.x)
    how = Measure(p.window, "L1", remove, remove)
    name = "normalized_mask" if normalized else "exponential_mask"
    with np.errstate(all="ignore"):
        d = PLAIN["distance"](x, how)
        expected = PLAIN[name](d, scale)
        dmask = expected[..., ::-1].copy()
        dd, ds = PLAIN[f"{name}_grad"](dmask, d, scale, expected)
        mask, kept = FORMS["cpu", "local_mask"](x, scale, how, normalized)
        back = FORMS["cpu", "local_mask_grad"](
            dmask, x, scale, mask, kept, how, normalized, {"embedding", "scale"}
        )
        wanted = expected, PLAIN["distance_grad"](dd, x, how), ds
    for have, want in zip((mask, *back), wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)
    assert kept is None


@given(problems, st.integers(1, 2))
def test_pixelwise_operations(p, filters):
    assume(p.x.shape[1])
    (q,) = compare("softmax", p.x)
    compare("softmax_grad", p.x[::-1], np.nan_to_num(q))
    rng, c = np.random.default_rng(0), p.x.shape[1]
    mixers = rng.standard_normal((filters, c, c)).astype(p.x.dtype).swapaxes(1, 2)
    filtered = rng.standard_normal((filters, *p.x.shape)).astype(p.x.dtype)[..., ::-1]
    compare("mean_field_update", p.x, filtered, mixers)
    for actual, expected in zip(
        FORMS["cpu", "mean_field_update_grad"](p.x, filtered, mixers),
        PLAIN["mean_field_update_grad"](p.x, filtered, mixers),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@given(problems, st.integers(1, 9), st.integers(1, 9))
def test_pooling_and_resizing(p, height, width):
    x, count = np.nan_to_num(p.x), p.dy.shape[2:]
    (y,) = compare("max_pool", x, p.window, count)
    y = np.where(np.isinf(y), y.dtype.type(0), y)  # a window that lies in the padding
    compare("max_pool_grad", y + 1, x, y, p.window)
    (y,) = compare("average_pool", x, p.window, count)
    compare("average_pool_grad", y, x.shape[2:], p.window)
    (y,) = compare("resize", x, (height, width))
    compare("resize_grad", y, x.shape[2:])


@given(problems)
def test_dx_sees_nothing_of_x(p):
    x = np.full_like(p.x, np.nan)  # and so are the columns whose memory dx's columns take over
    arguments = p.dy, x, np.nan_to_num(p.mask), p.weight, p.window, p.groups
    dx, *_ = compare("segaware_convolution_grad", *arguments, {"x", "weight"})
    assert np.isfinite(dx).all()


# ---------------------------------------------------------------------------------------------
# The image's border


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_not_finite_never_comes_out_at_the_other_edge(poison):
    window, shape = Window.same(3), (1, 2, 6, 7)
    x, mask = np.ones(shape), np.zeros((1, 9, 6, 7))
    x[0, :, 2, 6] = poison  # at the right edge: in memory, the next row follows
    weight = np.ones((3, 2, 3, 3))
    covers = np.zeros((6, 7), bool)
    covers[1:4, 5:] = True  # the windows that see it, all through a weight of 0
    with np.errstate(invalid="ignore"):  # 0 * inf
        y = FORMS["cpu", "segaware_convolution"](x, mask, weight, None, window, 1)
    assert np.array_equal(np.isnan(y[0, 0]), covers)
    assert not y[0, 0][~covers].any()


@pytest.mark.parametrize("window", [Window.same(3), Window(3, stride=2, pad=1)])
@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_an_embedding_pulls_at_its_neighbours_only(window, norm, value):
    rng = np.random.default_rng(0)
    e = rng.standard_normal((1, 2, 6, 7))
    e[0, :, 2, 6] = value  # at the right edge: in memory, the next row follows
    how = e, Measure(window, norm, False, False)
    (d,) = compare("distance", *how)
    compare("distance_grad", rng.standard_normal(d.shape), *how)


def test_a_mask_has_no_say_beside_the_image():
    window = Window.same(3)
    x, mask = np.ones((1, 1, 4, 5)), np.ones((1, 9, 4, 5))
    outside = PLAIN["im2col"](x, window)[0, 0] == 0
    mask[0, outside] = np.nan
    weight, need = np.ones((1, 1, 3, 3)), {"x", "mask", "weight"}
    y = FORMS["cpu", "segaware_convolution"](x, mask, weight, None, window, 1)
    gradients = FORMS["cpu", "segaware_convolution_grad"](y, x, mask, weight, window, 1, need)
    assert all(np.isfinite(array).all() for array in (y, *gradients[:3]))


@pytest.mark.parametrize("channels", [1, 9])  # few take another road
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_mask_has_no_say_beside_the_image_in_a_sum(channels, dilation):
    window, x = Window.same(3, dilation), np.ones((1, channels, 4, 5))
    mask = np.where(PLAIN["im2col"](x, window)[:, 0] == 0, np.nan, 1)
    sums = FORMS["cpu", "masked_sum"](x, mask, window)
    gradients = FORMS["cpu", "masked_sum_grad"](sums, x, mask, window, {"x", "mask"})
    assert all(np.isfinite(array).all() for array in (sums, *gradients))


def test_an_image_without_pixels_has_a_border():
    x, window = np.ones((2, 3, 0, 4)), Window((4, 1), pad=(2, 0))
    weight = np.ones((5, 3, 4, 1))
    (y,) = compare("convolution", x, weight, np.ones(5), window, 1)
    compare("convolution_grad", y, x, weight, window, 1, {"x", "weight", "bias"})


# ---------------------------------------------------------------------------------------------
# Matrix products


def stored(matrix, order):
    """The same matrix by rows, by columns, or as a part of a larger one."""
    if order == "part":
        larger = np.full((matrix.shape[0] + 1, matrix.shape[1] + 3), np.nan, matrix.dtype)
        larger[1:, 2:-1] = matrix
        return larger[1:, 2:-1]
    return np.array(matrix, order=order)


@pytest.fixture(params=["BLAS", "NumPy"])
def product(request, monkeypatch):
    if request.param == "NumPy":  # as where SciPy's BLAS has integers of another width
        monkeypatch.setattr(module("segaware_np.cpu.gemm"), "_blas", lambda char: None)
    return module("segaware_np.cpu.gemm").gemm


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_gemm(product, beta):
    rng = np.random.default_rng(0)
    for dtype in "fd":
        for m, n, k in [
            (3, 4, 5),
            (1, 4, 5),
            (3, 1, 5),
            (3, 4, 1),
            (0, 4, 5),
            (3, 0, 2),
            (2, 3, 0),
        ]:
            for order_a in ("C", "F", "part"):
                for order_b in ("C", "F", "part"):
                    a = stored(rng.standard_normal((m, k)).astype(dtype), order_a)
                    b = stored(rng.standard_normal((k, n)).astype(dtype), order_b)
                    c = stored(rng.standard_normal((m, n)).astype(dtype), "part")
                    expected = a @ b + beta * c
                    if beta == 0:
                        c[:] = np.nan  # not to be read
                    product(a, b, c, beta)
                    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-5)


def test_gemm_writes_nothing_beside_its_part():
    larger = np.zeros((4, 6), "float32")
    gemm.gemm(np.ones((2, 3), "float32"), np.ones((3, 3), "float32"), larger[1:3, 2:5], beta=1)
    expected = np.zeros((4, 6))
    expected[1:3, 2:5] = 3
    assert np.array_equal(larger, expected)


def test_gemm_refuses_matrices_that_blas_cannot_describe():
    a = np.ones((4, 6), "float32")[::2, ::2]
    with pytest.raises(ValueError, match="contiguous rows or columns"):
        gemm.gemm(a, np.ones((3, 2), "float32"), np.ones((2, 2), "float32"))


def test_scipys_blas_is_recognised():
    assert module("segaware_np.cpu.gemm")._blas("f") is not None
    assert module("segaware_np.cpu.gemm")._blas("d") is not None
