"""The CPU path against PyTorch, and how its cost grows.

    python benchmarks/cpu.py [--threads 2] [--rounds 7] [--only 64] [--output docs]

Contenders take turns within one run, each in a process of its own that sleeps while others work.
Writes docs/performance.md and docs/performance.png. Needs matplotlib and threadpoolctl; rivals are
left out where PyTorch is not installed, and the profile of a training step without py-spy.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Case, Filters, serve
from networks import STEPS, TASK, Step, profile

from segaware_np.cpu.threads import get_num_threads

CASES = (
    Case(1, 64, 64, 128),
    Case(1, 64, 64, 321),
    Case(1, 128, 128, 161),
    Case(1, 256, 256, 81),
    Case(1, 512, 512, 41, 3, 2),
    Case(4, 16, 16, 64, 5),
    Case(1, 3, 64, 321),
)
# Name of a contender: its process, and the form that the process knows.
CONTENDERS = {
    "ours": ("ours", ""),
    "conv2d": ("torch", "conv2d"),
    "conv2d, channels last": ("torch", "conv2d, channels last"),
    "composition": ("torch", "composition"),
    "composition, THP": ("torch THP", "composition"),
    "compiled": ("torch", "compiled"),
    "unfold, 1x1 conv2d": ("torch", "unfold, 1x1 conv2d"),
    "unfold, 1x1 conv2d, THP": ("torch THP", "unfold, 1x1 conv2d"),
}
UNMASKED = ("conv2d", "conv2d, channels last")
TASKS = (
    "forward",
    "forward + backward",
    "with mask, forward",
    "with mask, forward + backward",
)
# Every freed block goes back to the system, so that resident memory is memory in use.
NO_HOARDING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
ENVIRONMENT = {"ours": {}, "torch": {}, "torch THP": {"THP_MEM_ALLOC_ENABLE": "1"}}
PAUSE = 0.15  # seconds, for another library's threads to stop spinning
SWEEPS = {
    "pixels": [Case(1, 32, 32, side) for side in (32, 64, 128, 256, 512)],
    "channels": [Case(1, c, c, 96) for c in (8, 16, 32, 64, 128, 256)],
    "offsets": [Case(1, 32, 32, 96, k) for k in (1, 3, 5, 7, 9)],
    "batch": [Case(n, 32, 32, 64) for n in (1, 2, 4, 8, 16)],
}


class Worker:
    """A process that runs one library's tasks."""

    def __init__(self, library: str, threads: int, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        saved = dict(os.environ)
        os.environ.update(environment)  # read by the allocator before Python starts
        try:
            self._process = context.Process(
                target=serve, args=(theirs, library.split()[0], threads), daemon=True
            )
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(saved)
        theirs.close()

    def ask(self, *request: Any) -> float:
        self._connection.send(request)
        return self._connection.recv()

    def stop(self) -> None:
        self._connection.send(None)
        self._process.join()


@contextmanager
def workers(libraries: Iterable[str], threads: int, **environment: str) -> Iterator[dict]:
    """One worker for each library, ended with the block."""
    started = {
        library: Worker(library, threads, {**ENVIRONMENT[library], **environment})
        for library in libraries
    }
    try:
        yield started
    finally:
        for worker in started.values():
            worker.stop()


def take_turns(
    running: dict[str, Worker],
    case: Case | Filters | Step,
    task: str,
    names: Sequence[str],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of every contender in every round; the first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name in names:
            library, form = CONTENDERS[name]
            seconds[name].append(running[library].ask(case, form, task, "time"))
            time.sleep(PAUSE)
    return {name: values[1:] for name, values in seconds.items()}


def machine(threads: int) -> tuple[list[str], float]:
    """Lines on the machine and its BLAS, and the GFLOP/s of a large matrix product."""
    from threadpoolctl import threadpool_info, threadpool_limits

    a, b = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype="float32")
    out, large = np.empty_like(a), np.ones(1 << 26, "float32")
    copy = np.empty_like(large)
    with threadpool_limits(threads):
        product = min(_seconds(lambda: np.matmul(a, b, out=out)) for _ in range(20))
    copied = min(_seconds(lambda: np.copyto(copy, large)) for _ in range(10))
    peak = 2 * 2048**3 / product / 1e9
    blas = [
        f"{library['internal_api']} {library['version']} ({library['architecture']})"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    held = [f"`{name}={os.environ[name]}`" for name in sorted(os.environ) if "BLAS" in name]
    return [
        f"* {_processor()}, {threads} threads; Python {platform.python_version()}, "
        f"NumPy {np.__version__}",
        f"* BLAS: {', '.join(blas)}; matrix product {peak:.0f} GFLOP/s, "
        f"copy {8 * large.size / copied / 1e9:.1f} GB/s on one thread",
        f"* Environment variables that may hold BLAS back: {', '.join(held) or 'none'}",
    ], peak


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def compare(
    running: dict[str, Worker], cases: Sequence[Case], rounds: int, peak: float
) -> Iterator[str]:
    """What ours costs against a plain convolution and saves against the others; all times."""
    names = [n for n in CONTENDERS if CONTENDERS[n][0] in running]
    measured: dict[tuple[str, Case], dict[str, list[float]]] = {}
    for task in TASKS:
        masked = [n for n in names if task in TASKS[:2] or n not in UNMASKED]
        for case in cases:
            seconds = take_turns(running, case, task, masked, rounds)
            measured[task, case] = seconds
            print(
                f"{task}: {case}:", *(f"  {n}: {_times(s)}" for n, s in seconds.items()), sep="\n"
            )
    if len(names) > 1:
        yield from _in_short(measured, cases)
    for task in TASKS:
        columns = list(measured[task, cases[0]])
        yield f"\n## {task.capitalize()}\n\nMilliseconds: minimum (median).\n"
        yield from _row(["", "product alone", *columns])
        yield from _row(["---"] * (len(columns) + 2))
        for case in cases:
            floor = 1e-6 * (3 if "backward" in task else 1) * case.flops / peak
            yield from _row(
                [str(case), f"{floor:.1f}", *map(_times, measured[task, case].values())]
            )


def _in_short(
    measured: dict[tuple[str, Case], dict[str, list[float]]], cases: Sequence[Case]
) -> Iterator[str]:
    """Ratios of medians."""
    yield (
        "\n## In short\n\nRatios of medians. With the mask given, ours over PyTorch's plain "
        "`conv2d`, which knows no mask (the faster of two layouts). With the mask computed from an "
        "embedding of 64 channels, PyTorch's composition and its fastest form over ours.\n"
    )
    given = [f"ours / conv2d, {task}" for task in TASKS[:2]]
    computed = [
        f"{what} / ours, {task}" for task in TASKS[2:] for what in ("composition", "fastest")
    ]
    yield from _row(["", *given, *computed])
    yield from _row(["---"] * 7)
    for case in cases:
        cells = []
        for task in TASKS:
            median = {n: statistics.median(s) for n, s in measured[task, case].items()}
            ours = median.pop("ours")
            if task in TASKS[:2]:
                cells.append(f"{ours / min(median[n] for n in UNMASKED):.2f}")
            else:
                cells += [
                    f"{median['composition'] / ours:.1f}",
                    f"{min(median.values()) / ours:.1f}",
                ]
        yield from _row([str(case), *cells])


def _times(seconds: Sequence[float]) -> str:
    return f"{1e3 * min(seconds):.1f} ({1e3 * statistics.median(seconds):.1f})"


def memory(threads: int, cases: Sequence[Case], libraries: Sequence[str]) -> Iterator[str]:
    """Peak memory of each task beyond its inputs, in MB."""
    names = [n for n in ("ours", "conv2d", "composition") if CONTENDERS[n][0] in libraries]
    yield "\n## Peak memory\n\nMB beyond inputs and what was held before, results included.\n"
    tasks = (TASKS[0], TASKS[3])
    yield from _row(["", *(f"{name}, {task}" for task in tasks for name in names)])
    yield from _row(["---"] * (len(names) * 2 + 1))
    with workers(libraries, threads, **NO_HOARDING) as running:
        for case in cases:
            cells = []
            for task in tasks:
                for name in names:
                    library, form = CONTENDERS[name]
                    unmasked = TASKS[1] if "backward" in task else task
                    wanted = unmasked if name in UNMASKED else task
                    peak = running[library].ask(case, form, wanted, "memory")
                    cells.append(f"{peak / 1e6:.0f}")
            yield from _row([str(case), *cells])


def filters(running: dict[str, Worker], rounds: int) -> Iterator[str]:
    """The bilateral filter (NormConv with weights 1) and the mean-field CRF, as published."""
    CONTENDERS["unfold"] = ("torch", "unfold")
    yield "\n## Filters, 13x13 with dilation 9, 21 classes, 321²; mean field: 5 iterations\n"
    yield from _row(["", "ours, ms", "PyTorch unfold, ms"])
    yield from _row(["---"] * 3)
    for task in ("bilateral filter", "mean field"):
        names = ["ours", "unfold"] if "torch" in running else ["ours"]
        seconds = take_turns(running, Filters(), task, names, max(2, rounds // 2))
        cells = [*map(_times, seconds.values())]
        yield from _row([task, *cells, *[""] * (2 - len(cells))])


def training(running: dict[str, Worker], rounds: int, threads: int) -> Iterator[str]:
    """A training step of whole networks, and where the time of ours goes."""
    yield "\n## Training steps\n\nBatch of one image, published networks, SGD; milliseconds.\n"
    names = ["ours", "composition"] if "torch" in running else ["ours"]
    places = ("BLAS", "NumPy", "interpreter")
    yield from _row(["", *names, *(f"ours in {place}" for place in places)])
    yield from _row(["---"] * (1 + len(names) + len(places)))
    for step in STEPS:
        seconds = take_turns(running, step, TASK, names, max(3, rounds // 2))
        cells = [*map(_times, seconds.values())]
        shares = profile(step, threads) or {}
        cells += [f"{shares[p]:.0%}" if p in shares else "no py-spy" for p in places]
        yield from _row([str(step), *cells])
        print(f"{step}:", *cells, sep="\n  ")


def accuracy(case: Case) -> Iterator[str]:
    """Errors of float32 against float64 arithmetic on the same numbers."""
    from segaware_np import Window, ops

    window = Window.same(case.kernel, case.dilation)
    inputs = case.inputs()
    results = []
    for dtype in ("float32", "float64"):
        x, mask, weight, bias, dy, e = (array.astype(dtype) for array in inputs.values())
        y, cache = ops.segaware_convolution_forward(x, mask, weight, bias, window=window)
        d, to_embedding = ops.distance_forward(e, window)
        gradients = ops.segaware_convolution_backward(dy, cache)
        results.append([y, *gradients, d, ops.distance_backward(mask, to_embedding)])
    names = ("y", "dx", "dm", "dW", "db", "distance", "de")
    errors = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(*results, strict=True)]
    yield f"\n## Accuracy\n\nLargest error against float64, of the largest entry; {case}.\n"
    yield from _row(names)
    yield from _row(["---"] * len(names))
    yield from _row([f"{error:.1e}" for error in errors])


def growth(threads: int, rounds: int, picture: Path) -> Iterator[str]:
    """Time and memory against the size of the problem, with fitted exponents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SWEEPS), figsize=(14, 4), sharey=True)
    exponents: list[tuple[str, str, float, float]] = []
    with workers(["ours"], threads, **NO_HOARDING) as running:
        for axis, (name, cases) in zip(axes, SWEEPS.items(), strict=True):
            size = {
                "pixels": [c.side**2 for c in cases],
                "channels": [c.channels for c in cases],
                "offsets": [c.kernel**2 for c in cases],
                "batch": [c.batch for c in cases],
            }[name]
            for task in TASKS[:2]:
                times = [
                    1e3 * min(take_turns(running, case, task, ["ours"], rounds)["ours"])
                    for case in cases
                ]
                peaks = [running["ours"].ask(c, "", task, "memory") / 1e6 for c in cases]
                slopes = [_exponent(size, values) for values in (times, peaks)]
                exponents.append((name, task, slopes[0], slopes[1]))
                axis.loglog(size, times, "o-", label=f"{task}, ms: ^{slopes[0]:.2f}")
                axis.loglog(size, peaks, "s--", label=f"{task}, MB: ^{slopes[1]:.2f}")
            axis.set(xlabel=name, title=f"{cases[0]} ...")
            axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    yield "\n## How the cost grows\n\nExponents fitted to the upper half of each sweep.\n"
    yield f"![Time and memory against the size of the problem]({picture.name})\n"
    yield from _row(["against", "task", "time", "memory"])
    yield from _row(["---"] * 4)
    for name, task, in_time, in_memory in exponents:
        yield from _row([name, task, f"{in_time:.2f}", f"{in_memory:.2f}"])


def _exponent(size: Sequence[float], values: Sequence[float]) -> float:
    half = len(size) // 2
    logs = np.log(size[half:]), np.log(np.maximum(values[half:], 1e-3))
    return float(np.polyfit(*logs, 1)[0])


def _row(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", type=int, help="input channels of the cases to run")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    cases = [c for c in CASES if options.only in (None, c.channels)]
    rivals = importlib.util.find_spec("torch") is not None
    libraries = ["ours", *(["torch", "torch THP"] if rivals else [])]

    about, peak = machine(options.threads)
    lines = [
        "# Speed and memory on the CPU",
        "",
        f"Written by `python benchmarks/cpu.py` on {time.strftime('%Y-%m-%d')}.",
        "",
        *about,
    ]
    if rivals:
        from torch import __version__ as version

        lines.append(f"* PyTorch {version}; THP: with `THP_MEM_ALLOC_ENABLE=1`")
    print(*about, sep="\n")
    with workers(libraries, options.threads) as running:
        lines += compare(running, cases, options.rounds, peak)
        lines += filters(running, options.rounds)
        lines += training(running, options.rounds, options.threads)
    lines += memory(options.threads, cases, libraries)
    lines += accuracy(cases[0])
    lines += growth(options.threads, options.rounds, options.output / "performance.png")
    (options.output / "performance.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {options.output / 'performance.md'}")


if __name__ == "__main__":
    main()
