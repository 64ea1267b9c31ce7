"""The fast forms on the CPU: equal to the plain formulas, band by band and thread by thread."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from engine_checks import check, hot
from hypothesis import given
from hypothesis import strategies as st
from op_cases import OPS
from problems import Problem, problems
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
        patch.setattr(module("segaware_np.cpu.small"), "_COLUMNS", 0)  # none is small
        patch.setattr(module("segaware_np.cpu.threads"), "_FEW", 0)
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


odd, dilations = st.sampled_from([1, 3, 5]), st.integers(1, 3)
windows = st.one_of(
    st.builds(Window.same, st.tuples(odd, odd), st.tuples(dilations, dilations)),
    proofs.windows(),
)


@pytest.mark.parametrize("name", hot("cpu"))
@given(
    problem=problems(windows, max_output=6, channels=(0, 1, 2, 3), outputs=(0, 1, 2)),
    dtype=st.sampled_from("fd"),
    layout=proofs.layouts(),
    poison=st.sampled_from([False, False, True]),
)
def test_fast_form_equals_the_plain_formula(
    name, problem: Problem, dtype, layout, poison
) -> None:
    check(name, problem, dtype, lambda a: layout(a) if np.ndim(a) else a, poison)


@given(problem=problems(windows, max_output=6, channels=(1, 2, 3)))
def test_masked_sums_of_views_have_the_same_bits_for_any_threads(problem: Problem):
    case = OPS["masked sum"](problem)
    x, mask = case.inputs["x"][..., ::-1], case.inputs["mask"].swapaxes(2, 3).copy().swapaxes(2, 3)
    dy = np.broadcast_to(problem.normal(1), case.forward(x, mask)[0].shape)
    several = case.run((x, mask), dy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("segaware_np.cpu.threads")._state, "count", 1)
        for a, b in zip(case.run((x, mask), dy), several, strict=True):
            np.testing.assert_array_equal(a, b)


@given(problem=problems(windows, max_output=6))
def test_dx_sees_nothing_of_x(problem: Problem):
    case = OPS["segaware convolution, form fused"](problem)
    x, *others = case.inputs.values()
    poisoned = np.full_like(x, np.nan)  # and so are the columns whose memory dx's columns take over
    dx = case.run((x, *others), need={"x", "weight"})[1]
    with np.errstate(invalid="ignore"):
        found = case.run((poisoned, *others), need={"x", "weight"})[1]
    np.testing.assert_array_equal(found, dx)


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


@pytest.mark.parametrize("shape", [(1, 3, 0, 0), (0, 3, 4, 4), (1, 0, 3, 3), (1, 3, 0, 5)])
@pytest.mark.parametrize("window", [Window(1, pad=1), Window(3, pad=2)])
def test_distances_of_nothing_are_none_or_nought(shape, window):
    e, measure = np.zeros(shape), Measure(window, "L1", False, False)
    count = (shape[0], window.size, *window.output_shape(shape[2:]))
    d = FORMS["cpu", "distance"](e, measure)
    assert d.shape == count and not d.any()
    assert FORMS["cpu", "distance_grad"](np.ones(count), e, measure).shape == shape


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
