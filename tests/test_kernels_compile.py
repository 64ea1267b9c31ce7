"""NVIDIA's compiler takes every kernel, for every type and architecture, within its registers."""

from __future__ import annotations

import pytest

from segaware_np.gpu import kernels
from segaware_np.testing.cuda import nvrtc

# Registers a thread, at most: 80 let 768 threads share a multiprocessor. What keeps many sums
# at once trades threads for registers.
CEILING = {"convolution": 184, "columns": 104, "distance": 96}
PAIRS = [(s, e) for s in kernels.CATALOG for e in kernels.element_types(s)]


@pytest.fixture(scope="module")
def compiler() -> nvrtc.Compiler:
    try:
        return nvrtc.compiler()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def count(request):
    """Print how much was compiled."""
    compiled: list[str] = []
    yield compiled
    if compiled:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\nNVRTC: {len(compiled)} kernels compiled, none spills", end="")


@pytest.mark.parametrize(
    "architecture",
    [
        a if a in ("75", "90") else pytest.param(a, marks=pytest.mark.slow)
        for a in nvrtc.ARCHITECTURES
    ],
)
@pytest.mark.parametrize(("source", "element"), PAIRS)
def test_compiles_without_spills(compiler, count, source, element, architecture) -> None:
    names = kernels.instances(source, element)
    code = kernels.source_code(source, element)
    usage = compiler.compile(code, names, architecture, f"{source}.cu")
    spilled = {name: use.spill_bytes for name, use in usage.items() if use.spill_bytes}
    assert not spilled
    ceiling = CEILING.get(source, 80)
    assert max(use.registers for use in usage.values()) <= ceiling, usage
    count += names


@pytest.mark.parametrize(("source", "element"), PAIRS)
def test_only_float16_needs_the_headers_of_cuda(compiler, source, element) -> None:
    code = kernels.source_code(source, element).replace("<cuda_fp16.h>", "<not_there.h>")
    names = kernels.instances(source, element)[:1]
    if element != "__half":
        assert compiler.compile(code, names, "90")
        return
    with pytest.raises(nvrtc.CompileError, match="not_there.h"):
        compiler.compile(code, names, "90")


def test_a_kernel_that_does_not_compile_is_reported_at_its_line(compiler) -> None:
    code = kernels.source_code("resize", "float")
    code = code.replace("T* __restrict__ x", "Q* __restrict__ x", 1)
    with pytest.raises(nvrtc.CompileError, match=r"resize\.cu\(\d+\)"):
        compiler.compile(code, kernels.instances("resize", "float"), "90", "resize.cu")
