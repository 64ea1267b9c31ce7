"""``segaware info``: versions, BLAS, backends, and why there is no GPU where there is none."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import metadata

from segaware_np.cpu.threads import get_num_threads, shares_jobs
from segaware_np.gpu.device import find_cupy
from segaware_np.version import __version__

# Variables that make OpenBLAS or MKL use fewer instructions or cores than the machine has.
_BLAS_VARIABLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
)
_PACKAGES = {  # distribution: what it is for
    "numpy": "required",
    "scipy": "required",
    "Pillow": "images",
    "matplotlib": "plot",
    "tqdm": "progress",
    "safetensors": "safetensors",
    "h5py": "caffe",
    "threadpoolctl": "fast",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``segaware info``."""
    parser.description = "Show versions, BLAS, backends and whether a GPU is usable and if not why."
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    rows = [
        ("segaware_np", __version__),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("machine", f"{platform.system()} {platform.machine()}"),
        ("threads", threads_line()),
        *((name, _version(name, extra)) for name, extra in _PACKAGES.items()),
        *(("BLAS", line) for line in blas_lines()),
        ("CPU backend", "NumPy, float32 and float64"),
        ("GPU backend", find_cupy()[1]),
    ]
    for name, text in rows:
        print(f"{name:<13} {text}")


def _version(name: str, extra: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return f'not installed (optional): pip install "segaware_np[{extra}]"'


def threads_line() -> str:
    """Return how many threads an operation on NumPy arrays uses."""
    count = get_num_threads()
    if count == 1 or shares_jobs():
        return str(count)
    return (
        f"1, beside BLAS's own: to use {count}, BLAS has to be held back by threadpoolctl: "
        'pip install "segaware_np[fast]"'
    )


def blas_lines() -> list[str]:
    """Return the BLAS libraries in use, and what in the environment holds them back."""
    import numpy  # noqa: F401 - threadpoolctl sees only what is loaded
    import scipy.linalg.blas  # noqa: F401

    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        lines = ['unknown without threadpoolctl: pip install "segaware_np[fast]"']
    else:
        lines = [
            f"{blas['internal_api']} {blas.get('version') or ''} "
            f"({blas.get('architecture', 'unknown architecture')}, "
            f"{blas['num_threads']} threads)"
            for blas in threadpool_info()
            if blas["user_api"] == "blas"
        ] or ["none found"]
    held = [f"{name}={os.environ[name]}" for name in _BLAS_VARIABLES if os.environ.get(name)]
    if held:
        lines.append(f"warning: the environment may hold it back: {', '.join(held)}")
    return lines
