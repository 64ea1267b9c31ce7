"""What all tests share: profiles, markers, and a header that says which tools are at hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from segaware_np import dispatch
from segaware_np.gpu.device import find_cupy

pytest_plugins = ["segaware_np.testing.plugin"]

_OPTIONAL = ("PIL", "matplotlib", "tqdm", "safetensors", "google.protobuf", "h5py", "cupy")
_FOLDERS = ("SEGAWARE_GOLDEN", "SEGAWARE_DATA")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    # OpenBLAS reads padding lanes in its smallest products, and what garbage stands there can raise
    # the flag. A real NaN still fails, as every test compares values.
    config.addinivalue_line(
        "filterwarnings", "ignore:invalid value encountered in matmul:RuntimeWarning"
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    found = [name for name in _OPTIONAL if _importable(name)]
    missing = [name for name in _OPTIONAL if name not in found]
    folders = [f"{name}={os.environ.get(name, 'not set')}" for name in _FOLDERS]
    return [
        f"optional: {', '.join(found) or 'none'}; missing: {', '.join(missing) or 'none'}",
        f"data: {', '.join(folders)}",
        *_cuda_report(),
    ]


def _cuda_report() -> list[str]:
    if not _importable("segaware_np.testing.cuda"):
        return []
    from segaware_np.testing import cuda

    report = cuda.report()
    return report.splitlines() if isinstance(report, str) else list(report)


def _importable(name: str) -> bool:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # of the parent package
        return False
    return spec is not None and spec.origin is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    cupy, reason = find_cupy() if marked else (None, "")
    for item in marked if cupy is None else ():
        item.add_marker(pytest.mark.skip(reason=f"gpu: {reason}"))


@pytest.fixture(scope="module", params=["fast", "plain"])
def each_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test twice: with the fast forms, and with the plain formulas in their place."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            patch.setattr(dispatch, "form", lambda room, plain: plain)
        yield


@pytest.fixture
def listening() -> Iterator[None]:
    """Programs in the background of a script, or under `nohup`, ignore signals: tests must not."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, action in before.items():
        signal.signal(number, action)
