"""Masks that exceed their memory are made a piece at a time: same results, same gradients."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segaware_np import Window, memory, ops
from segaware_np.crf import refine
from segaware_np.memory import get_mask_memory, set_mask_memory
from segaware_np.ops.pieces import PiecesCache, pieces


@pytest.fixture(autouse=True)
def restored():
    yield
    set_mask_memory(None)


def close(found, expected):
    for have, want in zip(found, expected, strict=True):
        assert (have is None) == (want is None)
        if want is not None:
            scale = max(1.0, np.abs(want).max(initial=0))
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-12 * scale)


def both(forward, backward, limit, dy_seed=5):
    """Result and gradients as a whole, and in pieces below a limit."""
    results = []
    for memory_limit in (2**40, limit):
        set_mask_memory(memory_limit)
        y, cache = forward()
        dy = np.random.default_rng(dy_seed).normal(size=y.shape)
        results.append(((y, *backward(dy, cache)), cache))
    return results


@st.composite
def windows(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if draw(st.booleans()):
        return Window.same(tuple(k | 1 for k in kernel), dilation)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pad = draw(st.tuples(st.integers(0, 6), st.integers(0, 6)))
    return Window(kernel, stride, pad, dilation)


sizes = st.tuples(st.integers(1, 14), st.integers(1, 15))
limits = st.integers(1, 4000)  # bytes


@given(windows(), sizes, limits, st.booleans(), st.integers(1, 2))
def test_a_bilateral_filter_in_pieces_is_the_whole(window, size, limit, remove, batch):
    try:
        window.output_shape(size)
    except ValueError:
        return
    rng = np.random.default_rng(7)
    x, e = rng.normal(size=(batch, 2, *size)), rng.normal(size=(batch, 3, *size))

    def forward():
        return ops.bilateral_filter_forward(
            x, e, 0.7, window=window, remove_center=remove, remove_bounds=remove
        )

    (whole, _), (parts, _) = both(forward, ops.bilateral_filter_backward, limit)
    close(parts, whole)


@given(windows(), sizes, limits)
def test_a_normalized_convolution_in_pieces_is_the_whole(window, size, limit):
    try:
        window.output_shape(size)
    except ValueError:
        return
    rng = np.random.default_rng(8)
    x, e = rng.normal(size=(2, 4, *size)), rng.normal(size=(2, 3, *size))
    weight, bias = rng.normal(size=(2, 2, *window.kernel)), rng.normal(size=2)

    def forward():
        return ops.normalized_convolution_forward(x, e, weight, bias, 0.5, window=window, groups=2)

    (whole, _), (parts, _) = both(forward, ops.normalized_convolution_backward, limit)
    close(parts, whole)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("limit", [300, 2000, 9000])
@pytest.mark.parametrize("dilation", [(1, 1), (3, 3), (2, 4)])
def test_a_mean_field_in_pieces_is_the_whole(second, limit, dilation):
    rng = np.random.default_rng(9)
    unary, q = rng.normal(size=(2, 2, 3, 17, 14))
    f1, f2 = rng.normal(size=(2, 2, 4, 17, 14))
    ws, wb, wc = rng.normal(size=(3, 3, 3))
    options = {"window1": Window.same((3, 5), dilation), "iterations": 3}
    if second:
        options["window2"] = Window.same(3)

    def forward():
        rest = (f2, ws) if second else (None, None)
        return ops.mean_field_forward(unary, q, f1, *rest, wb, wc, **options)

    (whole, one), (parts, many) = both(forward, ops.mean_field_backward, limit)
    assert not isinstance(one, PiecesCache) and isinstance(many, PiecesCache)
    close(parts, whole)


@pytest.mark.parametrize("dilation", [1, 3])
def test_refined_pieces_are_the_refined_whole(dilation):
    rng = np.random.default_rng(3)
    score = rng.normal(size=(3, 31, 26))
    image = rng.integers(0, 256, (31, 26, 3)).astype(np.uint8)
    embedding = rng.normal(size=(2, 31, 26))
    window = Window.same(5, dilation)
    results = []
    for limit in (2**40, 30_000, 5_000):
        set_mask_memory(limit)
        results.append(refine(score, image, embedding, window=window, iterations=2))
    close(results[1:], results[:1] * 2)


@given(windows(), sizes, limits, st.integers(1, 3))
def test_every_result_is_kept_once_and_pieces_are_no_larger_than_they_must(
    window, size, limit, steps
):
    try:
        count = window.output_shape(size)
    except ValueError:
        return
    steps = steps if window.output_shape(size) == size and window.stride == (1, 1) else 1
    set_mask_memory(limit)
    kept = np.zeros((1, 1, *count), int)
    for piece in pieces((1, 1, *size), 8, [window], steps):
        kept[piece.kept] += 1
    most = limit // (8 * window.size)
    assert (kept == (0 if count[0] * count[1] <= max(most, 1) else 1)).all()


def test_dilated_images_fall_apart_without_an_overlap():
    set_mask_memory(9 * 8 * 200)
    found = pieces((1, 1, 40, 30), 8, [Window.same(3, dilation=4)])
    assert len(found) == 16 and {piece.windows for piece in found} == {(Window.same(3),)}
    assert sum(np.zeros((1, 1, 40, 30))[piece.seen].size for piece in found) == 40 * 30


def test_a_filter_holds_the_masks_of_a_piece():
    rng = np.random.default_rng(0)
    x, window = rng.random((1, 3, 300, 400), dtype=np.float32), Window.same(9)
    set_mask_memory(4 * 2**20)
    tracemalloc.start()
    try:
        ops.bilateral_filter_forward(x, x, window=window)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20  # all masks take 37 MiB
    finally:
        tracemalloc.stop()


PHOTO = """
import resource
import numpy as np
from segaware_np.crf import refine
rng = np.random.default_rng(0)
score = rng.standard_normal((11, 3000, 4000), dtype=np.float32)
image = rng.integers(0, 256, (3000, 4000, 3), np.uint8)
assert refine(score, image).shape == score.shape
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_twelve_megapixels_are_refined_below_two_gib():
    run = subprocess.run([sys.executable, "-c", PHOTO], capture_output=True, text=True, check=True)
    assert int(run.stdout) * 1024 < 2 * 2**30  # ru_maxrss is in KiB


def test_the_environment_gives_the_default(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "1000")
    assert get_mask_memory() == 1000
    set_mask_memory(5)
    assert get_mask_memory() == 5
    set_mask_memory(None)
    for text in ("0", "-1", "1e6", "2GB", ""):
        monkeypatch.setenv(memory.VARIABLE, text)
        with pytest.raises(ValueError, match="SEGAWARE_MASK_MEMORY: expected a positive number"):
            get_mask_memory()
    for count, error in ((0, ValueError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="count: expected"):
            set_mask_memory(count)


def test_whoever_waits_hears_of_each_piece():
    heard = []
    score, image = np.zeros((2, 40, 50)), np.zeros((40, 50, 3), np.uint8)
    set_mask_memory(9 * 8 * 500)
    refine(score, image, window=Window.same(3, 2), each=lambda *numbers: heard.append(numbers))
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


@given(windows(), sizes, limits, st.booleans())
def test_attention_in_pieces_is_the_whole(window, size, limit, biased):
    try:
        window.output_shape(size)
    except ValueError:
        return
    rng = np.random.default_rng(10)
    query, key, value = rng.normal(size=(3, 2, 4, *size))
    bias = rng.normal(size=(2, *window.kernel)) if biased else None

    def forward():
        return ops.neighborhood_attention_forward(query, key, value, window, 2, bias)

    (whole, _), (parts, _) = both(forward, ops.neighborhood_attention_backward, limit)
    close(parts, whole)
