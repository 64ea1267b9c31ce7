"""Kernels as they are compiled: their PTX is run, and the interpreter that runs it is tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ptx.launches import launch
from ptx.program import read

from segaware_np.testing.cuda import emulate, nvrtc

TESTS = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    try:
        nvrtc.compiler()
    except ImportError as error:
        pytest.skip(str(error))


def execute(body: str, *arrays: np.ndarray, threads: int = 32, blocks: int = 1) -> None:
    """Run ``kernel(const T0* a, T1* b, ...)`` of these arrays; the last may be written."""
    types = {"f": "float", "i": "int"}
    parameters = ", ".join(
        f"{'const ' if array is not arrays[-1] else ''}{types[array.dtype.char]}* {name}"
        for name, array in zip("abcdefgh", arrays, strict=False)
    )
    code = f"""#include <cuda_fp16.h>
        extern "C" __global__ void kernel({parameters}) {{ {body} }}"""
    program = read(nvrtc.compiler().build(code, ["kernel"], "90").ptx, "kernel")
    launch(program, blocks, threads, arrays, [array is arrays[-1] for array in arrays])


FAULTS = {
    "b[threadIdx.x] = a[threadIdx.x + 1];": "outside the arrays .* ld.global",
    "b[threadIdx.x + 1] = a[threadIdx.x];": "outside the arrays .* st.global",
    "b[threadIdx.x] = a[threadIdx.x << 20];": "far outside any array",
    "((float*)a)[threadIdx.x] = 1;": "outside the arrays that it may use so: st.global",
    "((float2*)(b + 1))[threadIdx.x % 8] = ((float2*)a)[1];": "misaligned: st.global.v2",
    "if (threadIdx.x < 9) return; __syncthreads(); b[0] = 1;": "a barrier that not all",
    "b[0] = 1; __trap();": "the kernel traps",
    "while (a[0] == 0) if (b[0] == 1) __syncthreads();": "no end after",
}


@pytest.mark.parametrize("body", FAULTS)
def test_fault_is_found(monkeypatch, body: str) -> None:
    monkeypatch.setattr("ptx.machine._INSTRUCTIONS", 1000)
    with pytest.raises(emulate.KernelError, match=FAULTS[body]):
        execute(body, np.zeros(32, "f"), np.zeros(32, "f"))


MULTIPLY = """
float sum[4] = {0, 0, 0, 0};
unsigned one = __float_as_uint(1.f);
if (threadIdx.x < LAST)
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
    "{%4, %4, %4, %4}, {%4, %4}, {%0, %1, %2, %3};"
    : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(one));
b[threadIdx.x] = sum[0] + sum[3];
"""


def test_tensor_cores_are_for_whole_warps() -> None:
    y = np.zeros(64, "f")
    execute(MULTIPLY.replace("LAST", "32"), np.zeros(1, "f"), y, threads=64)
    assert y.tolist() == [16.0] * 32 + [0.0] * 32
    with pytest.raises(emulate.KernelError, match="not all threads of a warp are at mma"):
        execute(MULTIPLY.replace("LAST", "40"), np.zeros(1, "f"), y, threads=64)


NUMBERS = np.array([7, -7, 9, -9, 2**31 - 1, -(2**31), 0, 5], np.int32)
DIVISORS = np.array([2, 2, -4, -4, 10, 10, 3, -5], np.int32)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ("a[i] / b[i]", [3, -3, -2, 2, 214748364, -214748364, 0, -1]),
        ("a[i] % b[i]", [1, -1, 1, -1, 7, -8, 0, 0]),
        ("(unsigned)a[i] / 3u", [2, 1431655763, 3, 1431655762, 715827882, 715827882, 0, 1]),
        ("__mulhi(a[i], 1 << 30)", [1, -2, 2, -3, 2**29 - 1, -(2**29), 0, 1]),
        ("(a[i] & 7) | (b[i] << 3)", [23, 17, -31, -25, 87, 80, 24, -35]),
        ("a[i] >> 1", [3, -4, 4, -5, 2**30 - 1, -(2**30), 0, 2]),
        ("(unsigned)a[i] >> 28", [0, 15, 0, 15, 7, 8, 0, 0]),
        ("(int)((long long)a[i] * a[i] >> 32)", [0, 0, 0, 0, 2**30 - 1, 2**30, 0, 0]),
        ("max(a[i], b[i]) - min(a[i], -3)", [10, 9, 12, 5, -(2**31) + 2, -(2**31) + 10, 6, 8]),
        ("(signed char)a[i] ^ b[i]", [5, -5, -11, 11, -11, 10, 3, -2]),
    ],
)
def test_integers_are_those_of_c(expression: str, want: list[int]) -> None:
    c = np.zeros(8, np.int32)
    execute(f"int i = threadIdx.x; c[i] = {expression};", NUMBERS, DIVISORS, c, threads=8)
    assert c.tolist() == want


TINY = float(np.float32(1e-39))  # denormal


@pytest.mark.parametrize(
    ("expression", "x", "want"),
    [
        ("a[0] * 2", TINY, 0.0),  # CuPy flushes denormals
        ("fabsf(a[0])", -np.inf, np.inf),
        ("fmaxf(a[0], 3)", np.nan, 3.0),
        ("a[0] != a[0]", np.nan, 1.0),
        ("!(a[0] <= 3)", np.nan, 1.0),
        ("(int)a[0]", -2.75, -2.0),
        ("rintf(a[0])", 2.5, 2.0),
        ("floorf(a[0])", -2.25, -3.0),
        ("__saturatef(a[0])", 1.5, 1.0),
        ("1 / a[0]", 3.0, float(np.float32(1) / np.float32(3))),
        ("(float)((double)a[0] / 3)", 1.0, float(np.float32(1 / 3))),
        ("fmaf(a[0], a[0], -1)", 1 + 2**-12, 2**-11 + 2**-24),  # one rounding, not two
        ("__half2float(__float2half(a[0]))", 2049.0, 2048.0),
    ],
)
def test_numbers_are_those_of_a_gpu(expression: str, x: float, want: float) -> None:
    y = np.zeros(1, "f")
    execute(f"b[0] = {expression};", np.full(1, x, "f"), y, threads=1)
    assert y[0] == np.float32(want)


def test_exp_comes_near() -> None:
    x = np.linspace(-20, 20, 32, dtype="f")
    y = np.zeros(32, "f")
    execute("b[threadIdx.x] = expf(a[threadIdx.x]);", x, y)
    np.testing.assert_allclose(y, np.exp(x.astype("d")), rtol=5e-7)


def test_branches_of_a_warp_meet_again_and_blocks_follow_each_other() -> None:
    y = np.zeros(96, np.int32)
    body = """
      __shared__ int seen[32];
      int i = threadIdx.x;
      seen[i] = 0;
      for (int j = 0; j < i; ++j) seen[i] += j % 3 == 0 ? 1 : 10;
      __syncthreads();
      a[blockIdx.x * 32 + i] = seen[31 - i] + 1000 * blockIdx.x;
    """
    execute(body, y, blocks=3)
    thread = [sum(1 if j % 3 == 0 else 10 for j in range(i)) for i in range(32)]
    assert y.tolist() == [n + 1000 * block for block in range(3) for n in thread[::-1]]


def run(architecture: str, *arguments: str) -> str:
    """Run tests of the GPU path with kernels as PTX, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "ptx.plugin",
         f"--ptx={architecture}", *arguments],
        cwd=TESTS.parent, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("PTX for sm_"))


def show(capsys, line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", end="")


@pytest.mark.slow
def test_short_run_of_the_gpu_path_on_compiled_code(capsys) -> None:
    chosen = "tensor_cores or more_channels or float16"
    show(capsys, run("90", "tests/test_kernels_exact.py", "-k", chosen))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["80", "90"])
def test_gpu_path_on_compiled_code(capsys, architecture: str) -> None:
    names = ("kernels_every", "kernels_exact", "gpu_path", "gpu_machine")
    line = run(architecture, *(f"tests/test_{name}.py" for name in names))
    show(capsys, line)
    assert "0 kernels not run" in line
