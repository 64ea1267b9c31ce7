"""The golden networks once more with CuPy arrays: on a GPU, or on the strict stand-in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from caffe_cases import cases, check_network

pytest_plugins = "segaware_np.testing.cuda.plugin"


@pytest.mark.parametrize("path", cases(solver=False))
def test_network(cupy: ModuleType, path: Path) -> None:
    check_network(path, "float32", fuse=True, xp=cupy)
