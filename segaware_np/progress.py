"""How far a long run has come, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from errno import EIO, ENOSPC

from segaware_np.extras import require

_BLINK = 0.5  # seconds between two updates of a plain line on a terminal
_PATIENCE = 60.0  # seconds after which a file receives a line in any case


@contextmanager
def progress(total: int, done: int = 0, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Show how far the block has come.

    On a terminal that is a bar (tqdm, where it is installed) or a line that rewrites itself;
    elsewhere, in a log say, a line for each 20th of the steps and at least one a minute.

    Parameters
    ----------
    total, done : int
        Steps in all, and steps done before.
    shown : bool
        False: show nothing.

    Yields
    ------
    callable
        To be called with a note after each step.
    """
    if not shown:
        yield lambda note: None
        return
    if not sys.stderr.isatty():
        yield _lines(total, done)
        return
    try:
        tqdm = require("tqdm", extra="progress").tqdm
    except ImportError:
        with _line(total, done) as advance:
            yield advance
        return
    with closing(tqdm(total=total, initial=done, dynamic_ncols=True)) as bar:

        def advance(note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update()

        yield advance


@contextmanager
def progress_of_pieces(shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show how far the pieces of one picture have come, whose number is known with the first.

    Parameters
    ----------
    shown : bool
        False: show nothing.

    Yields
    ------
    callable
        To be called with the pieces done and those in all, after each.
    """
    with ExitStack() as stack:
        step: Callable[[str], None] | None = None

        def each(done: int, total: int) -> None:
            nonlocal step
            step = step or stack.enter_context(progress(total, shown=shown))
            step("refined")

        yield each


def _lines(total: int, done: int) -> Callable[[str], None]:
    """One line after another."""
    last = time.monotonic()

    def advance(note: str) -> None:
        nonlocal done, last
        done += 1
        due = done * 20 // total > (done - 1) * 20 // total
        if due or time.monotonic() - last >= _PATIENCE:
            _say(f"{done}/{total}  {note}\n")
            last = time.monotonic()

    return advance


@contextmanager
def _line(total: int, done: int) -> Iterator[Callable[[str], None]]:
    """A line that rewrites itself."""
    width, last = 0, 0.0

    def advance(note: str) -> None:
        nonlocal done, width, last
        done += 1
        if done == total or time.monotonic() - last >= _BLINK:
            line = f"{done}/{total}  {note}"
            _say("\r" + line.ljust(width))
            width, last = len(line), time.monotonic()

    try:
        yield advance
    finally:
        if width:
            _say("\n")


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError as error:
        # A run does not end because its progress is lost, on a closed terminal or a full disk.
        if error.errno not in (EIO, ENOSPC):
            raise
