"""The GPU path on real CuPy, whose driver is pretended: tests of other files, run once more."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from pretended_gpu.environment import NoEnvironmentError, python

TESTS = Path(__file__).parent
LINUX = platform.system() == "Linux" and platform.machine() == "x86_64"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LINUX, reason="the driver is pretended for Linux on x86-64"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("nm")), reason="no gcc or nm"),
]
BREAKS = """
import cupy
import pytest

FAULTY = 'extern "C" __global__ void faulty(float* x) { x[threadIdx.x + 1] = 1; }'


def test_write_outside_an_array():
    cupy.RawKernel(FAULTY, "faulty")((1,), (4,), (cupy.zeros(4, "f"),))


def test_array_of_another_device():
    with cupy.cuda.Device(1):
        x = cupy.zeros(4, "f")
    cupy.RawKernel(FAULTY.replace("+ 1", ""), "faulty")((1,), (4,), (x,))


def test_two_devices():
    assert cupy.cuda.runtime.getDeviceCount() == 2
"""


def run(cupy: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    try:
        interpreter = python(cupy)
    except NoEnvironmentError as error:
        pytest.skip(f"pip cannot install CuPy {cupy}: {error}")
    plugins = ["-p", "no:cacheprovider", "-p", "pretended_gpu.plugin"]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.run(
        [interpreter, "-m", "pytest", "-q", *plugins, *arguments],
        cwd=TESTS.parent, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def passes(capsys, cupy: str, *arguments: str) -> None:
    done = run(cupy, *arguments)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    counted = next(line for line in lines if line.startswith(f"CuPy {cupy}."))
    assert "0 launches failed; functions missing: none" in counted
    with capsys.disabled():
        print(f"\n{counted}\n{lines[-1]}", end="")


@pytest.mark.parametrize("cupy", ["13", "14"])
def test_what_is_wrong_fails(tmp_path, cupy: str) -> None:
    file = tmp_path / "test_breaks.py"
    file.write_text(BREAKS)
    done = run(cupy, file)
    assert "2 failed, 1 passed" in done.stdout
    assert done.stdout.count("is not this device's memory: st.global") >= 2


def test_short_run_of_the_gpu_path_on_cupy(capsys) -> None:
    chosen = "convolution or local or training_step_on_another"
    passes(capsys, "14", "tests/test_gpu_path.py", "tests/test_gpu_machine.py", "-k", chosen)


@pytest.mark.parametrize("cupy", ["13", "14"])
def test_gpu_path_on_cupy(capsys, cupy: str) -> None:
    names = ("kernels_every", "kernels_exact", "gpu_path", "gpu_machine")
    passes(capsys, cupy, *(f"tests/test_{name}.py" for name in names))
