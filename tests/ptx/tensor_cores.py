"""``mma.sync``: 32 lanes multiply matrices together, each holding a part of them.

The layouts are those of the PTX ISA, "Matrix Fragments for mma.m16n8k8" (TF32) and
"... mma.m16n8k16 with floating point type" (float16), written anew: not the kernels' own.
"""

from __future__ import annotations

import numpy as np

LANES = np.arange(32)
_GROUP, _THREAD = LANES // 4, LANES % 4


def multiply_add(
    left: list[np.ndarray], right: list[np.ndarray], sums: list[np.ndarray], half: bool
) -> list[np.ndarray]:
    """Return the registers of ``left @ right + sums``, from 32 lanes of 32-bit registers each."""
    a, b = _tf32_factors(left, right)
    if half:
        a, b = _half_factors(left, right)
    c = np.zeros((16, 8), np.float32)
    places = [(_GROUP + 8 * (i // 2), 2 * _THREAD + i % 2) for i in range(4)]
    for place, register in zip(places, sums, strict=True):
        c[place] = register.view("f4")
    with np.errstate(all="ignore"):
        found = (a.astype(float) @ b.astype(float) + c).astype(np.float32)
    return [found[place].view("u4") for place in places]


def _tf32_factors(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """a (16, 8), b (8, 8); the low 13 bits of a register do not count."""
    a, b = np.zeros((16, 8), np.float32), np.zeros((8, 8), np.float32)
    for i, register in enumerate(left):
        a[_GROUP + 8 * (i % 2), _THREAD + 4 * (i // 2)] = _truncated(register)
    for i, register in enumerate(right):
        b[_THREAD + 4 * i, _GROUP] = _truncated(register)
    return a, b


def _truncated(register: np.ndarray) -> np.ndarray:
    return (register & np.uint32(0xFFFFE000)).view("f4")


def _half_factors(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """a (16, 16), b (16, 8); two numbers to a register, the lower bits first."""
    a, b = np.zeros((16, 16), np.float16), np.zeros((16, 8), np.float16)
    for i, register in enumerate(left):
        for part, number in enumerate(_halves(register)):
            a[_GROUP + 8 * (i % 2), 2 * _THREAD + part + 8 * (i // 2)] = number
    for i, register in enumerate(right):
        for part, number in enumerate(_halves(register)):
            b[2 * _THREAD + part + 8 * i, _GROUP] = number
    return a, b


def _halves(register: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(register).view("f2").reshape(-1, 2).T
