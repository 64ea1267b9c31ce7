"""Signals that ask a program to stop, held back until its work is in a state to be kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Ctrl-C; what `kill`, batch systems and containers send; a terminal that is closed.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Stop:
    """What a block under `postponed` asks.

    Attributes
    ----------
    number : int or None
        The last signal that came; None if none did.

    Examples
    --------
    >>> Stop().obey()  # nothing came
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def obey(self) -> None:
        """Stop if a signal came.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.
        SystemExit
            After another signal; the code is 128 + its number, as shells have it.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise SystemExit(128 + self.number)


@contextmanager
def postponed(until: str) -> Iterator[Stop]:
    """Note Ctrl-C, SIGTERM and SIGHUP in the block; obey what was noted when it has ended.

    The block asks for the number and ends early. After the first signal, Ctrl-C acts as ever. Only
    the main thread receives signals, and those that the program ignores, as under ``nohup``, stay
    ignored.

    Parameters
    ----------
    until : str
        What the program goes on to complete, for a note on standard error.

    Yields
    ------
    Stop

    Raises
    ------
    KeyboardInterrupt, SystemExit
        As `Stop.obey` does, unless the block raises another exception.

    Examples
    --------
    >>> with postponed("this file") as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     print("the file is whole")
    Traceback (most recent call last):
    SystemExit: 143
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    held = {n: act for n, act in before.items() if act not in (signal.SIG_IGN, None)}

    def note(number: int, _: object) -> None:
        stop.number = number
        if signal.SIGINT in held:
            signal.signal(signal.SIGINT, held[signal.SIGINT])
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, f"\nstopping after {until}{again}\n".encode())

    try:
        for number in held:
            signal.signal(number, note)
        yield stop
    finally:
        for number, act in held.items():
            signal.signal(number, act)
    stop.obey()
