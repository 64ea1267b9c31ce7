"""The pytest side: a fixture that is CuPy where there is a GPU, and the stand-in where not.

Put ``pytest_plugins = "segaware_np.testing.cuda.plugin"`` into a test module or conftest. Tests
that ask for the `cupy` fixture run on the stand-in or, with the mark ``gpu``, on a real GPU where
there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from segaware_np.testing.cuda import emulate, real_cupy


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


@pytest.hookimpl(tryfirst=True)  # before marks select tests
def pytest_collection_modifyitems(items: list[Any]) -> None:
    users = [item for item in items if "cupy" in getattr(item, "fixturenames", ())]
    if users and real_cupy()[0] is not None:
        for item in users:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="module")
def cupy() -> Iterator[ModuleType]:
    """CuPy on a real GPU; else its stand-in, which runs the kernels on the CPU."""
    real, _ = real_cupy()
    if real is not None:
        yield real
        return
    if emulate.compiler() is None:
        pytest.skip("no GPU, and no g++ to run CUDA kernels on the CPU")
    from segaware_np.testing.cuda import fake_cupy

    with fake_cupy.installed() as stand_in:
        yield stand_in
