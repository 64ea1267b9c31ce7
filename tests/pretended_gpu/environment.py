"""Environments with one CuPy each, made once and kept: of the wheels that pip finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# No CUDA but its compiler and headers: the rest is pretended.
WHEELS = {
    "13": (
        "cupy-cuda12x==13.*",
        "nvidia-cuda-nvrtc-cu12==12.9.*",
        "nvidia-cuda-runtime-cu12==12.9.*",
    ),
    "14": ("cupy-cuda13x>=14", "nvidia-cuda-nvrtc==13.*", "nvidia-cuda-runtime==13.*"),
}
TOOLS = ("numpy", "scipy", "pytest", "hypothesis")


class NoEnvironmentError(Exception):
    """pip cannot install it here."""


def python(cupy: str) -> Path:
    """Return the interpreter of the environment with this major version of CuPy."""
    folder = Path(tempfile.gettempdir()) / f"segaware-cupy-{os.getuid()}" / cupy
    program, done = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join((*WHEELS[cupy], *TOOLS))
    if done.exists() and done.read_text() == wanted:
        return program
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [program, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    made = subprocess.run([*pip, *WHEELS[cupy], *TOOLS], capture_output=True, text=True)
    if made.returncode:
        raise NoEnvironmentError(made.stderr.strip().splitlines()[-1])
    done.write_text(wanted)
    return program
