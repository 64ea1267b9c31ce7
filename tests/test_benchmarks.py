"""What benchmarks/gpu.py times, in small: our side as on a GPU, PyTorch's on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

pytest_plugins = "segaware_np.testing.cuda.plugin"

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("benchmarks/ is not here", allow_module_level=True)
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FOLDER))
    import contenders
    import gpu
    import gpu_all
    import small

CASES = (
    contenders.Case(2, 4, 5, 9),
    contenders.Case(1, 3, 2, 8, 5),
    contenders.Filters(9, 3, 3, 2),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_our_side_runs_and_is_timed_on_the_gpu(cupy, case) -> None:
    device = gpu.Device(turns=2, copied=64, side=8)
    assert device.rate > 0 and device.bandwidth > 0
    make = contenders.ours if isinstance(case, contenders.Case) else contenders.our_filters
    tasks = make(case, {name: cupy.asarray(a) for name, a in case.inputs().items()})
    assert tasks.keys() == gpu.work(case).keys()
    for task, run in tasks.items():
        timing = device.measure({"ours": run})["ours"]
        assert 0 < timing.low <= timing.median <= timing.high, task


def test_a_rival_that_fails_is_named_and_left_out(cupy, capsys) -> None:
    device = gpu.Device(turns=2, copied=64, side=8)

    def fail() -> None:
        raise MemoryError("too large\nby far")

    assert list(device.measure({"ours": device.copy, "theirs": fail})) == ["ours"]
    assert "theirs: MemoryError: too large\n" in capsys.readouterr().out
    with pytest.raises(MemoryError):
        device.measure({"ours": fail})


class Host(gpu.Device):
    """The CPU in a GPU's place, where both libraries share memory, too."""

    def __init__(self) -> None:
        self.cupy, self.turns, self.rate, self.bandwidth = np, 2, 1e9, 1e9

    def milliseconds(self, run) -> float:
        start = perf_counter()
        run()
        return 1e3 * (perf_counter() - start)

    def peak(self, run) -> int:
        return 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_contenders_compute_the_same(monkeypatch, capsys, case) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(torch, "compile", lambda form, **_: form)  # takes minutes
    rows = gpu.compare(Host(), case)
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[4]) for line in lines if "largest difference" in line]
    assert len(errors) == len(gpu.work(case)) and max(errors) < 1e-5
    assert not [line for line in lines if "Error" in line]
    rivals = {line.split("  ")[2] for line in lines if "floor  " in line}
    assert {row["contender"] for row in rows} == rivals
    assert {row["task"] for row in rows} == gpu.work(case).keys()
    assert all(row["times_ours"] == 1 for row in rows if row["contender"] == "ours")
    plain = set(gpu.PLAIN.values()) if isinstance(case, contenders.Case) else set()
    assert rivals >= {"ours", "PyTorch compiled"} | plain


def test_contenders_that_differ_are_not_timed(monkeypatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    form = contenders.pytorch
    monkeypatch.setattr(
        gpu, "pytorch", lambda case, tensors: form(case, {**tensors, "x": -tensors["x"]})
    )
    with pytest.raises(ValueError, match="forward: the contenders do not compute the same"):
        gpu.compare(Host(), CASES[0])


def test_every_form_of_pytorch_gives_the_output_of_ours() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    case = CASES[0]
    inputs = case.inputs()
    tensors = {name: torch.from_numpy(a) for name, a in inputs.items()}
    mine = contenders.ours(case, inputs)
    for form, tasks in contenders.pytorch(case, tensors).items():
        if form in gpu.PLAIN or "compiled" in form:
            continue
        for task, run in tasks.items():
            assert gpu.difference(mine[task](), run()) < 1e-5, (form, task)


def test_caffes_benchmark_finds_the_published_networks(tmp_path) -> None:
    script = [sys.executable, str(FOLDER / "caffe.py"), "--rounds", "1", "--only", "no network"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert done.stdout.startswith(b"| network | layers |")


def test_benchmark_says_what_is_missing(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu.main() == 1
    assert "needs CuPy and PyTorch" in capsys.readouterr().err


def test_all_says_that_there_is_no_gpu_and_writes_nothing(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--all", "--json", str(tmp_path / "gpu.json")])
    monkeypatch.setattr(gpu, "real_cupy", lambda: (None, "no driver"))
    assert gpu.main() == 1
    assert capsys.readouterr().err == "benchmarks/gpu.py needs a GPU: no driver\n"
    assert not [*tmp_path.iterdir()]


def test_all_refuses_the_options_of_one_run(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--all", "--tf32"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--all: expected no other option than --json" in capsys.readouterr().err


def python(name: str, code: str, limit: float = 60, times: Path | None = None) -> gpu_all.Stage:
    return gpu_all.Stage(name, [sys.executable, "-c", code], limit, times)


def test_a_stage_tells_how_it_ended() -> None:
    results = [
        gpu_all.run(stage)["result"]
        for stage in (
            python("good", "pass"),
            python("bad", "raise SystemExit(5)"),
            python("stuck", "import time; print('begun', flush=True); time.sleep(600)", limit=0.5),
            gpu_all.Stage("none", ["no-such-program"], 60),
        )
    ]
    assert results == ["passed", "failed", "stopped", "not installed"]


def test_all_stages_come_into_one_file_and_one_table(cupy, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(gpu_all, "machine", lambda cupy: {"device": "a card", "date": "2000-01-01"})
    row = {"case": "8x3", "task": "forward", "contender": "ours", "median": 0.25, "low": 0.2}
    row |= {"high": 0.3, "peak": 3 << 20, "times_ours": 1.0, "times_floor": 2.5}
    times, target = tmp_path / "times.json", tmp_path / "gpu.json"
    times.write_text(json.dumps([row]))
    todo = [
        python("tests", "print('7 passed'); print()"),
        python("times", "import time; time.sleep(600)", limit=0.5, times=times),
    ]
    assert gpu_all.everything(cupy, todo[:1], target) == 0
    assert gpu_all.everything(cupy, todo, target) == 1  # stopped, but what it measured is kept
    stages = json.loads(target.read_text())["stages"]
    assert [(s["result"], s["last_line"], s["times"]) for s in stages] == [
        ("passed", "7 passed", []),
        ("stopped", "", [row]),
    ]
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert lines[0] == "device a card, date 2000-01-01"
    assert lines[-1] == "| 8x3, forward | ours | 0.250 | 1.00 | 2.5 | 3 |"
    assert "**tests**: passed" in lines[-3] and "| 7 passed |" in lines[-3]


def test_all_takes_less_than_ten_minutes_and_asks_for_what_is_there(tmp_path) -> None:
    todo = gpu_all.stages(tmp_path)
    assert sum(stage.limit for stage in todo) < 600
    named = [word for stage in todo for word in stage.command if word.endswith(".py")]
    assert len(named) == 3 and all((FOLDER.parent / name).is_file() for name in named)


def test_the_reference_for_small_images_computes_the_same_and_is_timed() -> None:
    """Equal results are asserted where the calls are made."""
    times = small.measure(small.contenders(), rounds=2)
    assert {*small.GOALS, "reference forward", "reference backward"} == times.keys()
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.values())
