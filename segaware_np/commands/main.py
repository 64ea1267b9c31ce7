"""The ``segaware`` program: runs one command, reports errors."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # and no other import: Ctrl-C is to find `main` at work
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Container, Sequence
    from typing import Any


_FORESEEN = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0; 2 after an error, which is one line on standard error; 130 after Ctrl-C; 141 if the
        reader of the output has gone, as behind ``| head``.

    Raises
    ------
    SystemExit
        After ``--help`` or a wrong command line; after SIGTERM or SIGHUP that training obeyed, with
        the code 143 or 129.

    Examples
    --------
    >>> main(["explore", "missing.png"])  # and a line on standard error
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments  # before or after the command's name
    interrupts: list[int] = []
    try:
        _prepare_streams()
        _run([item for item in arguments if item != "--debug"], interrupts)
        return 0
    except KeyboardInterrupt:
        return _ended(_stopped())
    except BrokenPipeError:
        return _ended(141)
    except Exception as error:
        if interrupts:
            return _ended(_stopped())
        if debug:
            raise
        _tell(f"segaware: error: {_wait_for_rank_0()}{describe(error)}")
        return _ended(2)
    finally:
        _drop_output()


def _ended(code: int) -> int:
    """Have MPI, if this is one of its ranks, end the others, who may wait for this one."""
    if "mpi4py.MPI" in sys.modules:
        from mpi4py import run

        run.set_abort_status(code)
    return code


def _wait_for_rank_0() -> str:
    """Who speaks, if not rank 0: an error that all have, rank 0 tells before it ends all."""
    world = sys.modules["mpi4py.MPI"].COMM_WORLD if "mpi4py.MPI" in sys.modules else None
    if world is None or world.rank == 0:
        return ""
    import time

    time.sleep(1.0)
    return f"rank {world.rank}: "


def _run(arguments: list[str], interrupts: list[int]) -> None:
    """Run a command, noting in ``interrupts`` each Ctrl-C: code amid it may raise what it likes."""
    import signal
    import threading
    import warnings

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    listening = plain and threading.current_thread() is threading.main_thread()
    if listening:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from segaware_np.commands.parser import parse

        try:
            options = parse(arguments)
        except SystemExit:  # after --help, which argparse does not miss if it is lost
            sys.stdout.flush()
            raise
        with warnings.catch_warnings():
            _show_notes(warnings)
            _run_command(options)
        sys.stdout.flush()
    finally:
        if listening:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_command(options: Namespace) -> None:
    """Run it; arguments that the library's errors name are the command's options."""
    try:
        options.run(options)
    except Exception as error:
        known = vars(options)
        error.args = tuple(spell(a, known) if isinstance(a, str) else a for a in error.args)
        raise


def spell(text: str, options: Container[str]) -> str:
    r"""Return a message with its arguments, ``name=value``, as options: ``--name value``.

    Parameters
    ----------
    text : str
    options : container of str
        Names of the arguments that are options.

    Examples
    --------
    >>> spell("crop them (crop=...) or take one (batch=1)", ["crop", "batch"])
    'crop them (--crop) or take one (--batch 1)'
    """
    import re

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in options:
            return found[0]
        flag = f"--{name.replace('_', '-')}"
        return flag if value in ("True", "...") else f"{flag} {value}"

    return re.sub(r"(?<=[( ])([a-z_]+)=([\w.]+)(?=[), ]|$)", option, text)


def _show_notes(warnings: Any) -> None:
    """Show what the library warns of as one line each."""
    from segaware_np.commands.terminal import visible

    plain = warnings.showwarning

    def show(message, category, *place) -> None:
        if category is UserWarning:
            _tell(f"note: {visible(str(message))}")
        else:
            plain(message, category, *place)

    warnings.showwarning = show


def _stopped() -> int:
    _tell("segaware: stopped")
    return 130


def _tell(line: str) -> None:
    """Say a line on standard error; where that cannot be written, the exit code has to do."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _drop_output()


def _prepare_streams() -> None:
    """Let any name be printed, and a file not take the place of a stream that was closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for ever)
            setattr(sys, name, null)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Lead nowhere what cannot be written: Python would try once more on its way out."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def describe(error: BaseException) -> str:
    r"""Return an error as one line; those that nobody foresaw also name their kind.

    Parameters
    ----------
    error : BaseException

    Examples
    --------
    >>> describe(ValueError("scale: expected\n a number")), describe(KeyError("x"))
    ('scale: expected a number', "KeyError: 'x' (--debug shows where)")
    """
    from segaware_np.commands.terminal import visible

    text = visible(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f": {error.filename}"
        text = visible(error.strerror + name)
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {text} (--crop or --batch may help)"
    if isinstance(error, _FORESEEN) and text:
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"
