"""How far a long run has come, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from segaware_np.extras import require

_INTERVAL = 0.5  # seconds between two updates of a plain line on a terminal


@contextmanager
def progress(total: int, done: int = 0, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a bar (tqdm, where it is installed) or a plain line while the block runs.

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
    try:
        tqdm = require("tqdm", extra="progress").tqdm
    except ImportError:
        with _plain(total, done) as step:
            yield step
        return
    with closing(tqdm(total=total, initial=done, dynamic_ncols=True)) as bar:

        def advance(note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update()

        yield advance


@contextmanager
def _plain(total: int, done: int) -> Iterator[Callable[[str], None]]:
    """A line that rewrites itself on a terminal; a line every 5 % in a file."""
    terminal, width, last = sys.stderr.isatty(), 0, 0.0

    def advance(note: str) -> None:
        nonlocal done, width, last
        done += 1
        line = f"{done}/{total}  {note}"
        if terminal and (done == total or time.monotonic() - last >= _INTERVAL):
            sys.stderr.write("\r" + line.ljust(width))
            sys.stderr.flush()
            width, last = len(line), time.monotonic()
        elif not terminal and done * 20 // total > (done - 1) * 20 // total:
            sys.stderr.write(line + "\n")

    try:
        yield advance
    finally:
        if terminal and width:
            sys.stderr.write("\n")
