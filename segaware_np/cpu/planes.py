"""Operations that treat every channel on its own: the plain formulas, a few planes at a time.

What they need is that their many passes over a plane find it in the cache, and one thread a plane.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from segaware_np.cpu.threads import parallel

_BYTES = 1 << 20  # of the planes that are worked on together


def planewise(plain: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Let a formula work on blocks of planes of its arrays (N, C, ...)."""

    @wraps(plain)
    def run(*arguments: Any) -> np.ndarray:
        def of(image: slice, planes: slice) -> np.ndarray:
            return plain(*(a[image, planes] if isinstance(a, np.ndarray) else a for a in arguments))

        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        n, c = arrays[0].shape[:2]
        shape = of(slice(0, 1), slice(0, 0)).shape[2:]  # of no planes: costs nothing
        out = np.empty((n, c, *shape), arrays[0].dtype)
        plane = max(array[:1, :1].nbytes for array in (out, *arrays))
        step = max(1, _BYTES // max(1, plane))

        def work(job: tuple[int, int]) -> None:
            image, planes = slice(job[0], job[0] + 1), slice(job[1], job[1] + step)
            out[image, planes] = of(image, planes)

        jobs = [(i, start) for i in range(n) for start in range(0, c, step)]
        parallel(work, jobs, sum(array.size for array in (out, *arrays)))
        return out

    return run
