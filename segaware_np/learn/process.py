"""Checks a student's file in a process of its own, within limits of time and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import IO

from segaware_np.learn.exercise import find, identify
from segaware_np.learn.verdict import Verdict

_KEPT = 4000  # characters of what a file prints
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")


def check(file: str | os.PathLike[str], *, seconds: float = 10.0, megabytes: int = 1024) -> Verdict:
    """Judge a student's file.

    It runs in a process of its own, which is ended after a time. These are limits, not a sandbox:
    the file may do whatever its user may, read, write and delete files among it.

    Parameters
    ----------
    file : path-like
        Its first line, or its name, tells which exercise it answers.
    seconds : float
        Wall-clock time that it may take.
    megabytes : int
        Memory that it may take, beyond that of the check itself; on Linux only.

    Returns
    -------
    Verdict

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If a limit is not positive.
    RuntimeError
        If the check itself fails, which is no fault of the file.

    Examples
    --------
    >>> from segaware_np.learn import find
    >>> open("linear.py", "w").write(find("linear").solution) > 0
    True
    >>> check("linear.py").solved
    True
    """
    if not (seconds > 0 and megabytes > 0):
        raise ValueError(f"seconds, megabytes: expected positive, got {seconds} and {megabytes}")
    name = identify(Path(file))
    if name is None:
        return Verdict(
            str(file),
            None,
            message="which exercise is this? The first line of a file "
            "that `start` wrote tells, or the name of the file, as linear.py",
        )
    exercise = find(name)
    if exercise.lacking:
        return Verdict(str(file), name, message=exercise.lacking, skipped=True)
    with TemporaryDirectory() as folder:
        target = Path(folder, "verdict.json")
        arguments = [name, str(Path(file).resolve()), str(target), str(megabytes)]
        ending, printed = _run(arguments, folder, seconds)
        if not target.exists():
            return Verdict(str(file), name, message=ending, printed=printed)
        found = json.loads(target.read_text(encoding="utf-8"))
        if "error" in found:
            raise RuntimeError(f"the check of {file} failed:\n{found['error']}")
        return replace(Verdict(**found), file=str(file), printed=printed)


def _run(arguments: list[str], folder: str, seconds: float) -> tuple[str, str]:
    """Run the worker in a folder of its own; return how it ended and what it printed."""
    home = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "segaware_np.learn.worker", *arguments],
        cwd=folder,
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed: list[str] = []
    reader = Thread(target=_read, args=(process.stdout, printed), daemon=True)
    reader.start()
    try:
        ending = _ending(process.wait(seconds))
    except subprocess.TimeoutExpired:
        ending = f"not done after {seconds:g} seconds: is there a loop that never ends?"
    finally:
        _end(process)
        reader.join(1)
    return ending, "".join(printed)


def _read(stream: IO[bytes], printed: list[str]) -> None:
    """Keep the beginning of what is printed, and let the rest go."""
    printed.append(stream.read(_KEPT).decode(errors="replace"))
    if stream.read(1):
        printed.append("\n... and more")
        while stream.read(1 << 16):
            pass


def _ending(code: int) -> str:
    if code < 0:
        return f"your file made Python crash ({signal.Signals(-code).name})"
    return f"your file ended the program in the middle of the check (exit status {code})"


def _end(process: subprocess.Popen) -> None:
    """End a process and, where it is possible, those that it started."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
