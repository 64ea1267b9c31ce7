"""Whether published networks run: each file parsed, built and run at a small size.

Data that is not there is drawn, parameters that would be zeros are drawn too, and whatever a file
leaves open is assumed and said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.formats.text import read_text, unknown_variables
from segaware_np.caffe.graph import layer_class
from segaware_np.caffe.net import Net, describe, state_of
from segaware_np.caffe.standins import draw, frames, stand_in
from segaware_np.files import FormatError

STAGES = ("parse", "build", "forward", "backward")
_VARIABLES = (  # what a variable without a value is assumed to be, by a word in its name
    ("DILATION", "1"), ("PAD", "1"), ("MASK", "3"), ("HALF", "161"), ("CROP", "321"),
    ("LABELS", "21"), ("CLASSES", "21"),
)
_RANDOM = ("gaussian", "msra", "uniform", "xavier")  # fillers
_FORESEEN = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)


@dataclass
class Run:
    """One pass of a network, in one phase.

    Attributes
    ----------
    phase, stage : str
        Of the state that its rules were held against.
    failed : str
        The step of `STAGES` that it did not pass; empty if it ran.
    error : str
        Why.
    size : (int, int), optional
        Of the images that it was run at; None if it has none.
    backward : bool
        Whether it has a loss, and so was run backward.
    drawn : list of str
        Data layers whose data was drawn.
    notes : list of str
        What was assumed.
    """

    phase: str
    stage: str = ""
    failed: str = ""
    error: str = ""
    size: tuple[int, int] | None = None
    backward: bool = False
    drawn: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What `check` found of a file."""

    path: str
    runs: list[Run]

    @property
    def failed(self) -> str:
        """The first step that a run of it did not pass; empty if all ran."""
        return min((run.failed for run in self.runs if run.failed), key=STAGES.index, default="")

    @property
    def drawn(self) -> list[str]:
        return _distinct(name for run in self.runs for name in run.drawn)

    @property
    def notes(self) -> list[str]:
        return _distinct(note for run in self.runs for note in run.notes)

    def line(self) -> str:
        """The report as one line."""
        for run in self.runs:
            if run.failed:
                where = f"{run.phase} {run.failed}" if run.failed != "parse" else "parse"
                return f"stops  {self.path}  {where}: {run.error.splitlines()[0]}"
        parts = [", ".join(map(_words, self.runs))]
        parts += [f"drawn data: {', '.join(self.drawn)}"] if self.drawn else []
        parts += [f"assumed: {'; '.join(self.notes)}"] if self.notes else []
        return f"runs   {self.path}  {'; '.join(parts)}"


def check(
    path: str | os.PathLike[str],
    variables: Mapping[str, object] | None = None,
    *,
    crop: str | None = None,
) -> Report:
    """Parse, build and run a network file.

    It runs with drawn parameters at the smallest of some sizes that it takes, in the phases that
    its rules name (or TRAIN, if it has a loss, else TEST); in TRAIN backward too.

    Parameters
    ----------
    path : path-like
    variables : mapping, optional
        Values of the ``${NAME}`` in it; others are assumed.
    crop : {"aligned", "zero"}, optional
        Where a Crop without ``crop_param`` begins; by default what does not fail, aligned first.

    Returns
    -------
    Report

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> text = 'input: "x" input_dim: [1, 3, 8, 8] layer { name: "y" type: "ReLU" bottom: "x" }'
    >>> check(text).runs[0].error
    "text, line 1: layer 'y' (ReLU): expected 1 tops, got 0"
    """
    text, _ = read_text(path)
    given = known_variables(text, variables)
    notes = [f"{name}={given[name]}" for name in given if name not in (variables or {})]
    try:
        spec = describe(path, "NetParameter", given)
    except FormatError as error:
        return Report(str(path), [Run("", failed="parse", error=str(error))])
    runs = [_run(spec, phase, stages, crop) for phase, stages in _states(spec)]
    runs[0].notes[:0] = notes
    return Report(str(path), runs)


def known_variables(text: str, variables: Mapping[str, object] | None = None) -> dict[str, object]:
    """Values for all ``${NAME}`` of a text: those given, others assumed."""
    given = dict(variables or {})
    return given | {name: _assumed(name) for name in unknown_variables(text, given)}


def summary(reports: list[Report]) -> list[str]:
    """Lines of a table: how many files pass each step, as they are and with drawn data."""
    whole = [report for report in reports if not report.failed]
    alone = sum(not report.drawn for report in whole)
    reached = {stage: sum(not r.failed or STAGES.index(r.failed) > k for r in reports)
               for k, stage in enumerate(STAGES)}
    lines = [f"{'files':<28}{len(reports):>6}"]
    lines += [f"{'pass ' + stage:<28}{count:>6}" for stage, count in reached.items()]
    return [*lines, f"{'run as they are':<28}{alone:>6}",
            f"{'run with drawn data':<28}{len(whole) - alone:>6}"]


# -- one state -------------------------------------------------------------------------------------


def _states(spec: Message) -> list[tuple[str, tuple[str, ...]]]:
    """The phases to run, and the stages that layers ask for in each.

    Those that the data layers are for; if they are for all, those of other rules, and of a loss.
    """
    rules = _rules(spec.layer)
    phases = _phases(_rules(layer for layer in spec.layer if not layer.bottom))
    if not phases:
        kinds = [layer_class(layer) for layer in spec.layer]
        losses = any(kind is not None and kind.loss for kind in kinds)
        weighted = any(any(layer.loss_weight) for layer in spec.layer)
        named = {*_phases(rules), *(["TRAIN"] if losses or weighted else [])}
        phases = sorted(named, reverse=True) or ["TEST"]
    stages = {phase: _distinct(stage for rule in rules for stage in rule.stage
                               if rule.phase == phase or "phase" not in rule) for phase in phases}
    return [(phase, tuple(stages[phase])) for phase in phases]


def _rules(layers: Iterable[Message]) -> list[Message]:
    return [rule for layer in layers for rule in (*layer.include, *layer.exclude)]


def _phases(rules: list[Message]) -> list[str]:
    return [p for p in ("TRAIN", "TEST") if any("phase" in r and r.phase == p for r in rules)]


def _run(spec: Message, phase: str, stages: tuple[str, ...], crop: str | None) -> Run:
    """Run in a phase without stages or, if it cannot be built, in the first stage that can."""
    runs = []
    for stage in ("", *stages):
        given = Message("NetState").replaced(stage=[stage]) if stage else None
        run = Run(phase, stage)
        runs.append(run)
        net = _build(spec, state_of(spec, given, phase), run, crop)
        if net is not None:
            _try(net, run)
            return run
    return runs[0]


def _build(spec: Message, state: Message, run: Run, crop: str | None) -> Net | None:
    """The network at the first size that it takes; None, and the reason noted, if at none."""
    try:
        found = list(frames(spec, state))
    except FormatError as error:
        run.failed, run.error = "build", str(error)
        return None
    spec = _unfilled(spec)
    for frame in found:
        for reading in (crop,) if crop else (None, "aligned", "zero"):
            ready = stand_in(spec, state, frame)
            try:
                net = Net(ready.spec, phase=run.phase, state=state, crop=reading)
            except _FORESEEN as error:
                run.failed, run.error = "build", str(error)
                if reading is None and "crop=" not in run.error:
                    break
                continue
            run.failed = run.error = ""
            run.size, run.drawn = (frame.size if net.inputs else None), ready.replaced
            run.notes += net.notes + ([f"Crop {reading}"] if reading and not crop else [])
            _fill(net, ready.kinds, frame.size)
            return net
    return None


def _unfilled(spec: Message) -> Message:
    """The description without the fillers of weights that are drawn here faster."""
    return spec.replaced(layer=[_without_fillers(layer) for layer in spec.layer] or None)


def _without_fillers(layer: Message) -> Message:
    kept = {}
    for name in ("convolution_param", "inner_product_param"):
        if name in layer and getattr(layer, name).weight_filler.type in _RANDOM:
            kept[name] = getattr(layer, name).replaced(weight_filler=None)
    return layer.replaced(**kept)


def _fill(net: Net, kinds: Mapping[str, str], size: tuple[int, int]) -> None:
    """Draw the inputs, and the parameters that would be zeros."""
    rng = np.random.default_rng(0)
    for name in net.inputs:
        blob = net.blobs[name]
        blob.data[...] = draw(name, blob.shape, kinds.get(name, "image"), size, rng)
    for step in net._graph.steps:
        step.layer.draw(rng)


def _try(net: Net, run: Run) -> None:
    """Run forward and, if there is a loss, backward."""
    run.backward = run.phase == "TRAIN" and any(any(step.loss_weights) for step in net._graph.steps)
    stage = "forward"
    try:
        with np.errstate(all="ignore"):
            outputs = net.forward()
            wrong = [name for name, array in outputs.items() if not np.isfinite(array).all()]
            if not wrong and run.backward:
                stage = "backward"
                net.backward()
                learned = net.learned().items()
                wrong = [name for name, blob in learned if not np.isfinite(blob.diff).all()]
        if wrong:
            raise FloatingPointError(f"{wrong[0]} is not finite")
    except _FORESEEN as error:
        run.failed, run.error = stage, str(error) or type(error).__name__


# -- words -----------------------------------------------------------------------------------------


def _assumed(name: str) -> str:
    """A value for a variable: by a word in its name, or 1."""
    return next((value for word, value in _VARIABLES if word in re.split(r"_|\d", name)), "1")


def _words(run: Run) -> str:
    size = f" {run.size[0]}x{run.size[1]}" if run.size else ""
    stage = f" {run.stage}" if run.stage else ""
    return f"{run.phase}{stage}{size} forward{' and backward' if run.backward else ''}"


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
