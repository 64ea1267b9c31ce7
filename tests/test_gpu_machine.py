"""Machines as they are: no driver or an old one, no compiler, CuPy and its stand-in in turns."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from segaware_np.gpu import convolution, kernels
from segaware_np.gpu.device import find_cupy
from segaware_np.gpu.pooling import max_pool
from segaware_np.ops.convolution import convolution_backward, convolution_forward
from segaware_np.testing.cuda import emulate, fake_cupy, real_cupy, report
from segaware_np.window import Window

needs_gxx = pytest.mark.skipif(emulate.compiler() is None, reason="no g++")


class CUDARuntimeError(RuntimeError):
    """As CuPy's: of a driver that is missing or older than CuPy's CUDA."""


def cupy_that_fails(version: str = "13.6.0") -> ModuleType:
    """CuPy 13 without a usable driver, where asking whether there is a GPU raises."""

    def fail(*_) -> None:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    cupy = ModuleType("cupy")
    cupy.__version__, cupy.ndarray = version, type("ndarray", (), {})
    runtime = SimpleNamespace(getDeviceCount=fail, getDeviceProperties=fail)
    cupy.cuda = SimpleNamespace(is_available=fail, runtime=runtime)
    return cupy


def test_driver_that_is_missing_or_old_is_told_and_breaks_nothing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_that_fails())
    assert find_cupy() == real_cupy()
    assert real_cupy()[0] is None
    assert report()[0] == (
        "cuda, real GPU: none: CuPy 13.6.0 finds no usable device: cudaErrorInsufficientDriver: "
        "CUDA driver version is insufficient"
    )


def test_gpu_that_is_listed_but_runs_nothing_is_none(monkeypatch) -> None:
    cupy = cupy_that_fails()
    properties = {"name": b"H100", "major": 9, "minor": 0, "totalGlobalMem": 1 << 36}
    cupy.cuda.runtime.getDeviceCount = lambda: 1
    cupy.cuda.runtime.getDeviceProperties = lambda _: properties
    cupy.zeros = cupy.cuda.is_available  # raises
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert real_cupy()[1].startswith("none: CuPy 13.6.0 finds no usable device: cudaError")


def test_cupy_that_does_not_import_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert real_cupy()[1].startswith('none: CuPy is not installed: pip install "segaware_np[gpu]"')


def another_stand_in() -> ModuleType:
    """The stand-in a second time, with classes of its own: another CuPy."""
    spec = spec_from_file_location("another_cupy", fake_cupy.__file__)
    module = sys.modules["another_cupy"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_gxx
def test_kernels_of_one_array_module_are_not_launched_on_arrays_of_another(monkeypatch) -> None:
    x = np.arange(16.0, dtype="f").reshape(1, 1, 4, 4)
    for cupy in (fake_cupy, another_stand_in(), fake_cupy):
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        y = max_pool(cupy.asarray(x), Window(2, stride=2), (2, 2))
        assert y.get().ravel().tolist() == [5, 7, 13, 15]


@needs_gxx
@pytest.mark.parametrize(
    ("version", "nvrtc", "advice"),
    [
        ("14.2.0", (13, 0), r'pip install -U "cupy-cuda13x\[ctk\]>=14"'),
        ("13.6.0", (13, 0), r'float16: pip install "nvidia-cuda-runtime==13\.0\.\*"'),
        ("13.6.0", None, r"CuPy 13\.6\.0 needs NVRTC of CUDA 13: install that CUDA toolkit"),
    ],
)
def test_kernel_that_does_not_compile_says_what_to_install(
    monkeypatch, version, nvrtc, advice
) -> None:
    def get_version() -> tuple[int, int]:
        if nvrtc is None:
            raise RuntimeError("CuPy failed to load libnvrtc.so.13")
        return nvrtc

    monkeypatch.setattr(kernels, "source_code", lambda *_: "not C++")
    with fake_cupy.installed() as cupy:
        monkeypatch.setattr(cupy, "__version__", version)
        monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", get_version)
        kernels._module.cache_clear(), kernels._function.cache_clear()
        with pytest.raises(kernels.KernelError, match=advice):
            max_pool(cupy.asarray(np.ones((1, 1, 4, 4), "e")), Window(2), (3, 3))


@needs_gxx
@pytest.mark.parametrize("groups", [1, 40])  # one product after another, and all at once
def test_float16_weight_gradient_does_not_depend_on_its_pieces(monkeypatch, groups) -> None:
    x = np.full((2, groups, 8, 8), 64.0, "e")
    dy = np.full((2, 2 * groups, 8, 8), 64.0, "e")
    dy[1] *= -1  # each sample's sum is 64 * 64 * 64 = 2 ** 18: beyond float16
    dy[1, ::2, 0, 0] = -62
    dy[1, 1::2, 0, 0] = -63
    want = [2.0 * 64, 64.0] * groups
    weight = np.ones((2 * groups, 1, 1, 1), "e")
    with fake_cupy.installed() as cupy:
        for room in (1 << 27, groups * 64 * 2, 1):  # all in one, by samples, by windows
            monkeypatch.setattr(convolution, "PIECE_BYTES", room)
            arrays = map(cupy.asarray, (x, weight))
            _, cache = convolution_forward(*arrays, window=Window(1), groups=groups)
            _, dweight, _ = convolution_backward(cupy.asarray(dy), cache, {"weight"})
            assert dweight.dtype == np.float16
            assert dweight.get().ravel().tolist() == want
