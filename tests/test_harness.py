"""The harness itself: every bug that is planted in a kernel is caught, and sound code is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from segaware_np.gpu import kernels
from segaware_np.gpu.kernels import window_struct
from segaware_np.ops import columns, masked_sum, segaware_convolution
from segaware_np.testing.cuda import emulate, fake_cupy, nvrtc, report
from segaware_np.window import Window

pytestmark = pytest.mark.skipif(emulate.compiler() is None, reason="no g++")

ROW_SUM = """
template <int BLOCK> __global__ void row_sum(const float* x, float* y, int* count, int columns) {
  __shared__ float part[BLOCK / 32];
  float sum = 0;
  for (int j = threadIdx.x; j < columns; j += BLOCK) sum += x[blockIdx.x * columns + j];
  for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (int w = 0; w < BLOCK / 32; ++w) total += part[w];
    y[blockIdx.x] = total;
    atomicAdd(count, 1);
  }
}
"""


def run_im2col(code: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One launch of the library's im2col: what it wrote, and what it should have."""
    x = np.random.default_rng(seed).standard_normal((2, 3, 4, 5)).astype("f")
    window = Window((2, 3), pad=(1, 0))
    want = columns.im2col(x, window)
    have = fake_cupy.empty(want.shape, "f")
    count = want.shape[3] * want.shape[4]
    arguments = (np.int64(1), np.int64(6), np.int32(0), np.int32(count))
    struct = window_struct(window, (4, 5))
    kernel = module(code, "im2col<float, false>")
    kernel((3,), (64,), (fake_cupy.asarray(x), np.uintp(0), have, struct, *arguments))
    return have.get(), want


def run_convolution(code: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One launch of the library's implicit convolution, of two tiles a block."""
    random = np.random.default_rng(seed)
    x, weight = random.standard_normal((2, 7, 9, 9)), random.standard_normal((3, 7, 3, 3))
    mask, window = random.uniform(size=(2, 9, 9, 9)), Window.same(3)
    want = segaware_convolution.segaware_convolution(x, mask, weight, None, window, 1)
    have = fake_cupy.empty(want.shape, "f")
    words = np.zeros((9, 8, 16))  # offsets; channels of a step; outputs of a tile
    words[:, :7, :3] = weight.reshape(3, 7, 9).transpose(2, 1, 0)
    arrays = (fake_cupy.asarray(np.ascontiguousarray(a, "f")) for a in (x, mask, words, weight))
    scalars = (np.int64(2), np.int32(1), np.int32(7), np.int32(3))
    arguments = (*arrays, np.uintp(0), have, window_struct(window, (9, 9)), *scalars)
    module(code, "convolution<float, 16, true>")((1,), (128,), arguments)
    return have.get(), want


def run_gradients(code: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One launch of the kernel whose warps meet in shared memory, of several tiles a block."""
    random, window = np.random.default_rng(seed), Window.same(3)
    dy, x = (random.standard_normal((2, 20, 5, 9)) for _ in range(2))
    mask, need = random.uniform(size=(2, 9, 5, 9)), frozenset({"x", "mask"})
    want = masked_sum.masked_sum_grad(dy, x, mask, window, need)
    arrays = (fake_cupy.asarray(np.ascontiguousarray(a, "f")) for a in (dy, x, mask))
    have = [fake_cupy.asarray(np.zeros(a.shape, "f")) for a in want]
    arguments = (*arrays, *have, window_struct(window, (5, 9)), np.int64(2), np.int32(20))
    module(code, "masked_columns_backward<float, true>")((2,), (96,), arguments)
    return tuple(
        np.concatenate([a.ravel() for a in pair]) for pair in ([h.get() for h in have], want)
    )


def run_row_sum(code: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One launch of a reduction with shuffles, shared memory and an atomic counter."""
    x = np.random.default_rng(seed).standard_normal((9, 70)).astype("f")
    have, count = fake_cupy.empty((9,), "f"), fake_cupy.asarray(np.zeros(1, "i"))
    module(code, "row_sum<64>")((9,), (64,), (fake_cupy.asarray(x), have, count, np.int32(70)))
    return np.append(have.get(), count.get()), np.append(x.sum(1), 9)


def run_huge_plane(code: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """im2col of one corner of three huge planes, all of it padding: nothing of them is read."""
    window = Window(1, stride=40000, pad=1)
    have = fake_cupy.empty((3, 1), "f")
    arguments = (np.int64(1), np.int64(3), np.int32(0), np.int32(1))
    struct = window_struct(window, (40000, 40000))
    kernel = module(code, "im2col<float, false>")
    kernel((1,), (32,), (fake_cupy.empty((1,), "f"), np.uintp(0), have, struct, *arguments))
    return have.get(), np.zeros((3, 1))


def module(code: str, name: str) -> fake_cupy.RawKernel:
    return fake_cupy.RawModule(code=code, name_expressions=(name,)).get_function(name)


def find(run: Callable, code: str, build: str | None, seeds: int = 12) -> str:
    """Run until something is found; return what, or nothing."""
    with fake_cupy.installed(build):
        for seed in range(seeds):
            try:
                have, want = run(code, seed)
            except emulate.KernelError as error:
                return str(error)
            if not np.allclose(have, want, rtol=1e-4, atol=1e-4):
                return "wrong result"
    return ""


IM2COL, CONVOLUTION = (kernels.source_code(name, "float") for name in ("columns", "convolution"))
SOUND = {"im2col": (run_im2col, IM2COL), "convolution": (run_convolution, CONVOLUTION)}
SOUND |= {"gradients": (run_gradients, IM2COL)}
SOUND |= {"row_sum": (run_row_sum, ROW_SUM), "huge_plane": (run_huge_plane, IM2COL)}


@dataclass
class Bug:
    """One change that breaks a kernel, the build that shows it, and what is then said."""

    where: str
    right: str
    wrong: str
    finding: str
    build: str | None = None

    @property
    def code(self) -> str:
        code = SOUND[self.where][1]
        assert self.right in code
        return code.replace(self.right, self.wrong, 1)


BUGS = {
    "off by one": Bug("im2col", "i < channels * row;", "i <= channels * row;", "written outside"),
    "write past the end": Bug(
        "im2col",
        "column[k * row] =",
        "column[(k + 1) * row] =",
        "written outside",
    ),
    "write before the start": Bug(
        "im2col", "column[k * row] =", "column[k * row - 3] =", "written outside"
    ),
    "read past the image": Bug(
        "im2col", "(unsigned)y < (unsigned)height", "y >= 0 && y <= height", "wrong result"
    ),
    "read past the image, sanitized": Bug(
        "im2col",
        "(unsigned)y < (unsigned)height",
        "y >= 0 && y <= height",
        "heap-buffer-overflow",
        "address",
    ),
    "wrong stride": Bug(
        "im2col", "p / out_width * stride_h", "p / out_height * stride_h", "wrong result"
    ),
    "int32 overflow": Bug(
        "huge_plane",
        "(n * channels + c) * window.pixels()",
        "(int)(n * channels + c) * window.pixels()",
        "signed integer overflow",
        "address",
    ),
    "missing barrier": Bug("convolution", "__syncthreads();\n      if", "if", "wrong result"),
    "missing barrier, sanitized": Bug(
        "convolution", "__syncthreads();\n      if", "if", "data race", "thread"
    ),
    "missing last barrier": Bug(
        "convolution", "__syncthreads();  // the next tile", "// the next tile", "wrong result"
    ),
    "one buffer where two are needed": Bug("gradients", "buffer ^= 1;", "", "wrong result"),
    "a share of one warp left out": Bug("gradients", "w < warps", "w < warps - 1", "wrong result"),
    "shared memory too small": Bug(
        "row_sum", "part[BLOCK / 32]", "part[BLOCK / 32 - 1]", "overflow|out of bounds", "address"
    ),
    "barrier in a branch": Bug(
        "row_sum",
        "__syncthreads();",
        "if (threadIdx.x % 32 == 0) __syncthreads();",
        "this thread ended while others wait",
    ),
    "early return before a barrier": Bug(
        "row_sum",
        "float sum = 0;",
        "float sum = 0; if (threadIdx.x > 40) return;",
        "wrong|ended|never",
    ),
    "shuffle without its lane": Bug(
        "row_sum", "0xffffffffu", "0x0000ffffu", "the calling lane is not in its own mask"
    ),
    "reads shared memory nobody wrote": Bug(
        "row_sum", "threadIdx.x % 32 == 0", "threadIdx.x == 0", "wrong result"
    ),
    "race between blocks": Bug(
        "row_sum", "atomicAdd(count, 1)", "*count += 1", "data race", "thread"
    ),
    "race between threads": Bug(
        "row_sum", "  if (threadIdx.x == 0) {", "  {", "wrong result|data race", "thread"
    ),
    "shared memory beyond the limit": Bug(
        "row_sum", "part[BLOCK / 32]", "part[BLOCK * 1024]", "more than 48 KiB"
    ),
}


@pytest.mark.parametrize("build", [None, *emulate.SANITIZERS])
@pytest.mark.parametrize("name", SOUND)
def test_sound_kernels_pass(name: str, build: str | None) -> None:
    skip_without(build)
    run, code = SOUND[name]
    assert find(run, code, build, seeds=3) == ""


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_caught(name: str) -> None:
    bug = BUGS[name]
    skip_without(bug.build)
    assert re.search(bug.finding, find(SOUND[bug.where][0], bug.code, bug.build))


def skip_without(build: str | None) -> None:
    if build and not emulate.has_sanitizer(build):
        pytest.skip(f"this g++ has no {build} sanitizer")


SCALE = """
extern "C" __global__ void scale(const float* x, float* y, float s, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * s;
}
"""
X, Y = (fake_cupy.asarray(np.ones(8, "f")) for _ in range(2))
S, N = np.float32(2), np.int32(8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, Y, S), TypeError, "3 arguments for parameters"),
        ((X, Y, N, S), TypeError, "argument 2: int32 scalar for float32"),
        ((X, Y, 2.0, N), TypeError, "argument 2: float for float32"),
        ((X, Y, S, np.int64(8)), TypeError, "int64 scalar for int32"),
        ((X, Y, S, 8), TypeError, "give a NumPy scalar"),
        ((X.astype("d"), Y, S, N), TypeError, "float64 array for const float32*"),
        ((X.get(), Y, S, N), TypeError, "ndarray for const float32*"),
        ((fake_cupy.asarray(np.ones(16, "f"))[::2], Y, S, N), ValueError, "not C-contiguous"),
        ((X, X, S, N), emulate.KernelError, "output overlaps argument 0|output overlaps"),
        ((X, Y, S, np.int32(9)), emulate.KernelError, "argument 1: written outside the array"),
    ],
)
def test_wrong_launch_is_refused(arguments, error, message) -> None:
    kernel = fake_cupy.RawKernel(SCALE, "scale")
    with pytest.raises(error, match=message.replace("*", r"\*")):
        kernel((1,), (32,), arguments)
    kernel((1,), (32,), (X, Y, S, N))
    np.testing.assert_array_equal(Y.get(), 2)


@pytest.mark.parametrize(("grid", "block"), [((1, 70000), (8,)), ((1,), (2048,)), ((2**31,), (1,))])
def test_launch_beyond_the_limits_is_refused(grid, block) -> None:
    with pytest.raises(emulate.KernelError, match="invalid (grid|block)"):
        fake_cupy.RawKernel(SCALE, "scale")(grid, block, (X, Y, S, N))


def test_a_seed_repeats_a_launch() -> None:
    racy = emulate.Module(
        'extern "C" __global__ void last(int* y) { y[0] = blockIdx.x * 64 + threadIdx.x; }'
    )

    def run(seed: int) -> int:
        y = np.zeros(1, "i")
        racy.launch("last", (4,), (64,), [y], seed=seed)
        return int(y[0])

    assert [run(seed) for seed in range(5)] == [run(seed) for seed in range(5)]
    assert len({run(seed) for seed in range(20)}) > 10


def test_source_that_does_not_compile_is_reported_at_its_line() -> None:
    with pytest.raises(emulate.KernelError, match=r"mine\.cu:2:"):
        emulate.Module('extern "C" __global__ void f(int* y) {\n y[0] = nothing; }', name="mine.cu")


def test_stand_in_is_strict() -> None:
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(X)
    with pytest.raises(TypeError, match="a NumPy array given to CuPy"):
        X + np.ones(8, "f")
    with pytest.raises(AttributeError, match="no attribute 'no_such_function'"):
        fake_cupy.no_such_function(X)
    with pytest.raises(TypeError, match="takes no where="):
        fake_cupy.add(X, X, where=X > 0)
    with pytest.raises(NotImplementedError, match=r"cupy_subtract\.reduce"):
        fake_cupy.subtract.reduce(X)
    with pytest.raises(BufferError):
        fake_cupy.from_dlpack(np.ones(3))
    assert isinstance(X.sum(), fake_cupy.ndarray)
    assert isinstance(X[0], fake_cupy.ndarray)


def test_stand_in_counts_copies() -> None:
    before = len(fake_cupy.transfers)
    x = fake_cupy.asarray(np.ones(4, "f"))
    (x + x).sum()
    assert fake_cupy.transfers[before:] == [("to device", 16)]
    assert float(x[0]) == 1
    assert fake_cupy.transfers[before + 1 :] == [("to host", 4)]


def test_page_about_the_gpu_runs_as_written() -> None:
    try:
        nvrtc.compiler()
    except ImportError as error:
        pytest.skip(str(error))
    page = (Path(__file__).parents[1] / "docs" / "gpu.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    with fake_cupy.installed():
        for block in blocks:
            exec(block, names)


def test_report_names_every_proof() -> None:
    lines = report()
    assert [line.split(":")[0] for line in lines] == [
        "cuda, real GPU",
        "cuda, NVRTC",
        "cuda, emulation",
    ]
