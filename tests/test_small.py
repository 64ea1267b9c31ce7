"""What the CPU does with small images: the same as the plain formulas, in the caller's thread."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from engine_checks import check
from hypothesis import assume, given
from hypothesis import strategies as st
from op_cases import CASES
from problems import Problem, problems

from segaware_np import ops
from segaware_np.cpu import small, threads
from segaware_np.testing import strategies as proofs
from segaware_np.window import Window, pairs, shifts

ROOMS = ("convolution", "segaware", "distance", "masked sum", "im2col", "col2im")
NAMES = [n for n in CASES if n.startswith(ROOMS)]


@contextmanager
def no_bands() -> Iterator[None]:
    """Let it be an error to share jobs among threads."""

    def refuse(*arguments, **options):
        raise AssertionError("cut into bands")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads._state, "count", 3)
        for module in ("convolution", "distance", "masked_sum", "columns"):
            room = importlib.import_module(f"segaware_np.cpu.{module}")
            patch.setattr(room, "parallel", refuse)
        yield


EVERY = problems(channels=(1, 2, 3), outputs=(1, 2))


@pytest.mark.parametrize("name", NAMES)
@given(problem=EVERY, dtype=st.sampled_from("fd"), layout=proofs.layouts())
def test_small_images_are_not_cut_and_computed_by_their_formula(
    name, problem: Problem, dtype, layout
):
    assume(problem.geometry.batch)
    with no_bands():
        check(name, problem, dtype, lambda a: layout(a) if np.ndim(a) else a)


@pytest.mark.parametrize("name", NAMES)
@given(problem=EVERY, dtype=st.sampled_from("fd"))
def test_what_is_not_finite_reaches_no_window_that_does_not_see_it(name, problem: Problem, dtype):
    check(name, problem, dtype, lambda a: a, poison=True)


@pytest.mark.parametrize("spoilt", ["x", "embedding"])
def test_a_nan_in_one_image_changes_no_bit_of_another(spoilt: str):
    rng, window = np.random.default_rng(0), Window.same(3)
    arrays = dict(zip(("x", "embedding"), rng.standard_normal((2, 2, 3, 6, 7)), strict=True))
    weight = rng.standard_normal((4, 3, 3, 3))

    def step() -> list[np.ndarray]:
        d, measured = ops.distance_forward(arrays["embedding"], window)
        m, masked = ops.exponential_mask_forward(d, 0.5)
        y, convolved = ops.segaware_convolution_forward(arrays["x"], m, weight, window=window)
        dx, dm, _, _ = ops.segaware_convolution_backward(np.ones_like(y), convolved)
        dd, _ = ops.exponential_mask_backward(dm, masked)
        return [y, dx, dm, ops.distance_backward(dd, measured)]

    before = [array[1:] for array in step()]
    arrays[spoilt][0, :, 2, 3] = np.nan
    for found, expected in zip(step(), before, strict=True):
        assert np.array_equal(found[1:], expected)


@pytest.mark.parametrize(
    ("side", "channels", "outputs", "is_small"),
    [
        (16, 3, 4, True),
        (16, 28, 4, True),  # 64,512 columns
        (16, 29, 4, False),  # 66,816
        (16, 4, 28, True),  # 258,048 products
        (16, 4, 29, False),  # 267,264
    ],
)
def test_what_is_small(side: int, channels: int, outputs: int, is_small: bool):
    x, weight = np.zeros((1, channels, side, side)), np.zeros((outputs, channels, 3, 3))
    assert small.is_small(x, weight, Window.same(3)) == is_small


def test_no_thread_is_woken_for_a_lesson():
    """Not for one step of a small network of every windowed operation, whatever the count."""
    before, alive = threads.get_num_threads(), threading.active_count()
    threads.set_num_threads(64)
    try:
        rng = np.random.default_rng(0)
        x, weight = rng.standard_normal((1, 3, 16, 16)), rng.standard_normal((4, 3, 3, 3))
        window = Window.same(3)
        d, measured = ops.distance_forward(x, window)
        m, masked = ops.exponential_mask_forward(d, 0.5)
        y, convolved = ops.segaware_convolution_forward(x, m, weight, window=window)
        p, soft = ops.softmax_forward(y)
        _, dm, _, _ = ops.segaware_convolution_backward(ops.softmax_backward(p, soft), convolved)
        dd, _ = ops.exponential_mask_backward(dm, masked)
        ops.distance_backward(dd, measured)
        pooled, pool = ops.max_pool_forward(x, Window(2, stride=2))
        ops.max_pool_backward(pooled, pool)
    finally:
        threads.set_num_threads(before)
    assert threading.active_count() == alive


def test_jobs_with_few_values_run_in_the_callers_thread():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    try:
        ran = threads.parallel(lambda job: threading.get_ident(), range(8), threads._FEW)
    finally:
        threads.set_num_threads(before)
    assert set(ran) == {threading.get_ident()}


@pytest.mark.parametrize("function", [shifts, pairs])
def test_shifts_are_worked_out_once_for_a_geometry(function, monkeypatch: pytest.MonkeyPatch):
    window = Window((3, 2), (2, 1), (1, 0), 2)
    first = list(function((9, 8), window))
    monkeypatch.setattr(Window, "axes", lambda *_: pytest.fail("worked out again"))
    again = Window((3, 2), (2, 1), (1, 0), 2)
    assert list(function([9, 8], again)) == first and len(first) == 6


def test_pairs_agree_with_brute_force():
    """Flat pixels at both ends, with stride, dilation and centres outside the image."""
    window, shape = Window((3, 2), (2, 1), (3, 1), (1, 2)), (5, 6)
    found = small._pairs(window, shape)
    count = window.output_shape(shape)
    number = 0
    for y in range(count[0]):
        for x in range(count[1]):
            cy, cx = y * 2 - 3 + 1, x - 1 + 2
            centred = 0 <= cy < 5 and 0 <= cx < 6
            assert found.centred[number] == centred
            for k, (dy, dx) in enumerate([(i, j) for i in (-1, 0, 1) for j in (-2, 0)]):
                inside = centred and 0 <= cy + dy < 5 and 0 <= cx + dx < 6
                here, there = found.here[0, number], found.there[k, number]
                assert found.paired[k, number] == inside
                assert here == (cy * 6 + cx if centred else 0)
                assert there == ((cy + dy) * 6 + cx + dx if inside else here)
            number += 1
    assert number == found.centred.size
