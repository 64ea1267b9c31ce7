"""Segmentation-aware convolution on a GPU: this library, PyTorch, and cuDNN's plain convolution.

    python benchmarks/gpu.py [--tf32] [--batch 8] [--turns 30] [--only 64,128] [--json times.json]
    python benchmarks/gpu.py --all [--json gpu.json]

All contenders of a case take turns within one run, on the same arrays (shared by DLPack) and in
the same stream. A line gives milliseconds (median and quartiles), their ratio to ours and to the
floor, and the memory at the peak beyond the inputs. The floor is the larger of the bytes that must
move over the measured bandwidth of a copy, and the operations over the measured rate of a matrix
product. Needs CuPy, PyTorch and a GPU.

With --all come first the tests marked gpu, then compute-sanitizer if there is one, then these times
in float32 and in TF32 (10 turns): less than ten minutes. The results go to one JSON file and, as a
table in Markdown, to a file of the same name beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import gpu_all
import numpy as np
from contenders import Case, Filters, our_filters, ours, pytorch, torch_filters

from segaware_np.files import atomic_write, check_writable
from segaware_np.testing.cuda import real_cupy

# Channels in and out, side of the image, kernel, dilation.
SIZES = (
    (64, 64, 128, 3, 1),
    (64, 64, 321, 3, 1),
    (128, 128, 161, 3, 1),
    (256, 256, 81, 3, 1),
    (512, 512, 41, 3, 2),
    (16, 16, 64, 5, 1),
    (3, 64, 321, 3, 1),
)
PLAIN = {"conv2d": "cuDNN plain", "conv2d, channels last": "cuDNN plain, NHWC"}
WARM_UP = 3
Run = Callable[[], Any]


class Timing(NamedTuple):
    """Milliseconds, and bytes at the peak beyond the inputs."""

    median: float
    low: float
    high: float
    peak: int


class Device:
    """What is measured with, and of the card itself.

    Before each measured call stands a copy of `copied` numbers. It empties the card's cache, and
    gives the host a head start: what is measured is the work of the card, without the gaps in
    which it waits for its next order.
    """

    def __init__(self, turns: int, copied: int = 1 << 28, side: int = 8192) -> None:
        import cupy

        self.cupy, self.turns = cupy, turns
        self.source, self.target = cupy.zeros(copied, "f"), cupy.zeros(copied, "f")
        # Random numbers: of zeros a card multiplies more in a second, as it stays cooler.
        matrix = cupy.asarray(np.random.default_rng(0).standard_normal((side, side), "f"))
        product = self.measure({"product": lambda: matrix @ matrix})["product"]
        copy = self.measure({"copy": self.copy})["copy"]
        self.rate = 2 * side**3 / (product.median / 1e3)
        self.bandwidth = 2 * self.source.nbytes / (copy.median / 1e3)

    def copy(self) -> None:
        self.cupy.copyto(self.target, self.source)

    def measure(self, contenders: Mapping[str, Run]) -> dict[str, Timing]:
        """Time each contender once a turn, so that a drifting clock frequency hits all alike.

        A rival that fails (out of memory, most likely) says so and is left out.
        """
        peaks = {}
        for name, run in contenders.items():
            try:
                for _ in range(WARM_UP):  # compilers, autotuners and allocators
                    run()
                peaks[name] = self.peak(run)
            except Exception as error:
                if name == "ours":
                    raise
                print(f"    {name}: {type(error).__name__}: {str(error).splitlines()[0]}")
        times: dict[str, list[float]] = {name: [] for name in peaks}
        for _ in range(self.turns):
            for name in peaks:
                times[name].append(self.milliseconds(contenders[name]))
        found = {}
        for name, values in times.items():
            low, median, high = statistics.quantiles(values, n=4, method="inclusive")
            found[name] = Timing(median, low, high, peaks[name])
        return found

    def milliseconds(self, run: Run) -> float:
        """Time one call on the card. CuPy and PyTorch share its default stream."""
        cuda = self.cupy.cuda
        start, stop = cuda.Event(), cuda.Event()
        self.copy()
        start.record()
        kept = run()
        stop.record()
        stop.synchronize()
        del kept
        return float(cuda.get_elapsed_time(start, stop))

    def peak(self, run: Run) -> int:
        """Bytes that a call takes at its peak beyond what is held before it, in both libraries."""
        torch = sys.modules.get("torch")
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()  # from here on its size is what is needed at once
        before = pool.total_bytes()
        if torch is not None and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before += torch.cuda.memory_allocated()
        kept = run()
        self.cupy.cuda.Device().synchronize()
        after = pool.total_bytes()
        if torch is not None and torch.cuda.is_available():
            after += torch.cuda.max_memory_allocated()
        del kept
        return after - before


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tf32", action="store_true", help="TF32 matrix products, on all sides")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--only", help="input channels of the cases to run, such as 64,128")
    parser.add_argument("--json", type=Path, help="where the results go, too")
    parser.add_argument("--all", action="store_true", help="tests, compute-sanitizer, all times")
    options = parser.parse_args()
    others = {*vars(options)} - {"all", "json"}
    if options.all and any(vars(options)[o] != parser.get_default(o) for o in others):
        parser.error("--all: expected no other option than --json")
    if options.json:
        check_writable(options.json)
    return run_all(options.json or Path("gpu.json")) if options.all else run_times(options)


def run_all(target: Path) -> int:
    cupy, line = real_cupy()
    if cupy is None:
        print(f"benchmarks/gpu.py needs a GPU: {line}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        return gpu_all.everything(cupy, gpu_all.stages(Path(folder)), target)


def run_times(options: argparse.Namespace) -> int:
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
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = options.tf32
    torch.backends.cudnn.benchmark = True  # the fastest of its algorithms

    device = Device(options.turns)
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{name}; CuPy {cupy.__version__}, PyTorch {torch.__version__}; TF32 {options.tf32}")
    print(f"copy {device.bandwidth / 1e9:.0f} GB/s, product {device.rate / 1e12:.1f} TFLOP/s")
    print(f"batch {options.batch}, {options.turns} turns; milliseconds: median [quartiles]")
    chosen = options.only and {int(c) for c in options.only.split(",")}
    cases: list[Case | Filters] = [Case(options.batch, *size) for size in SIZES]
    rows: list[dict[str, Any]] = []
    for case in [*cases, Filters()]:
        if not chosen or (isinstance(case, Case) and case.channels in chosen):
            rows += compare(device, case)
            torch.cuda.empty_cache()
            if options.json:  # after each case: what is stopped later leaves these
                with atomic_write(options.json) as file:
                    file.write(json.dumps(rows, indent=1).encode())
    return 0


def compare(device: Device, case: Case | Filters) -> list[dict[str, Any]]:
    """Check that the contenders of a case agree, time them, print and return what came out."""
    import torch

    convolution = isinstance(case, Case)
    inputs = {name: device.cupy.asarray(a) for name, a in case.inputs().items()}
    tensors = {name: torch.from_dlpack(a) for name, a in inputs.items()}
    mine = ours(case, inputs) if convolution else our_filters(case, inputs)
    theirs = pytorch(case, tensors) if convolution else torch_filters(case, tensors)
    rows = []
    print(f"\n{case}")
    for task, run in mine.items():
        operations, moved = work(case)[task]
        floor = 1e3 * max(operations / device.rate, moved / device.bandwidth)
        print(f"  {task}; floor {floor:.3f}")
        # Plain convolution stands beside the tasks with a mask, too: what the masks cost.
        plain = task.removeprefix("with mask, ")
        rivals = {
            PLAIN.get(form, f"PyTorch {form}"): tasks[task if task in tasks else plain]
            for form, tasks in theirs.items()
        }
        error = difference(run(), next(iter(theirs.values()))[task]())
        print(f"    largest difference from PyTorch {error:.1e} of the largest")
        if not error < 2e-2:  # more than TF32 explains
            raise ValueError(f"{case}, {task}: the contenders do not compute the same")
        timings = device.measure({"ours": run, **rivals})
        for name, t in timings.items():
            ours_takes = timings["ours"].median
            ratios = {"times_ours": t.median / ours_takes, "times_floor": t.median / floor}
            about = {"case": str(case), "task": task, "contender": name}
            rows.append({**about, **t._asdict(), **ratios})
            print(
                f"    {name:26} {t.median:9.3f} [{t.low:.3f}, {t.high:.3f}]  "
                f"x{ratios['times_ours']:6.2f} ours  x{ratios['times_floor']:6.1f} floor  "
                f"{t.peak / 2**20:7.0f} MiB"
            )
    return rows


def difference(mine: Any, theirs: Any) -> float:
    """The largest difference between results, relative to the largest entry of each array.

    Ours are an array, or a tuple that starts with one a task; PyTorch's are in the same order.
    """
    import torch

    if isinstance(theirs, torch.Tensor):
        mine, theirs = [mine[0] if isinstance(mine, tuple) else mine], [theirs]
    worst = 0.0
    for a, b in zip(mine, theirs, strict=True):
        have = torch.from_dlpack(a).reshape(b.shape)
        worst = max(worst, float((have - b).abs().max() / b.abs().max()))
    return worst


def work(case: Case | Filters) -> dict[str, tuple[float, float]]:
    """Operations, and bytes if every input is read and every result written once, of each task."""
    if isinstance(case, Filters):
        plane, features = case.side**2, 5
        wide, near = 2 * case.kernel**2 * plane, 2 * 25 * plane
        read, written = 4 * plane * (case.classes + features), 4 * plane * case.classes
        averages = case.iterations * case.classes * (wide + near)
        return {
            "bilateral filter": (wide * (case.classes + features), read + written),
            "mean field": (averages + wide * features + near * 2, read + written),
        }
    sizes = {name: 4 * prod(shape) for name, shape in case.shapes().items()}
    image = sizes["x"] + sizes["weight"] + sizes["dy"]  # y is as large as dy
    given, made = image + sizes["mask"], image + sizes["embedding"]
    return {
        "forward": (case.flops, given),
        "forward + backward": (3 * case.flops, 2 * given),
        "with mask, forward": (case.flops, made),
        "with mask, forward + backward": (3 * case.flops, 2 * made),
    }


if __name__ == "__main__":
    sys.exit(main())
