"""Segmentation-aware convolution on a GPU: this library, PyTorch, and cuDNN's plain convolution.

    python benchmarks/gpu.py [--tf32] [--batch 8] [--repeat 30] [--only 64,128]

All contenders of a size take turns within one run, on the same arrays (shared by DLPack) and in
the same stream; a line gives the median and the quartiles. The floor is the larger of the bytes
that must move over the measured bandwidth of a copy and the operations over the measured peak of
a matrix product. Needs CuPy, PyTorch and a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EMBEDDING = 64  # channels of the embedding that masks are made from
SCALE = 0.05

# Input channels, outputs, side of the image, kernel, dilation.
SIZES = (
    (64, 64, 128, 3, 1),
    (64, 64, 321, 3, 1),
    (128, 128, 161, 3, 1),
    (256, 256, 81, 3, 1),
    (512, 512, 41, 3, 2),
    (16, 16, 64, 5, 1),
    (3, 64, 321, 3, 1),
)


@dataclass(frozen=True)
class Timing:
    """Milliseconds, and bytes at the peak beyond the inputs."""

    median: float
    low: float
    high: float
    peak: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tf32", action="store_true", help="TF32 matrix products, on all sides")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--only", help="input channels of the sizes to run, such as 64,128")
    options = parser.parse_args()
    os.environ["CUPY_TF32"] = str(int(options.tf32))  # read by CuPy when it is imported
    try:
        import cupy
        import torch
    except ImportError as error:
        print(f"benchmarks/gpu.py needs CuPy and PyTorch: {error}", file=sys.stderr)
        return 1
    if not (cupy.cuda.is_available() and torch.cuda.is_available()):
        print("benchmarks/gpu.py needs a GPU: none found", file=sys.stderr)
        return 1
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32

    bandwidth, peak = measure_copy(cupy, options.repeat), measure_product(cupy, options.repeat)
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{name}; CuPy {cupy.__version__}, PyTorch {torch.__version__}; TF32 {options.tf32}")
    print(f"copy {bandwidth / 1e9:.0f} GB/s, matrix product {peak / 1e12:.1f} TFLOP/s")
    print(f"batch {options.batch}, {options.repeat} turns; milliseconds: median [quartiles]")
    chosen = options.only and {int(c) for c in options.only.split(",")}
    for size in SIZES:
        if not chosen or size[0] in chosen:
            run_size(size, options.batch, options.repeat, bandwidth, peak)
    run_filters(options.repeat)
    return 0


def run_size(size: tuple[int, ...], batch: int, repeat: int, bandwidth: float, peak: float) -> None:
    """Time forward with the mask's making, forward, and forward and backward, of one size."""
    channels, outputs, side, kernel, dilation = size
    print(f"\nC {channels} -> {outputs}, {side}x{side}, {kernel}x{kernel}, dilation {dilation}")
    taps = channels * kernel * kernel
    flops = 2 * batch * outputs * taps * side * side
    moved = 4 * (batch * side * side * (channels + outputs + kernel * kernel) + outputs * taps)
    floor = 1e3 * max(flops / peak, moved / bandwidth)
    print(f"  floor of the forward pass: {floor:.3f} ms")
    for task, contenders in tasks(size, batch).items():
        print(f"  {task}")
        timings = take_turns(contenders, repeat)
        ours = timings["ours"].median
        for name, t in timings.items():
            print(
                f"    {name:16} {t.median:9.3f} [{t.low:.3f}, {t.high:.3f}]  "
                f"x{t.median / ours:5.2f} ours  x{t.median / floor:6.1f} floor  "
                f"{t.peak / 2**20:7.0f} MiB"
            )


def tasks(size: tuple[int, ...], batch: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """The contenders of each task, as functions without arguments on shared arrays."""
    import cupy
    import torch
    from torch.nn import functional

    from segaware_np.ops.distance import distance_forward
    from segaware_np.ops.mask import exponential_mask_forward
    from segaware_np.ops.segaware_convolution import (
        segaware_convolution_backward,
        segaware_convolution_forward,
    )
    from segaware_np.window import Window

    channels, outputs, side, kernel, dilation = size
    window, pad = Window.same(kernel, dilation), dilation * (kernel // 2)
    random = cupy.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, dtype="float32")

    x, embedding = normal(batch, channels, side, side), normal(batch, EMBEDDING, side, side)
    weight, bias = normal(outputs, channels, kernel, kernel), normal(outputs)
    dy = normal(batch, outputs, side, side)
    mask = cupy.exp(-cupy.abs(normal(batch, kernel * kernel, side, side)))
    tx, te, tw, tb, tdy, tm = map(torch.from_dlpack, (x, embedding, weight, bias, dy, mask))

    def our_mask() -> Any:
        return exponential_mask_forward(distance_forward(embedding, window)[0], SCALE)[0]

    def ours(m: Any) -> Any:
        return segaware_convolution_forward(x, m, weight, bias, window=window)

    def our_both() -> Any:
        y, cache = ours(mask)
        return y, segaware_convolution_backward(dy, cache)

    def unfold(image: Any) -> Any:
        columns = functional.unfold(image, kernel, dilation, pad)
        return columns.view(batch, image.shape[1], kernel * kernel, side * side)

    def torch_mask(e: Any) -> Any:
        return torch.exp(-SCALE * (unfold(e) - e.flatten(2)[:, :, None]).abs().sum(1))

    def eager(x: Any, m: Any, w: Any) -> Any:
        columns = unfold(x) * m.reshape(batch, 1, kernel * kernel, side * side)
        return w.flatten(1) @ columns.flatten(1, 2) + tb[:, None]

    def shifted(x: Any, m: Any, w: Any) -> Any:
        """The mask commutes with the product over channels: no columns."""
        padded, reach = functional.pad(x, [pad] * 4), range(kernel)
        y = tb[:, None, None].expand(batch, outputs, side, side)
        for k, (i, j) in enumerate((i, j) for i in reach for j in reach):
            top, left = i * dilation, j * dilation
            part = padded[:, :, top : top + side, left : left + side]
            product = torch.einsum("oc,nchw->nohw", w[:, :, i, j], part)
            y = y + m.view(batch, -1, side, side)[:, k, None] * product
        return y

    def both(form: Callable) -> Callable:
        leaves = [t.clone().requires_grad_() for t in (tx, tm, tw)]

        def run() -> Any:
            y = form(*leaves)
            return torch.autograd.grad(y, leaves, tdy.reshape(y.shape))

        return run

    compiled, compiled_mask = torch.compile(eager), torch.compile(torch_mask)

    def plain() -> Any:
        return functional.conv2d(tx, tw, tb, padding=pad, dilation=dilation)

    have = torch.from_dlpack(ours(mask)[0]).flatten(2)
    torch.testing.assert_close(have, eager(tx, tm, tw), rtol=1e-2, atol=0.5)
    return {
        "mask from the embedding, and forward": {
            "ours": lambda: ours(our_mask()),
            "PyTorch eager": lambda: eager(tx, torch_mask(te), tw),
            "PyTorch compiled": lambda: compiled(tx, compiled_mask(te), tw),
            "PyTorch shifted": lambda: shifted(tx, torch_mask(te), tw),
            "cuDNN plain": plain,
        },
        "forward": {
            "ours": lambda: ours(mask),
            "PyTorch eager": lambda: eager(tx, tm, tw),
            "PyTorch compiled": lambda: compiled(tx, tm, tw),
            "PyTorch shifted": lambda: shifted(tx, tm, tw),
            "cuDNN plain": plain,
        },
        "forward and backward": {
            "ours": our_both,
            "PyTorch eager": both(eager),
            "PyTorch compiled": both(compiled),
            "PyTorch shifted": both(shifted),
        },
    }


def run_filters(repeat: int) -> None:
    """Time the mean-field CRF of the published networks on one image."""
    import cupy

    from segaware_np.ops.mean_field import mean_field_forward
    from segaware_np.window import Window

    random = cupy.random.default_rng(0)

    def normal(channels: int) -> Any:
        return random.standard_normal((1, channels, 321, 321), dtype="float32")

    unary, f1, f2, eye = normal(21), normal(EMBEDDING), normal(2), cupy.eye(21, dtype="float32")
    options = {"window1": Window.same(13, 9), "window2": Window.same(5), "iterations": 2}

    def ours() -> Any:
        return mean_field_forward(unary, unary, f1, f2, eye, eye, -eye, **options)[0]

    t = take_turns({"ours": ours}, repeat)["ours"]
    print(f"\nCRF, 21 classes, 321x321, 13x13 dilation 9 and 5x5, 2 iterations\n    ours "
          f"{t.median:.3f} [{t.low:.3f}, {t.high:.3f}]  {t.peak / 2**20:.0f} MiB")  # fmt: skip


def take_turns(contenders: dict[str, Callable[[], Any]], repeat: int) -> dict[str, Timing]:
    """Time each contender once a turn, so that a drifting clock frequency hits all alike."""
    peaks = {name: peak_memory(run) for name, run in contenders.items()}
    for run in contenders.values():
        run()  # compilers and allocators are warm from here on
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, run in contenders.items():
            times[name].append(milliseconds(run))
    found = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        found[name] = Timing(median, low, high, peaks[name])
    return found


def milliseconds(run: Callable[[], Any]) -> float:
    """Time one call on the device. CuPy and PyTorch share its default stream."""
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    cupy.cuda.Device().synchronize()
    start.record()
    kept = run()
    stop.record()
    stop.synchronize()
    del kept
    return float(cupy.cuda.get_elapsed_time(start, stop))


def peak_memory(run: Callable[[], Any]) -> int:
    """Bytes that a call takes at its peak beyond what is held before it."""
    import cupy
    import torch

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    torch.cuda.reset_peak_memory_stats()
    before = pool.total_bytes(), torch.cuda.memory_allocated()
    kept = run()
    torch.cuda.synchronize()
    after = pool.total_bytes(), torch.cuda.max_memory_allocated()
    del kept
    return sum(after) - sum(before)


def measure_copy(cupy: Any, repeat: int) -> float:
    """Bytes a second that a copy reads and writes."""
    source = cupy.zeros(1 << 28, "float32")
    target = cupy.empty_like(source)
    times = [milliseconds(lambda: cupy.copyto(target, source)) for _ in range(repeat)]
    return 2 * source.nbytes / (statistics.median(times) / 1e3)


def measure_product(cupy: Any, repeat: int) -> float:
    """Operations a second of a large matrix product."""
    n = 8192
    a = cupy.zeros((n, n), "float32")
    times = [milliseconds(lambda: a @ a) for _ in range(repeat)]
    return 2 * n**3 / (statistics.median(times) / 1e3)


if __name__ == "__main__":
    sys.exit(main())
