"""What fusion saves on networks that are spelt out in the authors' way, and what the largest needs.

    python benchmarks/caffe.py [--threads 2] [--rounds 3] [--only VGG]

Every measurement is taken in a process of its own, the contenders in turns, on random numbers.
Seconds are medians over the rounds: of the first pass, whose memory the system has yet to provide,
and of the one after it. Memory is the largest peak of a whole process, with Python, libraries and
parameters. Prints a table. Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segaware_np.caffe import Net
from segaware_np.cpu.threads import set_num_threads

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where the descriptions stand
from published import segaware_resnet101, segaware_vgg16


class Case(NamedTuple):
    """A network at its published width, and what is done with it."""

    network: str
    size: int
    backward: bool
    fuse: bool

    def __str__(self) -> str:
        done = "forward + backward" if self.backward else "forward"
        layers = "fused" if self.fuse else "layer by layer (`fuse=False`)"
        return f"{self.network}, {self.size}x{self.size}, {done} | {layers}"


class Cost(NamedTuple):
    first: float  # seconds
    second: float
    mib: float


CASES = (
    Case("VGG-16", 321, True, False),
    Case("VGG-16", 321, True, True),
    Case("ResNet-101 with CRF", 513, False, True),
)


def measure(case: Case, threads: int) -> Cost:
    """Run one case; in a process that has done nothing else."""
    set_num_threads(threads)
    describe = segaware_vgg16 if case.network == "VGG-16" else segaware_resnet101
    text = describe(size=case.size, train=case.backward)
    net = Net(text, phase="TRAIN" if case.backward else "TEST", fuse=case.fuse)
    for name, blobs in net.params.items():
        if name.startswith("bn"):  # the statistics of a trained network, as it were
            blobs[1].data[...] = blobs[2].data[...] = 1
    rng, side = np.random.default_rng(0), (case.size, case.size)
    inputs = {
        "data": rng.normal(0, 50, (1, 3, *side)).astype("f4"),
        "label": rng.integers(0, 21, (1, 1, *side)).astype("f4"),
    }
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        net.forward({name: inputs[name] for name in net.inputs})
        if case.backward:
            net.backward()
        seconds.append(time.perf_counter() - start)
    first, second = seconds
    return Cost(first, second, peak())


def peak() -> float:
    """Most memory that this process has had, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def in_turns(cases: list[Case], rounds: int, threads: int) -> dict[Case, Cost]:
    """Measure every case once a round; return median seconds and the largest peak."""
    found: dict[Case, list[Cost]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                found[case].append(process.apply(measure, (case, threads)))
    return {
        case: Cost(
            statistics.median(cost.first for cost in costs),
            statistics.median(cost.second for cost in costs),
            max(cost.mib for cost in costs),
        )
        for case, costs in found.items()
    }


def table(costs: dict[Case, Cost]) -> list[str]:
    """Lines of a Markdown table; a fused network is compared with its literal twin."""
    lines = ["| network | layers | first pass, s | second pass, s | peak MiB |",
             "|---|---|---|---|---|"]
    for case, cost in costs.items():
        literal = costs.get(case._replace(fuse=False))
        shares = [""] * len(cost)
        if literal and case.fuse:
            shares = [f" (1/{a / b:.1f})" for a, b in zip(literal, cost, strict=True)]
        cells = [f"{cost.first:.2f}", f"{cost.second:.2f}", f"{cost.mib:.0f}"]
        lines.append(" | ".join([f"| {case}", *map(str.__add__, cells, shares)]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="networks with this in their name")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.network]
    print("\n".join(table(in_turns(cases, options.rounds, options.threads))))


if __name__ == "__main__":
    main()
