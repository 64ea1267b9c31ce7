"""``cupy.cuda`` of the strict stand-in: pretended devices, streams and events."""

from __future__ import annotations

from time import perf_counter
from types import SimpleNamespace
from typing import Any

devices = 1  # how many there are
_entered = [0]  # devices, the current one last
_streams: dict[int, list[Stream]] = {}  # of each device, the current one last


def current_device() -> int:
    return _entered[-1]


class Device:
    """A pretended device, or one that is not there."""

    compute_capability = "90"

    def __init__(self, id: int | None = None) -> None:
        self.id = current_device() if id is None else id

    def __enter__(self) -> Device:
        if not 0 <= self.id < devices:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _entered.append(self.id)
        return self

    def __exit__(self, *_: Any) -> None:
        _entered.pop()

    def synchronize(self) -> None:
        return None


class Stream:
    """A stream. All work is done at once, so that only its identity counts."""

    def __enter__(self) -> Stream:
        _streams.setdefault(current_device(), []).append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _streams[current_device()].pop()

    def synchronize(self) -> None:
        return None


_NULL = Stream()


def get_current_stream() -> Stream:
    """The stream of the current device: each device has its own."""
    return (_streams.get(current_device()) or [_NULL])[-1]


class Event:
    """A point in time: the host's."""

    def record(self, stream: Stream | None = None) -> None:
        self.time = perf_counter()

    def synchronize(self) -> None:
        return None


def get_elapsed_time(start: Event, stop: Event) -> float:
    return 1e3 * (stop.time - start.time)


def is_available() -> bool:
    return True


class CompileException(Exception):  # noqa: N818 (CuPy's name)
    """As in ``cupy.cuda.compiler``."""


compiler = SimpleNamespace(CompileException=CompileException)
runtime = SimpleNamespace(getDeviceCount=lambda: devices, runtimeGetVersion=lambda: 13000)
