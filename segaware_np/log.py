"""The log of a training run: one line an iteration, JSON lines or CSV."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from segaware_np.files import FormatError, check_file, lock, naming

FIELDS = ("iteration", "loss", "lr", "gradient_norm", "seconds")
FORMATS = (".jsonl", ".csv")


class Log:
    """A log that is open for the iterations after ``iteration``.

    Lines of later iterations, and a line that a killed run left unfinished, are cut off: what
    follows a resume neither repeats nor misses a line.

    Parameters
    ----------
    path : path-like
        Ends in ``.jsonl`` or ``.csv``.
    iteration : int or None
        The last iteration to keep; None leaves all lines until `cut` is called.

    Raises
    ------
    OSError
        If the file cannot be written, or another process writes it.
    FormatError
        If it is there and is no such log.

    Examples
    --------
    >>> with Log("log.csv") as log:
    ...     log.write(dict(iteration=1, loss=0.5, lr=0.1, gradient_norm=2.0, seconds=0.01))
    >>> read_log("log.csv")[0]["loss"]
    0.5
    """

    def __init__(self, path: str | os.PathLike[str], iteration: int | None = 0) -> None:
        self._path = Path(path)
        with suppress(FileNotFoundError):
            check_file(path)
        with ExitStack() as failed, naming(self._path):
            # Without a buffer: what a full disk refused would be tried again, by `close`.
            self._file = failed.enter_context(open(self._path, "ab", buffering=0))
            if lock(self._file) is False:
                raise FileExistsError(f"{path}: another process is at work on this run")
            if iteration is not None:
                self.cut(iteration)
            failed.pop_all()

    def cut(self, iteration: int) -> None:
        """Remove the lines of later iterations."""
        kept = [end for end, record in _lines(self._path) if record["iteration"] <= iteration]
        with naming(self._path):
            self._file.truncate(max(kept, default=0))
        if self._path.suffix == ".csv" and not kept:
            self._put(",".join(FIELDS))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the line of one iteration and hand it to the operating system."""
        values = {key: record[key] for key in FIELDS}
        if self._path.suffix == ".csv":
            self._put(",".join(map(repr, values.values())))
        else:
            self._put(json.dumps(values))

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def _put(self, line: str) -> None:
        rest = line.encode() + b"\n"
        with naming(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a log, also that of a run in progress: a dictionary a line.

    ``iteration`` counts from 1; ``loss`` is the mean over the iteration's batches, ``lr`` the
    learning rate, ``gradient_norm`` the global norm of the summed gradients before clipping,
    ``seconds`` what the iteration took.

    Parameters
    ----------
    path : path-like
        Ends in ``.jsonl`` or ``.csv``.

    Returns
    -------
    list of dict

    Raises
    ------
    FileNotFoundError
        If there is none.
    FormatError
        If it is no such log.

    Examples
    --------
    >>> with Log("log.jsonl") as log:
    ...     log.write(dict(iteration=1, loss=0.5, lr=0.1, gradient_norm=2.0, seconds=0.01))
    >>> read_log("log.jsonl")
    [{'iteration': 1, 'loss': 0.5, 'lr': 0.1, 'gradient_norm': 2.0, 'seconds': 0.01}]
    """
    return [record for _, record in _lines(Path(path))]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each complete line: where it ends, and its record."""
    end = 0
    check_file(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            end += len(line)
            is_header = path.suffix == ".csv" and number == 1
            if line.endswith(b"\n") and not is_header:
                try:
                    yield end, _parse(line.decode(), path.suffix)
                except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                    raise FormatError(f"{path}: line {number} is no training log") from error


def _parse(line: str, suffix: str) -> dict[str, Any]:
    if suffix == ".csv":
        values: dict[str, Any] = dict(zip(FIELDS, map(float, line.split(",")), strict=True))
    else:
        values = json.loads(line)
    return {key: int(values[key]) if key == "iteration" else float(values[key]) for key in FIELDS}
