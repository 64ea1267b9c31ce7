"""How far a student is: a small file in the folder of the exercises."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from segaware_np.files import FormatError, atomic_write
from segaware_np.learn.exercises import ORDER

FILE = "segaware_learn.json"


@dataclass
class Progress:
    """What a student has tried and solved in a folder.

    Attributes
    ----------
    folder : Path
    attempts : dict of str to int
        How often each exercise was checked, with an answer in it.
    solved : list of str
    current : str or None
        The exercise that was started or checked last.

    Examples
    --------
    >>> Progress(Path("."), attempts={"linear": 2}, solved=["linear"]).write()
    >>> progress = Progress.read(".")
    >>> progress.state("linear"), progress.next
    ('solved', 'relu')
    """

    folder: Path
    attempts: dict[str, int] = field(default_factory=dict)
    solved: list[str] = field(default_factory=list)
    current: str | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Progress:
        """Read what `write` wrote; a folder without it has seen nothing yet.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        path = Path(folder, FILE)
        if not path.exists():
            return cls(Path(folder))
        try:
            found = json.loads(path.read_bytes())
            attempts = {name: int(n) for name, n in found["attempts"].items() if name in ORDER}
            solved = [name for name in ORDER if name in found["solved"]]
            current = found["current"] if found["current"] in ORDER else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"{path}: damaged ({error}); without it, progress begins anew"
            ) from error
        return cls(Path(folder), attempts, solved, current)

    def write(self) -> None:
        """Write it into the folder."""
        text = {"current": self.current, "solved": self.solved, "attempts": self.attempts}
        with atomic_write(self.folder / FILE) as file:
            file.write(json.dumps(text, indent=2).encode() + b"\n")

    def state(self, name: str) -> str:
        """Return in a word or two how an exercise stands."""
        tries = self.attempts.get(name, 0)
        if name in self.solved:
            return "solved"
        return f"{tries} attempt{'s' * (tries > 1)}" if tries else ""

    @property
    def next(self) -> str | None:
        """The first exercise after the current one that is not solved, else the first of all."""
        start = ORDER.index(self.current) if self.current else 0
        turned = ORDER[start:] + ORDER[:start]
        return next((name for name in turned if name not in self.solved), None)
