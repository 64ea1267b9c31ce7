"""Memory that one thread uses again and again, so that no iteration asks for new pages."""

from __future__ import annotations

import threading
from math import prod

import numpy as np

_LINE = 64  # bytes of a cache line


class _Workspace(threading.local):
    def __init__(self) -> None:
        self.blocks: dict[str, np.ndarray] = {}


_workspace = _Workspace()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return uninitialised memory of this thread, the same at every call with that name.

    It grows to the largest that was ever asked for and lives as long as the thread. Nothing that
    leaves an operation may lie in it.
    """
    size = prod(shape) * dtype.itemsize
    block = _workspace.blocks.get(name)
    if block is None or block.size < size:
        block = _aligned(size)
        _workspace.blocks[name] = block
    return block[:size].view(dtype).reshape(shape)


def _aligned(size: int) -> np.ndarray:
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size]
