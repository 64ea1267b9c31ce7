"""Proofs of CUDA kernels on a machine without a GPU.

* `nvrtc` compiles a source with NVIDIA's compiler for every architecture, and tells registers
  and spills.
* `emulate` runs it on the CPU, in a random order of threads and blocks, with sanitizers.
* `fake_cupy` runs whole programs that use CuPy on top of that.
* `plugin` gives tests the fixture `cupy`: the real one where there is a GPU.
"""

from __future__ import annotations

from types import ModuleType

from segaware_np.gpu.device import find_cupy
from segaware_np.testing.cuda import emulate, nvrtc

__all__ = ["emulate", "nvrtc", "real_cupy", "report"]


def real_cupy() -> tuple[ModuleType | None, str]:
    """Return CuPy if it has a GPU to run on, and a line that says what is there or is not.

    Examples
    --------
    >>> cupy, line = real_cupy()
    >>> cupy is None or cupy.__name__ == "cupy"
    True
    """
    return find_cupy()


def report() -> list[str]:
    """Return lines for a test header: which proofs of the CUDA kernels run here, and why not.

    Examples
    --------
    >>> all(line.startswith("cuda, ") for line in report())
    True
    """
    lines = [f"cuda, real GPU: {real_cupy()[1]}"]
    try:
        compiler = nvrtc.compiler()
        lines.append(f"cuda, NVRTC: {compiler.version} for sm_{', '.join(nvrtc.ARCHITECTURES)}")
    except (ImportError, OSError) as error:
        lines.append(f"cuda, NVRTC: none: {error}")
    gxx = emulate.compiler()
    if gxx is None:
        lines.append("cuda, emulation: none: install g++ or set CXX")
    else:
        working = [s for s in emulate.SANITIZERS if emulate.has_sanitizer(s)]
        lines.append(f"cuda, emulation: {gxx}, sanitizers: {', '.join(working) or 'none'}")
    return lines
