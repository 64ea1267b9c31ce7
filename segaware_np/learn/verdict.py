"""What a check finds."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

RIGHT = "right"
_WIDTH = 88


@dataclass(frozen=True)
class Verdict:
    """What a check finds in a student's file.

    Attributes
    ----------
    file : str
    exercise : str or None
        None if the file answers no exercise.
    results : dict of str to str
        What the answer computes, by name: "right", or what is wrong with it.
    mistakes : list of str
        Those that were recognised, in words.
    message : str
        Why the file could not be judged; empty if it was.
    proof : list of str
        What was proved of a right answer, and how.
    remarks : list of str
        What could be better in an answer that is right.
    attempted : bool
        Whether there is an answer in the file at all.
    skipped : bool
        Whether this machine lacks what the check needs.
    printed : str
        What the file printed, the beginning of it.

    Examples
    --------
    >>> verdict = Verdict("linear.py", "linear", {"dx": "right", "dbias": "is None"})
    >>> verdict.solved, verdict.mark
    (False, 0.5)
    """

    file: str
    exercise: str | None
    results: dict[str, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    message: str = ""
    proof: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    attempted: bool = True
    skipped: bool = False
    printed: str = ""

    @property
    def solved(self) -> bool:
        """Whether everything is right."""
        return bool(self.results) and not self.message and self.mark == 1

    @property
    def mark(self) -> float:
        """Share of the results that are right, 0 if the file could not be judged."""
        if self.message or not self.results:
            return 0.0
        return sum(text == RIGHT for text in self.results.values()) / len(self.results)

    @property
    def state(self) -> str:
        """ "solved", "skipped", or "not yet"."""
        return "skipped" if self.skipped else "solved" if self.solved else "not yet"

    @property
    def summary(self) -> str:
        """What is wrong, in a line."""
        wrong = ", ".join(name for name, text in self.results.items() if text != RIGHT)
        words = "; ".join([self.message.replace("\n", " "), *self.mistakes]).strip("; ")
        return ": ".join(filter(None, [wrong, words]))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {**asdict(self), "solved": self.solved, "mark": round(self.mark, 3)}

    def __str__(self) -> str:
        lines = [f"{self.exercise or self.file}: {self.state}"]
        width = max(map(len, self.results), default=0)
        for name, text in self.results.items():
            lines += ["", *_wrapped(text, f"  {name:<{width}}  ")][text == RIGHT :]
        proof = "Proved: " + "; ".join(self.proof) + "." if self.proof else ""
        for text in (self.message, proof, *self.remarks):
            lines += ["", *_wrapped(text, "  ")] if text else []
        if self.printed:
            lines += [
                "",
                "  Your file printed:",
                *textwrap.indent(self.printed, "    ").splitlines(),
            ]
        return "\n".join(lines)


def _wrapped(text: str, start: str) -> list[str]:
    blank = " " * len(start)
    lines = [
        row
        for line in text.splitlines()
        for row in textwrap.wrap(line, _WIDTH - len(start)) or [""]
    ]
    return [(blank if i else start) + line for i, line in enumerate(lines)]
