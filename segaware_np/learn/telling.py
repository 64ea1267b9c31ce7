"""What goes wrong in a student's file, told in a sentence or two."""

from __future__ import annotations

import linecache
import os
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

from segaware_np.testing import ProofError
from segaware_np.testing.cuda.emulate import KernelError


class UnfitError(Exception):
    """An answer that cannot be judged; the message tells the student why."""


class MissingError(UnfitError):
    """There is no answer yet."""


@contextmanager
def telling(file: str, more: str = "") -> Iterator[None]:
    """Turn whatever a student's file raises into an `UnfitError` that tells where, and ``more``."""
    try:
        yield
    except (UnfitError, ProofError):
        raise
    except BaseException as error:  # also of exit() and Ctrl-C: it is the student's program
        raise UnfitError(f"{_describe(error, file)}\n{more}".rstrip()) from error


@contextmanager
def quiet(really: bool = True) -> Iterator[None]:
    """Drop what is printed: once is enough."""
    with ExitStack() as stack:
        if really:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
        yield


def _describe(error: BaseException, file: str) -> str:
    if isinstance(error, SyntaxError):
        line = (error.text or "").strip()
        return f"this is not Python, line {error.lineno}: {error.msg}\n{line}".rstrip()
    text = _what(error)
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
    ]
    if not frames:
        return text
    number = frames[-1].lineno
    return f"line {number}: {linecache.getline(file, number or 0).strip()}\n{text}"


def _what(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "your file ends the program: leave out exit() and sys.exit()"
    if isinstance(error, MemoryError):
        return f"out of the memory that a check may take. {error}".rstrip()
    if isinstance(error, KernelError):
        return str(error)[:1500]
    return f"{type(error).__name__}: {error}".rstrip(": ")
