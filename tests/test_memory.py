"""What the library promises about memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from segaware_np import Window, ops
from segaware_np.cpu import threads

TRAINING_STEP = """
import resource
import numpy as np
from segaware_np import models, optim
net = models.segaware_vgg16(width=1.0).train()
solver = optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
rng = np.random.default_rng(0)
for _ in range(2):
    batch = {
        "image": rng.standard_normal((1, 3, 181, 241)).astype("float32"),
        "label": rng.integers(0, 21, (1, 181, 241)).astype("int32"),
    }
    net.zero_grad()
    net.forward(batch)
    net.backward()
    solver.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_training_at_published_widths_stays_under_2_gib():
    run = subprocess.run(
        [sys.executable, "-c", TRAINING_STEP], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) * 1024 < 2 * 2**30  # ru_maxrss is in KiB


def peak(call) -> int:
    """Most bytes that NumPy holds during a call, beyond what it held before."""
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1] - sum(a.nbytes for a in result[:1])
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def problem():
    rng, window = np.random.default_rng(0), Window.same(3)
    x = rng.standard_normal((1, 64, 321, 321), dtype="float32")
    mask = rng.random((1, 9, 321, 321), dtype="float32")
    weight = rng.standard_normal((64, 64, 3, 3), dtype="float32")
    return x, mask, weight, window


def test_direct_convolution_needs_a_fifth_of_the_explicit_one(problem):
    x, mask, weight, window = problem
    direct, explicit = (
        peak(lambda op=op: op(x, mask, weight, window=window))
        for op in (ops.segaware_convolution_forward, ops.segaware_convolution_explicit_forward)
    )
    assert direct <= explicit / 5


def test_direct_backward_needs_a_fifth_of_the_explicit_one(problem):
    x, mask, weight, window = problem
    peaks = []
    for forward, backward in (
        (ops.segaware_convolution_forward, ops.segaware_convolution_backward),
        (
            ops.segaware_convolution_explicit_forward,
            ops.segaware_convolution_explicit_backward,
        ),
    ):

        def step(forward=forward, backward=backward):
            y, cache = forward(x, mask, weight, window=window)
            return backward(y, cache)

        peaks.append(peak(step))
    assert peaks[0] <= peaks[1] / 5


def test_masked_sums_need_an_eighth_of_their_columns(monkeypatch):
    monkeypatch.setattr(threads._state, "count", 2)
    rng, window = np.random.default_rng(0), Window.same(13, dilation=9)
    x = rng.standard_normal((1, 21, 161, 161), dtype="float32")
    mask = rng.random((1, window.size, 161, 161), dtype="float32")

    def step():
        y, cache = ops.masked_sum_forward(x, mask, window)
        return ops.masked_sum_backward(y, cache)

    assert peak(step) <= x.nbytes * window.size / 8


@pytest.mark.parametrize("stride", [1, 4])
def test_transposed_convolution_holds_little_beside_its_output(monkeypatch, stride):
    monkeypatch.setattr(threads._state, "count", 2)
    rng, window = np.random.default_rng(0), Window(4, stride=stride)
    x = rng.standard_normal((1, 8, 512 // stride, 512 // stride), dtype="float32")
    weight = rng.standard_normal((8, 8, 4, 4), dtype="float32")
    output = 8 * 512 * 512 * 4
    assert peak(lambda: ops.transposed_convolution_forward(x, weight, window=window)) < output / 2
