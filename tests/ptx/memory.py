"""Memory that knows which of its bytes a kernel may read and write."""

from __future__ import annotations

import numpy as np

from segaware_np.testing.cuda.emulate import KernelError

GAP = 1 << 10  # bytes between arrays, where nobody may read or write
GARBAGE = 0x7B


class Memory:
    """Arrays, far enough from each other, at addresses from `base` on."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.bytes = np.full(GAP, GARBAGE, np.uint8)
        self.readable = np.zeros(GAP, bool)
        self.writable = np.zeros(GAP, bool)

    def add(self, data: np.ndarray, writable: bool) -> int:
        """Copy an array's bytes in; return where it lies."""
        start, size = len(self.bytes), data.nbytes
        room = -(-size // 256) * 256 + GAP
        bytes_, allowed = np.full(room, GARBAGE, np.uint8), np.arange(room) < size
        bytes_[:size] = np.frombuffer(data.tobytes(), np.uint8)
        self.bytes = np.concatenate([self.bytes, bytes_])
        self.readable = np.concatenate([self.readable, allowed])
        self.writable = np.concatenate([self.writable, allowed & writable])
        return self.base + start

    def copy_back(self, address: int, target: np.ndarray) -> None:
        start = address - self.base
        found = self.bytes[start : start + target.nbytes].view(target.dtype)
        target[...] = found.reshape(target.shape)

    def load(self, address: np.ndarray, width: int, count: int, what: str) -> list[np.ndarray]:
        """Read `count` neighbouring words of `width` bytes from each address."""
        place = self._check(address, width, count, self.readable, what)
        return [self._words(width)[place + i] for i in range(count)]

    def store(self, address: np.ndarray, words: list[np.ndarray], what: str) -> None:
        width = words[0].itemsize
        place = self._check(address, width, len(words), self.writable, what)
        for i, word in enumerate(words):
            self._words(width)[place + i] = word

    def _words(self, width: int) -> np.ndarray:
        return self.bytes.view(f"u{width}")

    def _check(
        self, address: np.ndarray, width: int, count: int, allowed: np.ndarray, what: str
    ) -> np.ndarray:
        start = address.astype(np.int64) - self.base
        if (start % (width * count)).any():
            raise KernelError(f"misaligned: {what}")
        last = start + width * count - 1
        if (start < 0).any() or (last >= len(allowed)).any():
            raise KernelError(f"far outside any array: {what}")
        if not (allowed[start].all() and allowed[last].all()):
            raise KernelError(f"outside the arrays that it may use so: {what}")
        return start // width
