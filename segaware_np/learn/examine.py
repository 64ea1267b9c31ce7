"""Holds an answer against its exercise: what is right, and which mistake the rest looks like."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.lazy import lazy
from segaware_np.learn.exercise import Exercise, Mistake, load
from segaware_np.learn.telling import MissingError, UnfitError, quiet, telling
from segaware_np.learn.verdict import RIGHT, Verdict
from segaware_np.testing import MismatchError, ProofError, check_pure, prove
from segaware_np.testing.errors import entry
from segaware_np.testing.hints import hint
from segaware_np.testing.nest import convert, is_array
from segaware_np.testing.same import compare

TRIALS = 5
_RTOL = 1e-11  # another order of summation is right, another formula is not

Values = Sequence[np.ndarray | None]  # of one result, in each trial


def examine(exercise: Exercise, text: bytes, file: str) -> Verdict:
    """Judge a student's file by running it, here and now.

    The results are compared with those of the solution on `TRIALS` draws. What differs is compared
    with the results of the planted mistakes; the source is not looked at. An answer whose values
    are right is then proved by `segaware_np.testing`.

    Parameters
    ----------
    exercise : Exercise
    text : bytes
        Of the file.
    file : str
        Its name, for the messages.

    Returns
    -------
    Verdict
    """
    try:
        with telling(file):
            work = load(text, file)
        return _Examination(exercise, work, file).verdict()
    except UnfitError as error:
        attempted = not isinstance(error, MissingError)
        return Verdict(file, exercise.name, message=str(error), attempted=attempted)


@dataclass(frozen=True)
class _Examination:
    """An exercise, and the module that a student made of it."""

    exercise: Exercise
    work: ModuleType
    file: str

    def verdict(self) -> Verdict:
        missing = [name for name in self.exercise.parts if not hasattr(self.work, name)]
        if missing:
            raise UnfitError(f"there is no {missing[0]} in this file: `start` it anew, and compare")
        results = self.forward() | self.findings
        mistakes: dict[str, str] = {}  # message: the result beside which it stands
        for name, messages in self.recognised().items():
            for message in messages:
                owner = mistakes.setdefault(message, name)
                results[name] += f"\n{message if owner == name else f'as for {owner}'}"
            results[name] += "" if messages else self.guess(name)
        verdict = Verdict(self.file, self.exercise.name, results, list(mistakes))
        if not verdict.solved:
            return verdict
        faults, proof = self.proof()
        results |= faults | self.memory()
        return replace(verdict, proof=proof, remarks=self.remarks())

    @lazy
    def trials(self) -> list[tuple[Any, ...]]:
        return [self.exercise.trial(seed) for seed in range(TRIALS)]

    def values(self, work: ModuleType) -> dict[str, Values]:
        """What a module computes in each trial, by name of the result."""
        rows: list[list[np.ndarray | None]] = []
        for trial in self.trials:
            with telling(self.file, self.exercise.shapes(trial)), quiet(bool(rows)):
                rows.append(_row(self.exercise, work, trial))
        return {name: [row[i] for row in rows] for i, name in enumerate(self.exercise.results)}

    @lazy
    def right(self) -> dict[str, Values]:
        return self.values(self.exercise.solved)

    @lazy
    def mine(self) -> dict[str, Values]:
        mine = self.values(self.work)
        if self.exercise.has_backward:
            blank = self.values(load(self.exercise.file, "<as it was given>"))
        else:
            blank = dict.fromkeys(mine, [None] * TRIALS)
        if all(_equal(mine[name], blank[name]) for name in mine):
            raise MissingError('there is no answer yet: write it below "Your turn"')
        return mine

    @lazy
    def findings(self) -> dict[str, str]:
        return {name: _finding(name, self.mine[name], self.right[name]) for name in self.right}

    @property
    def wrong(self) -> dict[str, Values]:
        return {name: self.mine[name] for name, text in self.findings.items() if text != RIGHT}

    def recognised(self) -> dict[str, list[str]]:
        """The messages of the planted mistakes that explain each wrong result, if any do.

        Of two that explain a result, the one that agrees with more of the others is taken; where
        none does, two at a time are tried.
        """
        found: dict[str, list[str]] = {name: [] for name in self.wrong}
        many = self.exercise.has_backward  # a kernel would have to be compiled for each
        for count in (1, 2)[: 1 + many]:
            left = [name for name in found if not found[name]]
            agreeing = [
                (self.agreeing(mistakes), mistakes)
                for mistakes in combinations(self.exercise.mistakes if left else (), count)
            ]
            for names, mistakes in sorted(agreeing, key=lambda one: -len(one[0])):
                messages = [mistake.message for mistake in mistakes]
                found.update({name: messages for name in left if name in names and not found[name]})
        return found

    def agreeing(self, mistakes: Sequence[Mistake]) -> set[str]:
        """The results that are the same as of an answer with these mistakes."""
        try:
            planted = self.values(load(self.exercise.mistaken(*mistakes), "<mistaken>"))
        except (UnfitError, ValueError):
            if len(mistakes) == 1:
                raise
            return set()  # the two do not go together
        return {name for name in planted if _finding(name, self.mine[name], planted[name]) == RIGHT}

    def guess(self, name: str) -> str:
        """What the pattern of the differences tells, in words."""
        for got, want in zip(self.mine[name], self.right[name], strict=True):
            if got is None or want is None or got.shape != want.shape or got.dtype != want.dtype:
                return ""
            different = [at for at, wrong in np.ndenumerate(_different(got, want)) if wrong]
            if different:
                return f"\n{hint(got, dict(np.ndenumerate(want)), different)}".rstrip()
        return ""

    def forward(self) -> dict[str, str]:
        """Whether the given forward still computes what it did."""
        for _, *inputs in self.trials if self.exercise.has_backward else ():
            want = np.asarray(self.exercise.solved.forward(*inputs)[0])
            with telling(self.file), quiet():
                y = np.asarray(self.work.forward(*convert(inputs, np.float64))[0])
            if _finding("y", [y], [want]) != RIGHT:
                return {"forward": "computes something else than it was given to: put it back"}
        return {}

    def proof(self) -> tuple[dict[str, str], list[str]]:
        """What fails in the proofs of an answer whose values are right, or else what was proved."""
        first = self.trials[0]
        try:
            with telling(self.file), quiet():
                if not self.exercise.has_backward:
                    check_pure(lambda *a: _row(self.exercise, self.work, a), first, may_alias=True)
                    return {}, []
                pair = self.work.forward, self.backward
                report = prove(*pair, first[1:], dtypes=["float64"], may_alias=True)
        except ProofError as error:
            return {"proof": str(error)}, []
        assert report is not None
        return {}, [f"d{one.name}: {one.checked} by {one.method}" for one in report.inputs]

    def backward(self, dy: np.ndarray, cache: Any) -> tuple[np.ndarray, ...]:
        count = len(self.exercise.results)
        return tuple(map(np.asarray, _listed(self.work.backward(dy, cache), count)))

    def memory(self) -> dict[str, str]:
        """Whether the answer keeps within the memory that an exercise may set."""
        if (large := self.exercise.large_trial()) is None:
            return {}
        (dy, *inputs), allowed = large
        with telling(self.file), quiet():
            _, cache = self.work.forward(*inputs)
            tracemalloc.start()
            self.work.backward(dy, cache)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        if peak < allowed:
            return {}
        return {
            "memory": f"{peak / 1e6:.1f} MB for arguments of which {allowed / 1e6:.1f} MB is the "
            "limit: the columns, or something as large, are there at once"
        }

    def remarks(self) -> list[str]:
        """What could be better in an answer that is right: float32 should stay float32."""
        if not self.exercise.has_backward:
            return []
        arguments = convert(self.trials[0], np.float32)
        with telling(self.file), quiet():
            found = _row(self.exercise, self.work, arguments)
        named = zip(self.exercise.results, found, strict=True)
        wide = [name for name, a in named if a is not None and a.dtype != np.float32]
        if not wide:
            return []
        return [
            f"With float32 arguments {', '.join(wide)} comes back in another dtype: "
            "np.zeros(shape) is float64, and so are whole numbers times float32; "
            "np.zeros_like(x) and .astype(x.dtype) are like x."
        ]


def _row(exercise: Exercise, work: ModuleType, arguments: Sequence[Any]) -> list[np.ndarray | None]:
    """What a module computes of copies of the arguments, a value for each result."""
    with np.errstate(all="ignore"):
        found = exercise.run(work, *(a.copy() if is_array(a) else a for a in arguments))
    names = exercise.results
    values = [None] * len(names) if found is None else _listed(found, len(names))
    if len(values) != len(names):
        raise UnfitError(f"expected {len(names)} results ({', '.join(names)}), got {len(values)}")
    return [None if value is None else np.asarray(value) for value in values]


def _listed(found: Any, count: int) -> list[Any]:
    """Return the results one by one; where there is one, a list stands for an array."""
    many = isinstance(found, tuple) or (isinstance(found, list) and count > 1)
    return list(found) if many else [found]


def _finding(name: str, mine: Values, right: Values) -> str:
    """Return `RIGHT`, or what is wrong with a result."""
    for got, want in zip(mine, right, strict=True):
        if got is None or want is None:
            return "is None: not written yet"
        if got.shape != want.shape:
            return f"has shape {got.shape}, expected {want.shape}"
        if got.dtype != want.dtype:
            return f"has dtype {got.dtype}, expected {want.dtype}"
        try:
            compare(name, got, want, _RTOL)
        except MismatchError as error:
            at = error.index or ()
            return (
                f"wrong: {entry(name, at)} should be {want[at] + 0:.9g}, yours is {got[at] + 0:.9g}"
                f" ({_different(got, want).sum()} of {want.size} entries differ)"
            )
    return RIGHT


def _equal(mine: Values, blank: Values) -> bool:
    return all(
        got is want is None or (got is not None and want is not None and np.array_equal(got, want))
        for got, want in zip(mine, blank, strict=True)
    )


def _different(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    largest = np.abs(want[np.isfinite(want)]).max(initial=0)
    return ~np.isclose(got, want, rtol=0, atol=_RTOL * largest, equal_nan=True)
