"""Any tests of the GPU path on real CuPy: ``PYTHONPATH=tests pytest -p pretended_gpu.plugin ...``

In an environment with CuPy, NVRTC and CUDA's headers. Loaded before all else, as CuPy finds its
libraries when it is imported.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import hypothesis
import pytest

from pretended_gpu import cublas, driver, runtime
from pretended_gpu.interpose import bind, build_library, missing, patch_library, symbols

SITE = Path(sysconfig.get_paths()["purelib"])
_RUNTIME = ("cupy_backends/cuda/api/runtime", "cupy/cuda/cub", "cupy/cuda/thrust")
_FOLDER = tempfile.TemporaryDirectory(prefix="pretended-gpu-")


def _only(pattern: str) -> Path:
    return next(iter(sorted(SITE.glob(pattern)))).resolve()


def install() -> None:
    """Put the pretended libraries under CuPy, and let it compile to PTX."""
    folder = Path(_FOLDER.name)
    blas = _only("cupy_backends/cuda/libs/cublas.*.so")
    major = 13 if b"libcublas.so.13" in blas.read_bytes() else 12
    runtime.CUDA = major * 1000
    ctypes.CDLL(str(_only(f"nvidia/c*/lib/libnvrtc.so.{major}")), mode=ctypes.RTLD_GLOBAL)
    find = bind(driver.FUNCTIONS)
    wanted = [name for name, *_ in driver.FUNCTIONS]
    names = wanted + [f"{name}_v2" for name in wanted] + _driver_names()
    build_library("libcuda.so.1", {name: find(name) for name in dict.fromkeys(names)}, folder)
    find = bind(cublas.FUNCTIONS)
    names = [name for name in symbols(blas, "-D", "--undefined-only") if name.startswith("cublas")]
    build_library(f"libcublasLt.so.{major}", {}, folder)  # which CuPy loads first
    build_library(f"libcublas.so.{major}", {name: find(name) for name in names}, folder)
    find = bind(runtime.FUNCTIONS)
    for module in _RUNTIME:
        assert patch_library(_only(f"{module}.*.so"), r"cuda[A-Z]\w+", find)
    os.environ["CUPY_ACCELERATORS"] = ""  # CuPy's own reductions: CUB's are compiled device code
    os.environ["CUPY_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"cupy-ptx-{os.getuid()}")

    import cupy
    from cupy.cuda import nvrtc

    nvrtc.getCUBIN = nvrtc.getPTX
    cupy.cuda.set_allocator(None)  # no pool: each array's bounds are known


def _driver_names() -> list[str]:
    """The functions that CuPy may look for in the driver."""
    text = _only("cupy_backends/cuda/api/driver.*.so").read_bytes()
    return sorted({name.decode() for name in re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", text)})


install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, default=6, help="examples to draw (default: 6)")


@pytest.hookimpl(trylast=True)  # after the profiles of segaware_np.testing
def pytest_configure(config: pytest.Config) -> None:
    few = {"max_examples": config.getoption("--examples"), "deadline": None, "database": None}
    hypothesis.settings.register_profile("few", derandomize=True, **few)
    hypothesis.settings.load_profile("few")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    import cupy

    counted = ", ".join(f"{n} {what}" for what, n in sorted(runtime.counts.items()))
    terminalreporter.write_line(
        f"CuPy {cupy.__version__} on a pretended driver: {driver.launched.total()} launches of "
        f"{len(driver.launched)} kernels, {cublas.called.total()} products; {counted}; "
        f"{len(driver.findings)} launches failed; functions missing: "
        f"{', '.join(sorted(set(missing))) or 'none'}"
    )
    for line in driver.findings:
        terminalreporter.write_line(line)


_status: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    _status.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End at once: CuPy frees memory while Python ends, too late for functions in Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status[0] if _status else 1)
