"""The proofs themselves: they find what is wrong, say where, and leave alone what is right."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from planted import BUGS, Bug

from segaware_np.testing import (
    AdjointError,
    GradientError,
    MismatchError,
    PurityError,
    check_adjoint,
    check_gradients,
    check_pure,
    check_same,
    prove,
    strategies,
)


def _wrong_entries(bug: Bug) -> np.ndarray | None:
    """Where the planted gradient differs from the right one; None where even the shape does."""
    y, cache = bug.forward(*bug.inputs)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    names = bug.forward.__code__.co_varnames
    at = names.index(bug.spoils)
    right, wrong = (
        np.asarray(found[at] if isinstance(found, tuple) else found)
        for found in (bug.right(dy, cache), bug.wrong(dy, cache))
    )
    return right != wrong if right.shape == wrong.shape else None


def test_there_are_at_least_twenty_bugs():
    assert len(BUGS) >= 20 and len({bug.name for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("how", ["complex", "differences", "auto", "bisection"])
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bug_is_found_where_it_is(bug: Bug, how: str):
    options = {"entries": 1} if how == "bisection" else {"method": how}
    check_gradients(bug.forward, bug.right, bug.inputs, **options)
    with pytest.raises(GradientError) as found:
        check_gradients(bug.forward, bug.wrong, bug.inputs, **options)
    assert found.value.name == bug.spoils
    wrong = _wrong_entries(bug)
    if wrong is None:
        assert "shape" in str(found.value) and f"({bug.spoils})" in str(found.value)
    else:
        index = found.value.index
        assert wrong[index]
        assert bug.spoils + (str(list(index)) if index else "") in str(found.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sign_of_the_distance_gradient", "every entry has the wrong sign"),
        ("factor_two_of_the_square", "every entry is 2 times the derivative"),
        ("transposed_weight_gradient", "its axes transposed to (1, 0)"),
        ("kernel_mirrored", "mirrored along axis 3"),
        ("window_off_by_one", "shifted by +1 along axis 3"),
        ("border_dropped", "wrong only at 0 of axis 3 (of length 5), where it is zero"),
        ("second_sample_forgotten", "wrong only at 1 of axis 0 (of length 2), where it is zero"),
    ],
)
def test_message_teaches(name: str, text: str):
    bug = next(bug for bug in BUGS if bug.name == name)
    with pytest.raises(GradientError) as found:
        check_gradients(bug.forward, bug.wrong, bug.inputs)
    hint = str(found.value).partition("  hint ")[2]
    assert text in hint


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda g: -g, "every entry has the wrong sign"),
        (lambda g: g / 2, "every entry is 0.5 times the derivative"),
        (lambda g: g.swapaxes(1, 2), "its axes transposed to (0, 2, 1)"),
        (lambda g: g[:, ::-1], "mirrored along axis 1"),
        (lambda g: np.roll(g, -1, 2), "shifted by -1 along axis 2"),
        (lambda g: g * (np.arange(20) != 7), "wrong only at 7 of axis 2 (of length 20), among 25"),
    ],
)
def test_message_teaches_of_large_arrays_too(spoil, text: str):
    """800 entries, of which 256 are tried. For an adjoint, 512 of them."""
    x = np.random.default_rng(3).standard_normal((2, 20, 20))
    with pytest.raises(GradientError) as found:
        check_gradients(square_forward, lambda dy, x: spoil(2 * x * dy), [x])
    assert text in str(found.value).partition("  hint ")[2]
    with pytest.raises(AdjointError) as apart:
        check_adjoint(lambda v: v * x, lambda v: spoil(v * x), (x.shape, x.shape))
    assert text.replace(", among 25", ", among 51") in str(apart.value).partition("hint: ")[2]


def test_no_hint_where_no_pattern_fits():
    with pytest.raises(GradientError) as found:
        check_gradients(square_forward, lambda dy, x: 2 * x * dy * (1 + 1e-8), [X])
    assert "hint" not in str(found.value) and "relative error  1e-08" in str(found.value)


# Side effects.


def square_forward(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


X = np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -3.0]])


def test_stale_cache_is_found():
    last = {}

    def forward(x):
        last["x"] = x
        return x * x, None

    def backward(dy, cache):
        return 2 * last["x"] * dy

    with pytest.raises(GradientError, match=r"input 0 \(x\) changed at x\[0, 0\]") as found:
        check_gradients(forward, backward, [X])
    assert found.value.name == "x" and found.value.index == (0, 0)


def test_cache_that_backward_destroys_is_found():
    def backward(dy, x):
        x *= 2 * dy
        return x

    def forward(x):
        return x * x, x.copy()

    with pytest.raises(GradientError, match="writes to its cache"):
        check_gradients(forward, backward, [X])


def test_backward_that_writes_to_d_output_is_found():
    def backward(dy, x):
        dy *= 2 * x
        return dy

    with pytest.raises(GradientError, match=r"wrote to its argument d_output, .* d_output\[0, 1\]"):
        check_gradients(square_forward, backward, [X])


def test_forward_that_writes_to_its_input_is_found():
    def forward(x):
        x[x < 0] = 0
        return x.copy(), x > 0

    with pytest.raises(GradientError, match=r"wrote to its argument x, first at x\[0, 1\]: -1.5"):
        check_gradients(forward, lambda dy, cache: dy * cache, [X])


def test_missing_gradients_are_named():
    with pytest.raises(GradientError, match=r"returned 1 gradients for 3 inputs \(a, b, c\)"):
        check_gradients(lambda a, b, c: (a * b * c, None), lambda dy, _: dy, [X, X, X])
    with pytest.raises(GradientError, match=r"NoneType as the gradient for input 1 \(b\)"):
        check_gradients(lambda a, b: (a * b, (a, b)), lambda dy, c: (dy * c[1], None), [X, X])


def test_nan_in_the_output_is_named():
    with pytest.raises(GradientError, match=r"NaN at output\[0, 1\]"), np.errstate(all="ignore"):
        check_gradients(lambda x: (np.sqrt(x), x), lambda dy, x: dy / 2 / np.sqrt(x), [X])


def test_nan_in_the_gradient_is_named():
    with pytest.raises(GradientError, match="not finite"):
        check_gradients(square_forward, lambda dy, x: np.where(x == 2, np.nan, 2 * x * dy), [X])


# Methods.


def abs_forward(x):
    return np.abs(x), x  # the absolute value of a complex number: no complex step is possible


def abs_backward(dy, x):
    return dy * np.sign(x)


def test_auto_falls_back_to_differences_where_complex_numbers_do_not_pass():
    report = check_gradients(abs_forward, abs_backward, [X])
    assert report.inputs[0].method == "central differences"
    with pytest.raises(TypeError, match='method="differences"'):
        check_gradients(abs_forward, abs_backward, [X], method="complex")


def test_auto_falls_back_where_complex_numbers_pass_but_mean_something_else():
    def forward(x):
        return x * np.conj(x), x

    report = check_gradients(forward, square_backward, [X])
    assert report.inputs[0].method == "central differences"


def test_auto_takes_the_complex_step_where_it_holds():
    report = check_gradients(square_forward, square_backward, [X])
    assert report.inputs[0].method == "complex step"
    assert "6 of 6 entries by complex step" in str(report)


def test_differences_report_their_bound():
    report = check_gradients(
        lambda x: (np.exp(x), x), lambda dy, x: dy * np.exp(x), [X], method="differences"
    )
    worst = report.inputs[0].worst
    assert 0 < abs(worst.claimed - worst.derivative) <= 4 * worst.bound < 1e-9


def test_differences_take_a_short_step_next_to_a_kink():
    x = np.array([1e-4, -1e-5, 0.3])
    report = check_gradients(abs_forward, abs_backward, [x], method="differences")
    assert report.inputs[0].kinks == 0 and report.inputs[0].worst.relative_error < 1e-6


def test_any_slope_between_both_sides_is_right_at_a_kink():
    x = np.array([0.0, 1.0])
    for slope in (-1.0, 0.0, 0.3, 1.0):
        report = check_gradients(abs_forward, lambda dy, x, s=slope: dy * (x + s * (x == 0)), [x])
        assert report.inputs[0].kinks <= 1
    with pytest.raises(GradientError, match=r"x\[0\]"):
        check_gradients(abs_forward, lambda dy, x: dy * (x + 1.5 * (x == 0)), [x])


def test_noise_is_not_mistaken_for_agreement():
    def forward(x):
        rng = np.random.default_rng(zlib.crc32(x.tobytes()))  # the same at every call with this x
        return x + 1e-3 * rng.standard_normal(x.shape), x

    with pytest.raises(GradientError, match="do not settle"):
        check_gradients(forward, lambda dy, x: dy, [X], method="differences")


def test_infinite_entries_have_no_derivative():
    x = np.array([1.0, np.inf])

    def forward(x):
        return np.exp(-x), x

    check_gradients(forward, lambda dy, x: -np.exp(-x) * dy, [x], method="differences")
    with pytest.raises(GradientError, match=r"x\[1\]"):
        check_gradients(forward, lambda dy, x: -dy * np.exp(-np.minimum(x, 9)), [x])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="method: expected"):
        check_gradients(square_forward, square_backward, [X], method="magic")
    with pytest.raises(ValueError, match="names: expected 1"):
        check_gradients(square_forward, square_backward, [X], names=["a", "b"])
    with pytest.raises(ValueError, match=r"linear: expected names out of \['x'\]"):
        prove(square_forward, square_backward, [X], linear=["y"])


# Adjoints.


def test_adjoint_that_is_off_by_one_is_found():
    check_adjoint(lambda x: np.roll(x, 1), lambda y: np.roll(y, -1), ((6,), (6,)), rtol=0)
    with pytest.raises(AdjointError, match=r"at x\[\d\]") as found:
        check_adjoint(lambda x: np.roll(x, 1), lambda y: np.roll(y, 1), ((6,), (6,)), rtol=0)
    assert found.value.index is not None


def test_adjoint_of_a_large_map_names_a_wrong_entry():
    def adjoint(y):
        x = y.copy()
        x[777] = 0
        return x

    with pytest.raises(AdjointError) as found:
        check_adjoint(lambda x: x, adjoint, ((1000,), (1000,)))
    assert found.value.index == (777,)


def test_bias_and_wrong_shapes_are_found():
    with pytest.raises(AdjointError, match="apply is not linear: at"):
        check_adjoint(lambda x: x + 1, lambda y: y, ((3,), (3,)))
    with pytest.raises(AdjointError, match=r"adjoint: expected shape \(3,\), got \(4,\)"):
        check_adjoint(lambda x: np.append(x, 0.0), lambda y: y, ((3,), (4,)))


# Sameness.


def test_differences_in_value_dtype_shape_and_place_are_found():
    check_same(lambda x: x + x, lambda x: 2 * x, [X])
    with pytest.raises(MismatchError, match=r"result\[1, 2\] in float32 .* expected -3, got -2.99"):
        check_same(lambda x: x + (x == -3) * x.dtype.type(1e-3), lambda x: x, [X])
    with pytest.raises(MismatchError, match="result in float32 with numpy: got dtype float64"):
        check_same(lambda x: x * np.ones(3), lambda x: x, [X])
    with pytest.raises(MismatchError, match=r"expected shape \(2, 3\), got \(3, 2\)"):
        check_same(lambda x: x.T, lambda x: x, [X])
    with pytest.raises(MismatchError, match=r"expected results \['result\[0\]', 'result\[1\]'\]"):
        check_same(lambda x: (x, None), lambda x: (x, x), [X])


def test_infinities_and_nans_must_agree():
    x = np.array([1.0, np.inf, -np.inf, np.nan])
    check_same(lambda x: x, lambda x: x, [x])
    for at in range(1, 4):
        with pytest.raises(MismatchError):
            check_same(lambda x, i=at: np.where(np.arange(4) == i, 0, x), lambda x: x, [x])


# Purity.


def test_view_of_the_input_is_found():
    with pytest.raises(PurityError, match="result shares memory with argument x") as found:
        check_pure(lambda x: x[::2], [X])
    assert found.value.name == "x"
    check_pure(lambda x: x[::2], [X], may_alias=True)


def test_layout_that_matters_is_found():
    def forward(x, y):
        return np.ndarray(x.shape, x.dtype, bytes(y.data.tobytes())) + x  # right

    def wrong(x, y):
        y = np.ndarray(y.shape, y.dtype, y, strides=np.empty(y.shape).strides)
        return x + y  # reads y's memory as if it were in C order

    check_pure(forward, [X, X])
    with pytest.raises(PurityError, match=r"result\[.*\] with Fortran-ordered y") as found:
        check_pure(wrong, [X, X[:, ::-1].copy()])
    assert found.value.name == "y"


def test_writing_to_an_argument_is_found():
    def forward(x):
        x += 1
        return x * 2

    with pytest.raises(PurityError, match=r"writes to its argument x .*: x\[0, 0\] was 0.5"):
        check_pure(forward, [X])


def test_random_results_are_found():
    rng = np.random.default_rng(0)
    with pytest.raises(PurityError, match="at the first call"):
        check_pure(lambda x: x + rng.uniform(), [X])


# The whole ladder.


def test_prove_takes_arrays_and_strategies():
    report = prove(square_forward, square_backward, [X], oracle=lambda x: x**2)
    assert report.inputs[0].name == "x"
    assert prove(square_forward, square_backward, st.tuples(strategies.images())) is None


def test_prove_shrinks_a_failure_to_a_small_example():
    images = st.tuples(strategies.images())
    with pytest.raises(GradientError, match=r"shape \(1, 1, 1, 1\)"):
        prove(square_forward, lambda dy, x: x * dy, images)


def test_prove_finds_what_each_rung_is_for():
    images = [X]
    with pytest.raises(MismatchError):
        prove(square_forward, square_backward, images, oracle=lambda x: x * x + 1e-4)
    with pytest.raises(AdjointError):
        prove(lambda x: (2 * x, None), lambda dy, _: dy, images, linear=["x"])
    with pytest.raises(GradientError):
        prove(square_forward, lambda dy, x: x * dy, images)
    with pytest.raises(MismatchError, match="got dtype float64"):
        prove(square_forward, lambda dy, x: 2.0 * (x * dy).astype(np.float64), images)
    with pytest.raises(PurityError):
        prove(lambda x: (x, None), lambda dy, _: dy.copy(), images)
