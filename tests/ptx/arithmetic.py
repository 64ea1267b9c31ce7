"""What PTX's instructions compute, lane by lane, on NumPy arrays of the instruction's type.

Sums and products of float32 and float64 are NumPy's: rounded to nearest, as on a GPU. A fused
multiply-add rounds once: in the next wider type first, which is the same but for rare ties.
Divisions are exact, approximate functions (ex2, rcp.approx) NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_LETTER = {"b": "u", "u": "u", "s": "i", "f": "f"}


def dtype(word: str) -> np.dtype:
    """The NumPy type that an instruction's last word names: ``f32``, ``s64``, ``b16`` ..."""
    return np.dtype(f"{_LETTER[word[0]]}{int(word[1:]) // 8}")


def flush(value: np.ndarray) -> np.ndarray:
    """Denormal numbers become zeros: ``.ftz``."""
    return np.where(np.abs(value) < np.finfo(value.dtype).tiny, value * 0, value)


def round_tf32(value: np.ndarray) -> np.ndarray:
    """To the nearest number of 10 bits, ties away from zero: ``cvt.rna.tf32.f32``."""
    bits = (value.view("u4") + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(value), bits, value.view("u4"))


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    exact = a.astype(wide) * b.astype(wide) + c.astype(wide)
    found = exact.astype(a.dtype)
    if "rm" in words:  # towards minus infinity
        found = np.where(found > exact, np.nextafter(found, -np.inf, dtype=a.dtype), found)
    return found


def _truncated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer division towards zero; by zero: anything, as lanes that ignore it divide, too."""
    b = np.where(b == 0, np.ones_like(b), b)
    quotient = a // b
    return np.where((quotient * b != a) & ((a < 0) != (b < 0)), quotient + 1, quotient)


def _divide(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    return a / b if a.dtype.kind == "f" else _truncated(a, b).astype(a.dtype)


def _remainder(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    return (a - _truncated(a, b) * b).astype(a.dtype)


def _wide(value: np.ndarray) -> np.ndarray:
    return value.astype(f"{value.dtype.kind}{2 * value.itemsize}")


def _multiply(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    if "wide" in words:
        return _wide(a) * _wide(b)
    if "hi" in words:
        return (_wide(a) * _wide(b) >> 8 * a.itemsize).astype(a.dtype)
    return a * b


def _multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray, words: tuple) -> np.ndarray:
    return _multiply(a, b, words) + c


def _shift_left(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    bits = 8 * a.itemsize
    return np.where(b < bits, a << np.minimum(b, bits - 1).astype(a.dtype), 0).astype(a.dtype)


def _shift_right(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    return a >> np.minimum(b, 8 * a.itemsize - 1).astype(a.dtype)


def _least(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    return np.fmin(a, b)


def _largest(a: np.ndarray, b: np.ndarray, words: tuple[str, ...]) -> np.ndarray:
    return np.fmax(a, b)


def _insert_bits(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, length: np.ndarray, words: tuple[str, ...]
) -> np.ndarray:
    """The lowest bits of a in the place of b's from `start` on (start + length within 64)."""
    field = (np.uint64(1) << length.astype(np.uint64)) - np.uint64(1) << start.astype(np.uint64)
    moved = a.astype(np.uint64) << start.astype(np.uint64)
    return (b.astype(np.uint64) & ~field | moved & field).astype(a.dtype)


def _count_bits(a: np.ndarray) -> np.ndarray:
    return np.unpackbits(a.view("u1").reshape(len(a), -1), axis=1).sum(1).astype(np.uint32)


def _plain(function: Callable) -> Callable:
    return lambda *operands_and_words: function(*operands_and_words[:-1])


# By name: a function of the operands after the first, and of all the instruction's words.
FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "abs": _plain(np.abs),
    "add": _plain(np.add),
    "and": _plain(np.bitwise_and),
    "bfi": _insert_bits,
    "copysign": _plain(lambda sign, size: np.copysign(size, sign)),
    "cos": _plain(np.cos),
    "cvta": _plain(lambda a: a),
    "div": _divide,
    "ex2": _plain(np.exp2),
    "fma": _fma,
    "lg2": _plain(np.log2),
    "mad": _multiply_add,
    "max": _largest,
    "min": _least,
    "mov": _plain(lambda a: a),
    "mul": _multiply,
    "neg": _plain(np.negative),
    "not": _plain(np.invert),
    "or": _plain(np.bitwise_or),
    "popc": _plain(_count_bits),
    "rcp": _plain(lambda a: (1 / a).astype(a.dtype)),
    "rem": _remainder,
    "shl": _shift_left,
    "shr": _shift_right,
    "rsqrt": _plain(lambda a: (1 / np.sqrt(a)).astype(a.dtype)),
    "sin": _plain(np.sin),
    "sqrt": _plain(np.sqrt),
    "sub": _plain(np.subtract),
    "tanh": _plain(np.tanh),
    "xor": _plain(np.bitwise_xor),
}

_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


_TO_WHOLE = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


def compare(how: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``setp``: of numbers; ``equ``, ``ltu`` ... are also true beside a NaN."""
    nan = np.isnan(a) | np.isnan(b) if a.dtype.kind == "f" else np.zeros(1, bool)
    if how in ("num", "nan"):
        return nan if how == "nan" else ~nan
    if how in _COMPARISONS:
        return _COMPARISONS[how](a, b) & ~nan
    return _COMPARISONS[how[:-1]](a, b) | nan


def convert(value: np.ndarray, to: np.dtype, words: tuple[str, ...]) -> np.ndarray:
    """``cvt``: between types; to whole numbers in the direction that the words name."""
    if "sat" in words:
        value = np.clip(np.nan_to_num(value, nan=0.0), 0, 1)
    for way in _TO_WHOLE.keys() & set(words):
        value = _TO_WHOLE[way](value)
    return value.astype(to)
