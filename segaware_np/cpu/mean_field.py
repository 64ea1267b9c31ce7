"""The end of a mean-field iteration: matrix products of some pixels at a time, see `pixels`.

They do not wake BLAS's own threads, which would go on spinning beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segaware_np.cpu.gemm import gemm
from segaware_np.cpu.pixels import Part, flat, parts
from segaware_np.cpu.threads import parallel


def mean_field_update(
    unary: np.ndarray, filtered: Sequence[np.ndarray], mixers: Sequence[np.ndarray]
) -> np.ndarray:
    """Fast form of `segaware_np.ops.mean_field.mean_field_update`."""
    u, q = flat(unary), np.empty(unary.shape, unary.dtype)
    inputs, out = [*map(flat, filtered)], flat(q)
    minus = [-np.ascontiguousarray(mixer) for mixer in mixers]

    def work(part: Part) -> None:
        out[part] = u[part]
        for n in range(part[0].start, part[0].stop):
            pixels = n, *part[1:]
            for matrix, a in zip(minus, inputs, strict=True):
                gemm(matrix, a[pixels], out[pixels], beta=1)

    parallel(work, parts(u))
    return q


def mean_field_update_grad(
    dq: np.ndarray, filtered: Sequence[np.ndarray], mixers: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Fast form of `segaware_np.ops.mean_field.mean_field_update_grad`."""
    arrived, inputs = flat(dq), [*map(flat, filtered)]
    dfiltered = [np.empty(a.shape, a.dtype) for a in filtered]
    minus, outputs = [-np.ascontiguousarray(mixer) for mixer in mixers], [*map(flat, dfiltered)]

    def work(part: Part) -> list[np.ndarray]:
        sums = [np.zeros_like(matrix) for matrix in minus]
        for n in range(part[0].start, part[0].stop):
            pixels = n, *part[1:]
            for i, matrix in enumerate(minus):
                gemm(arrived[pixels], inputs[i][pixels].T, sums[i], beta=1)
                gemm(matrix.T, arrived[pixels], outputs[i][pixels])
        return sums

    shares = parallel(work, parts(arrived))
    dmixers = [np.zeros(matrix.shape) for matrix in minus]  # in double precision: there may be many
    for sums in shares:  # in their order, whoever computed them
        for dmixer, part in zip(dmixers, sums, strict=True):
            dmixer -= part
    return dfiltered, [dmixer.astype(dq.dtype, copy=False) for dmixer in dmixers]
