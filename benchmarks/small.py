"""Small images, as lessons and property tests have them, against im2col written in NumPy.

    python benchmarks/small.py [--rounds 300] [--threads 1]

Contenders take turns; printed are the least and the median time of a call in microseconds, and how
many times the reference ours takes. What matters here is what a call costs before it computes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np

from segaware_np import Window, ops
from segaware_np.cpu.threads import set_num_threads

WINDOW = Window.same(3)
CALLS = 20  # of one contender before the next has its turn
# What each may take, in units of the reference's convolution of the same direction.
GOALS = {
    "convolution forward": 1.5,
    "convolution backward": 1.7,
    "segmentation-aware forward": 1.7,
    "segmentation-aware backward": 2.2,
    "distance forward": 1.5,
}


def im2col(x: np.ndarray) -> np.ndarray:
    """Columns (N, C 9, H W) of 3x3 windows: the image padded, then nine slices of it."""
    n, c, h, w = x.shape
    padded = np.zeros((n, c, h + 2, w + 2))
    padded[:, :, 1:-1, 1:-1] = x
    columns = np.empty((n, c, 9, h, w))
    for k in range(9):
        columns[:, :, k] = padded[:, :, k // 3 : k // 3 + h, k % 3 : k % 3 + w]
    return columns.reshape(n, c * 9, h * w)


def reference_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Convolution as a product, and the columns."""
    columns = im2col(x)
    y = weight.reshape(len(weight), -1) @ columns + bias[:, None]
    return y.reshape(len(x), len(weight), *x.shape[2:]), columns


def reference_backward(
    dy: np.ndarray, columns: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of x, weight and bias."""
    n, o, h, w = dy.shape
    flat = dy.reshape(n, o, h * w)
    dweight = (flat @ columns.transpose(0, 2, 1)).sum(0).reshape(weight.shape)
    dcolumns = (weight.reshape(o, -1).T @ flat).reshape(n, -1, 9, h, w)
    padded = np.zeros((n, dcolumns.shape[1], h + 2, w + 2))
    for k in range(9):
        padded[:, :, k // 3 : k // 3 + h, k % 3 : k % 3 + w] += dcolumns[:, :, k]
    return padded[:, :, 1:-1, 1:-1], dweight, flat.sum((0, 2))


def contenders() -> dict[str, Callable[[], object]]:
    """Calls without arguments, by name."""
    rng = np.random.default_rng(0)
    x, embedding = rng.standard_normal((2, 1, 3, 16, 16))
    weight, bias = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    dy, mask = rng.standard_normal((1, 4, 16, 16)), rng.random((1, 9, 16, 16))
    y, columns = reference_forward(x, weight, bias)
    ours, cache = ops.convolution_forward(x, weight, bias, window=WINDOW)
    _, aware = ops.segaware_convolution_forward(x, mask, weight, bias, window=WINDOW)
    _, ones = ops.segaware_convolution_forward(x, np.ones_like(mask), weight, bias, window=WINDOW)
    right = reference_backward(dy, columns, weight)
    np.testing.assert_allclose(ours, y)
    for found, wanted in zip(ops.convolution_backward(dy, cache), right, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ops.segaware_convolution_backward(dy, ones)[0], right[0])
    return {
        "reference forward": lambda: reference_forward(x, weight, bias),
        "reference backward": lambda: reference_backward(dy, columns, weight),
        "convolution forward": lambda: ops.convolution_forward(x, weight, bias, window=WINDOW),
        "convolution backward": lambda: ops.convolution_backward(dy, cache),
        "segmentation-aware forward": lambda: ops.segaware_convolution_forward(
            x, mask, weight, bias, window=WINDOW
        ),
        "segmentation-aware backward": lambda: ops.segaware_convolution_backward(dy, aware),
        "distance forward": lambda: ops.distance_forward(embedding, WINDOW),
    }


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = perf_counter()
            for _ in range(CALLS):
                call()
            times[name].append((perf_counter() - start) / CALLS)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_num_threads(options.threads)
    calls = contenders()
    measure(calls, 3)
    times = measure(calls, options.rounds)
    print(f"{'':30}{'least':>8}{'median':>8}   least / reference (goal), median / reference")
    for name, seconds in times.items():
        least, median = min(seconds) * 1e6, statistics.median(seconds) * 1e6
        line = f"{name:30}{least:8.1f}{median:8.1f}"
        if goal := GOALS.get(name):
            base = times[f"reference {name.split()[-1]}"]
            line += f"   {least / min(base) / 1e6:.2f} ({goal})"
            line += f", {median / statistics.median(base) / 1e6:.2f}"
        print(line)


if __name__ == "__main__":
    main()
