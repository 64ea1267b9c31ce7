"""Whether there is a GPU that CuPy can use here, and if not, why."""

from __future__ import annotations

import sys
from types import ModuleType


def find_cupy() -> tuple[ModuleType | None, str]:
    """Return CuPy if it has a GPU that runs its kernels, and a line on what is there or is not.

    Returns
    -------
    cupy : module or None
    line : str
        The GPU's name, CUDA and versions, or ``none:`` and the reason.

    Examples
    --------
    >>> cupy, line = find_cupy()
    >>> (cupy is None) == line.startswith("none: ")
    True
    """
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return None, f"none: CuPy cannot be imported: {error}"
        extra = 'pip install "segaware_np[gpu]" (CUDA 12; gpu13: 13)'
        return None, f"none: CuPy is not installed: {extra}"
    except Exception as error:  # a CuPy that does not fit this NumPy or Python fails in many ways
        return None, f"none: CuPy cannot be imported: {_one_line(error)}"
    if cupy is sys.modules.get("segaware_np.testing.cuda.fake_cupy"):
        return None, "none: CuPy's stand-in is installed"
    try:
        return cupy, _describe(cupy)
    except Exception as error:  # CuPy's own error types exist only where it is installed
        return None, f"none: CuPy {cupy.__version__} finds no usable device: {_one_line(error)}"


def _describe(cupy: ModuleType) -> str:
    count = cupy.cuda.runtime.getDeviceCount()
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    cupy.zeros(1, "f4").sum().item()  # a driver can list a device that runs nothing
    runtime = cupy.cuda.runtime.runtimeGetVersion()
    return (
        f"{properties['name'].decode()} (sm_{properties['major']}{properties['minor']}, "
        f"{properties['totalGlobalMem'] / 2**30:.0f} GiB), {count} in all; CuPy "
        f"{cupy.__version__}, CUDA {runtime // 1000}.{runtime % 1000 // 10}"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
