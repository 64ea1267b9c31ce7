"""Any tests of the GPU path on compiled code: ``PYTHONPATH=tests pytest -p ptx.plugin tests/...``

The stand-in for CuPy goes on as ever, but its kernels run as the PTX that NVRTC makes of them with
CuPy's options. At the end it tells what ran. Few examples are drawn: lanes of NumPy are slow.
"""

from __future__ import annotations

import hypothesis
import pytest

from ptx.launches import Module, executed, launched
from segaware_np.gpu import kernels
from segaware_np.testing.cuda import fake_cupy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ptx", default="90", help="compute capability to compile for (default: 90)")
    parser.addoption("--examples", type=int, default=6, help="examples to draw (default: 6)")


@pytest.hookimpl(trylast=True)  # after the profiles of segaware_np.testing
def pytest_configure(config: pytest.Config) -> None:
    Module.architecture = config.getoption("--ptx")
    fake_cupy.Module = Module
    few = {"max_examples": config.getoption("--examples"), "deadline": None, "database": None}
    hypothesis.settings.register_profile("few", derandomize=True, **few)
    hypothesis.settings.load_profile("few")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    known = {
        name
        for source in kernels.CATALOG
        for element in kernels.element_types(source)
        for name in kernels.instances(source, element)
    }
    ran = known & set(launched)
    terminalreporter.write_line(
        f"PTX for sm_{Module.architecture}: {launched.total()} launches of {len(ran)} kernels, "
        f"{executed.total()} instructions of {len(executed)} kinds; "
        f"{len(known - ran)} kernels not run"
    )
    terminalreporter.write_line(f"not run: {', '.join(sorted(known - ran)) or 'none'}")
