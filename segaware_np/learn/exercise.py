"""An exercise: what the student gets, what solves it, and what people get wrong."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.files import check_file
from segaware_np.lazy import lazy
from segaware_np.learn.exercises import ORDER
from segaware_np.testing.nest import is_real

_IDENTITY = re.compile(r'^"""Exercise \d+, (\w+):', re.MULTILINE)


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, as an edit of the right one, and what to say of it.

    Attributes
    ----------
    old, new : str
        Part of the right answer, and what stands in its place.
    message : str

    Examples
    --------
    >>> from segaware_np.learn import find
    >>> mistake = find("relu").mistakes[0]
    >>> mistake.old, mistake.new
    ('(x > 0)', '(x >= 0)')
    """

    old: str
    new: str
    message: str


class Exercise:
    """One of the exercises, read from its module in `segaware_np.learn.exercises`.

    Parameters
    ----------
    name : str

    Attributes
    ----------
    name, title, hint, answer : str
        The last is the part of the solution that the student is to write.
    number : int
        From 1 on, in the order in which they build on each other.
    mistakes : list of Mistake

    Examples
    --------
    >>> exercise = Exercise("relu")
    >>> exercise.number, exercise.results
    (2, ('dx',))
    >>> print(exercise.answer)
    def backward(dy, x):
        \"""Return dx.\"""
        # Your turn: dx.
        dx = dy * (x > 0)
        return dx
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = ORDER.index(name) + 1
        self._module = import_module(f"segaware_np.learn.exercises.{name}")
        self.hint: str = self._module.HINT
        self.mistakes = [Mistake(*row) for row in self._module.MISTAKES]
        docstring, self._given, self.answer = _parts(inspect.getsource(self._module))
        self.title, self._text = docstring.split("\n", 1)

    @property
    def file(self) -> str:
        """Text of the student's file."""
        return self._file(_emptied(self.answer))

    @property
    def solution(self) -> str:
        """Text of the file, solved."""
        return self._file(self.answer)

    def mistaken(self, *mistakes: Mistake) -> str:
        """Return the text of the file, with an answer that has these mistakes.

        Raises
        ------
        ValueError
            If one of them is no edit of this answer, or not beside the others.
        """
        answer = self.answer
        for mistake in mistakes:
            if answer.count(mistake.old) != 1:
                raise ValueError(f"{self.name}: expected once in the answer: {mistake.old}")
            answer = answer.replace(mistake.old, mistake.new)
        return self._file(answer)

    def _file(self, answer: str) -> str:
        head = f'"""Exercise {self.number}, {self.name}: {self.title}\n{self._text}'
        return (
            f'{head}\n\nCheck it: segaware learn check {self.name}.py\n"""\n{self._given}{answer}'
        )

    @lazy
    def solved(self) -> ModuleType:
        """The solution, as a module."""
        return load(self.solution, f"<{self.name}, solved>")

    def trial(self, seed: int) -> tuple[Any, ...]:
        """Draw arguments for `run`."""
        rng = np.random.default_rng(seed)
        return self._trial(self._module.draw(rng), rng)

    def _trial(self, inputs: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
        if not self.has_backward:
            return inputs
        y, _ = self.solved.forward(*inputs)
        return np.asarray(rng.normal(size=np.shape(y))), *inputs

    def large_trial(self) -> tuple[tuple[Any, ...], int] | None:
        """Return larger arguments and the bytes allowed for them, if memory is part of the task."""
        if not hasattr(self._module, "large"):
            return None
        rng = np.random.default_rng(0)
        inputs, allowed = self._module.large(rng)
        return self._trial(inputs, rng), allowed

    @property
    def lacking(self) -> str:
        """What this machine lacks to check the answer; empty if nothing."""
        return self._module.lacking() if hasattr(self._module, "lacking") else ""

    @property
    def has_backward(self) -> bool:
        """Whether the answer is the backward of a forward that is given."""
        return not hasattr(self._module, "run")

    def shapes(self, trial: tuple[Any, ...]) -> str:
        """Tell the arguments of a trial, with their shapes."""
        if not self.has_backward:
            return ""
        pair = self.solved.backward, self.solved.forward
        (dy, *_), names = (list(inspect.signature(one).parameters) for one in pair)
        told = zip([dy, *names], trial, strict=True)
        return "with " + ", ".join(f"{n} {getattr(a, 'shape', repr(a))}" for n, a in told)

    def run(self, work: ModuleType, *arguments: Any) -> Any:
        """Return what the answer in a module computes."""
        if not self.has_backward:
            return self._module.run(work, *arguments)
        dy, *inputs = arguments
        return work.backward(dy, work.forward(*inputs)[1])

    @property
    def parts(self) -> list[str]:
        """Names that a student's file must define."""
        name = re.search(r"\w+(?= = |\()", self.answer)
        assert name is not None
        return ["forward"] * self.has_backward + [name[0]]

    @lazy
    def results(self) -> tuple[str, ...]:
        """Names of what the answer computes."""
        if not self.has_backward:
            return self._module.RESULTS
        names = inspect.signature(self._module.forward).parameters
        return tuple(f"d{n}" for n, a in zip(names, self.trial(0)[1:], strict=True) if is_real(a))


def _parts(source: str) -> tuple[str, str, str]:
    """The docstring, what is given, and the answer: the definition above HINT."""
    tree = ast.parse(source)
    nodes = tree.body
    hint = next(i for i, node in enumerate(nodes) if ast.unparse(node).startswith("HINT = "))
    node, lines = nodes[hint - 1], source.splitlines(keepends=True)
    given = "".join(lines[nodes[0].end_lineno : node.lineno - 1])
    answer = "".join(lines[node.lineno - 1 : node.end_lineno])
    return ast.get_docstring(tree) or "", given, answer


def _emptied(answer: str) -> str:
    """Leave out what is indented like the line "Your turn" and below it; keep the return."""
    lines = answer.splitlines()
    turn = next(i for i, line in enumerate(lines) if "Your turn" in line)
    depth = len(lines[turn]) - len(lines[turn].lstrip())
    kept = lines[: turn + 1]
    for line in lines[turn + 1 :]:
        if line.startswith("    return "):
            names = line.split("return ")[1].split(", ")
            new = [n for n in names if not any(re.search(rf"\b{n}\b.* = ", a) for a in kept)]
            kept += [f"    {' = '.join(new)} = None"] * bool(new) + [line]
        elif len(line) - len(line.lstrip()) < depth:
            kept.append(line)
    return "\n".join(kept) + "\n"


def load(text: str | bytes, name: str) -> ModuleType:
    """Run a file's text and return what it defines."""
    module = ModuleType("answer")
    module.__file__ = name
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
    return module


def find(name: str) -> Exercise:
    """Return an exercise by its name or number.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        If there is none of that name; it lists them.

    Examples
    --------
    >>> find("1").name, find("relu").number
    ('linear', 2)
    """
    if name.isdecimal() and 1 <= int(name) <= len(ORDER):
        name = ORDER[int(name) - 1]
    if name not in ORDER:
        raise ValueError(f"expected an exercise ({', '.join(ORDER)}), got {name}")
    return _read(name)


@lru_cache
def _read(name: str) -> Exercise:
    return Exercise(name)


def identify(path: Path) -> str | None:
    """Return the name of the exercise that a file answers: its first line says, or its name."""
    check_file(path)
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    told = [*_IDENTITY.findall(text), path.stem, *reversed(path.stem.split("_"))]
    return next((name for name in told if name in ORDER), None)
