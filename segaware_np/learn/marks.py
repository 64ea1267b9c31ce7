"""A table of marks for a folder of submissions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from segaware_np.learn.process import check
from segaware_np.learn.verdict import Verdict


def submissions(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the Python files in a folder and the folders in it, sorted; hidden ones are left out.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no Python file in it.

    Examples
    --------
    >>> import os
    >>> os.mkdir("ada"), open("ada/relu.py", "w").close()
    (None, None)
    >>> [path.as_posix() for path in submissions(".")]
    ['ada/relu.py']
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    found = [
        path
        for path in sorted(Path(folder).rglob("*.py"))
        if path.is_file()
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise FileNotFoundError(f"no Python file in {folder}")
    return found


def check_all(
    files: Sequence[str | os.PathLike[str]], *, seconds: float = 10.0, megabytes: int = 1024
) -> list[Verdict]:
    """Judge many files, several at a time. Parameters and errors are those of `check`.

    Parameters
    ----------
    files : sequence of path-like

    Returns
    -------
    list of Verdict
        In the order of the files.

    Examples
    --------
    >>> check_all([])
    []
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(check, seconds=seconds, megabytes=megabytes), files))


def table(verdicts: Sequence[Verdict]) -> str:
    """Return marks as a table: file, exercise, mark, what is wrong.

    Parameters
    ----------
    verdicts : sequence of Verdict

    Examples
    --------
    >>> print(table([Verdict("ada.py", "relu", {"dx": "right"})]))
    file    exercise  mark  what is wrong
    ada.py  relu      1
    """
    rows = [("file", "exercise", "mark", "what is wrong")]
    for one in verdicts:
        mark = "-" if one.skipped else f"{one.mark:.2g}"
        rows.append((one.file, one.exercise or "?", mark, one.summary))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([*(f"{c:<{w}}" for c, w in zip(row[:3], widths, strict=True)), row[3]]).rstrip()
        for row in rows
    )
