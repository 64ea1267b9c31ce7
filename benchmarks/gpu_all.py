"""All that only a card can tell, in one go: tests, memory checks, times. See `gpu.py --all`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segaware_np.files import atomic_write

ROOT = Path(__file__).parents[1]


class Stage(NamedTuple):
    """A command, and how many seconds it may take."""

    name: str
    command: Sequence[str]
    limit: float
    times: Path | None = None  # where it leaves what it measured


def stages(folder: Path) -> list[Stage]:
    """What runs on a card; with the limits it ends in less than ten minutes."""
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    sanitizer = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"]
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--turns", "10", "--json"]
    single, tf32 = folder / "float32.json", folder / "tf32.json"
    return [
        Stage("tests", tests, 180),
        Stage("compute-sanitizer", [*sanitizer, *tests, "tests/test_kernels_exact.py"], 120),
        Stage("times, float32", [*benchmark, str(single)], 140, single),
        Stage("times, TF32", [*benchmark, str(tf32), "--tf32"], 140, tf32),
    ]


def run(stage: Stage) -> dict[str, Any]:
    """Run a stage in the checkout: how it ended, its last line, its times as far as it came."""
    found: dict[str, Any] = {"stage": stage.name, "command": list(stage.command)}
    if shutil.which(stage.command[0]) is None:
        return {**found, "result": "not installed", "seconds": 0.0, "last_line": "", "times": []}
    start = time.monotonic()
    process = subprocess.Popen(
        stage.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what it has started can be stopped with it
    )
    try:
        output, _ = process.communicate(timeout=stage.limit)
        result = "failed" if process.returncode else "passed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        result = "stopped"
    print(output, flush=True)
    lines = [line for line in output.splitlines() if line.strip()]
    return {
        **found,
        "result": result,
        "seconds": round(time.monotonic() - start, 1),
        "last_line": lines[-1].strip() if lines else "",
        "times": left_by(stage),
    }


def left_by(stage: Stage) -> list[dict[str, Any]]:
    """The times that a stage has written, even if it was stopped."""
    if stage.times is None or not stage.times.exists():
        return []
    return json.loads(stage.times.read_text("utf-8"))


def machine(cupy: Any) -> dict[str, str]:
    """The card, the day, and the versions that count."""
    runtime = cupy.cuda.runtime
    return {
        "device": runtime.getDeviceProperties(0)["name"].decode(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "driver": str(runtime.driverGetVersion()),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def table(report: dict[str, Any]) -> str:
    """The report in Markdown: how each stage ended, and a row for each time."""
    about = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    lines = [about, "", "| what | contender | ms | times ours | times the floor | MiB |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for stage in report["stages"]:
        ended = f"**{stage['stage']}**: {stage['result']}, {stage['seconds']} s"
        lines.append(f"| {ended} | {stage['last_line']} | | | | |")
        lines += [
            f"| {t['case']}, {t['task']} | {t['contender']} | {t['median']:.3f} "
            f"| {t['times_ours']:.2f} | {t['times_floor']:.1f} | {t['peak'] / 2**20:.0f} |"
            for t in stage["times"]
        ]
    return "\n".join(lines) + "\n"


def everything(cupy: Any, todo: Sequence[Stage], target: Path) -> int:
    """Run all stages, write `target` and the table beside it; 1 if one of them did not pass."""
    report: dict[str, Any] = {"machine": machine(cupy), "stages": []}
    for stage in todo:
        print(f"\n== {stage.name}, at most {stage.limit:.0f} s", flush=True)
        report["stages"].append(run(stage))
        with atomic_write(target) as file:
            file.write(json.dumps(report, indent=1).encode())
        with atomic_write(target.with_suffix(".md")) as file:
            file.write(table(report).encode())
    print(table(report))
    return int(any(stage["result"] in ("failed", "stopped") for stage in report["stages"]))
