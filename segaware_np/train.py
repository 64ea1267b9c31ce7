"""The training loop: accumulation, checkpoints, exact resume."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segaware_np.files import FormatError, differing_arrays, load_arrays, save_arrays
from segaware_np.log import FORMATS, Log
from segaware_np.net import Net
from segaware_np.optim import NonFiniteError, Optimizer
from segaware_np.progress import progress
from segaware_np.ranges import COUNT, check_options, option
from segaware_np.xp import Array, host

_FORMAT = "segaware_np checkpoint 1"
_NAME = re.compile(r"checkpoint-\d{8,}\.npz")


class Batches(Protocol):
    """What a trainer asks of its loader, such as `data.Loader`.

    Attributes
    ----------
    state : int
        Number of the next batch.

    Examples
    --------
    >>> class Constant:
    ...     def __init__(self, batch):
    ...         self.state, self.batch = 0, batch
    ...     def __iter__(self):
    ...         while True:
    ...             self.state += 1
    ...             yield self.batch
    """

    state: int  # number of the next batch; iteration starts there and keeps it up to date

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Generate batches without end."""


@dataclass(eq=False)
class Trainer:
    """Trains a network and can be stopped, or killed, at any moment.

    The folder receives the log, ``log.jsonl`` or ``log.csv`` (see `read_log`), and checkpoints,
    ``checkpoint-00000100.npz``: weights, solver, position in the data and random state after that
    many iterations. A run that is resumed ends with the same weights, bit for bit, as one that
    was never interrupted, given the same machine and the same arguments.

    Parameters
    ----------
    net : Net
        With at least one loss layer. Left in training mode.
    optimizer : Optimizer
        Of this network's parameters; its ``iteration`` is the trainer's.
    loader : Batches
        Gives arrays by the names of the network's inputs; it goes on from its ``state``. Other
        arrays that it may give are not used.
    folder : path-like
        Made if it is missing.
    iterations : int
        To do in all, those before a resume included.
    batches : int
        Batches whose gradients are averaged in one iteration.
    checkpoint_every : int
        Iterations from one checkpoint to the next. There is one after the last, too.
    keep : int
        Checkpoints to keep, the newest ones.
    log : {"jsonl", "csv"}
        Format of the log.
    progress : bool
        Show the progress on standard error.
    settings : mapping of str to JSON-able values
        What else makes the run what it is, such as options of a program. Checkpoints keep it, and
        a resume that gives a setting another value is refused.

    Raises
    ------
    TypeError, ValueError
        If an option is out of its range, or the optimizer is another network's.

    Notes
    -----
    Of each iteration, a GPU receives the batch and returns the losses and a norm a parameter.

    Examples
    --------
    >>> from segaware_np import Net, Window, layers
    >>> from segaware_np.data import Loader, SyntheticScenes
    >>> from segaware_np.log import read_log
    >>> from segaware_np.optim import SGD
    >>> net = Net()
    >>> net.add("score", layers.Convolution(3, 6, Window(1), init=1e-3), "image")
    >>> net.add("loss", layers.SoftmaxCrossEntropy(), "score", "label", weight=1.0)
    >>> loader = Loader(SyntheticScenes(8, size=(16, 16)), batch=4)
    >>> trainer = Trainer(net, SGD(net.parameters(), lr=1e-4), loader,
    ...                   folder="run", iterations=5, progress=False)
    >>> trainer.run()
    >>> len(read_log("run/log.jsonl")), trainer.checkpoints()[-1].name
    (5, 'checkpoint-00000005.npz')
    """

    net: Net
    optimizer: Optimizer
    loader: Batches
    _: KW_ONLY
    folder: str | os.PathLike[str]
    iterations: int = option(COUNT)
    batches: int = option(COUNT, 1)
    checkpoint_every: int = option(COUNT, 100)
    keep: int = option(COUNT, 2)
    log: str = "jsonl"
    progress: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self)
        if f".{self.log}" not in FORMATS:
            raise ValueError(f"log: expected 'jsonl' or 'csv', got {self.log!r}")
        if not hasattr(self.loader, "state"):
            raise TypeError(f"loader: expected a data.Loader or the like, got {self.loader!r}")
        self._losses = [n.name for n in self.net.nodes.values() if n.weight is not None]
        if not self._losses:
            raise ValueError("net: expected at least one loss layer, got none")
        own = {id(p) for p in self.net.parameters().values()}
        strange = [name for name, p in self.optimizer.parameters.items() if id(p) not in own]
        if strange:
            raise ValueError(f"optimizer: {', '.join(strange)}: not parameters of this network")
        self._folder = Path(self.folder)
        self._settings = json.loads(json.dumps(dict(self.settings)))  # as a checkpoint gives them

    def run(self, resume: bool = False) -> None:
        """Train until ``iterations`` are done. A run that is finished stays as it is.

        Parameters
        ----------
        resume : bool
            Go on from the newest checkpoint in the folder; begin if there is none.

        Raises
        ------
        NonFiniteError
            If a loss, gradient or parameter is NaN or infinite. The checkpoints stay.
        KeyboardInterrupt
            After Ctrl-C, once the iteration under way is complete and its checkpoint written. A
            second Ctrl-C interrupts at once and writes none.
        FileExistsError
            If the folder holds a run and ``resume`` is false.
        FormatError, ValueError
            If the newest checkpoint is damaged, or is one of another network or solver, or of other
            settings.
        OSError
            If the folder cannot be written or the disk is full; nothing is left half written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        log_path = self._folder / f"log.{self.log}"
        if resume:
            self.resume()
        elif self.checkpoints() or (log_path.exists() and log_path.stat().st_size):
            raise FileExistsError(
                f"{self._folder} holds a run: go on with it (the same command with --resume, in "
                "Python run(resume=True)) or take another folder"
            )
        self.net.train()
        start = self.optimizer.iteration
        if start >= self.iterations:
            return
        with (
            Log(log_path, start) as log,
            progress(self.iterations, start, self.progress) as show,
            np.errstate(over="ignore", invalid="ignore"),  # each iteration ends with a check
            _postponed_interrupt() as interrupted,
            closing(iter(self.loader)) as batches,  # type: ignore[type-var]
        ):
            while self.optimizer.iteration < self.iterations:
                record = self._iterate(batches)
                log.write(record)
                show(f"loss {record['loss']:.4g}  lr {record['lr']:.3g}")
                done, stop = self.optimizer.iteration, interrupted.is_set()
                if stop or done == self.iterations or done % self.checkpoint_every == 0:
                    log.sync()
                    self.checkpoint()
                if stop:
                    raise KeyboardInterrupt

    def _iterate(self, batches: Iterator[dict[str, np.ndarray]]) -> dict[str, float]:
        began, number = time.perf_counter(), self.optimizer.iteration + 1
        lr, loss = float(self.optimizer.policy(number - 1)), 0.0
        self.net.zero_grad()
        for _ in range(self.batches):
            batch = next(batches, None)
            if batch is None:
                raise ValueError(f"loader: expected batches without end, got {self.loader.state}")
            self.net.forward(self._inputs(batch), self._losses)
            self.net.backward()  # before the loss is asked for, which waits for a GPU
            loss += self.net.loss / self.batches
            if not math.isfinite(loss):
                raise self._non_finite(f"iteration {number}: the loss is {loss}")
        try:
            norm = self.optimizer.step(self.batches)
        except NonFiniteError as error:
            raise self._non_finite(str(error)) from error
        seconds = time.perf_counter() - began
        return dict(iteration=number, loss=loss, lr=lr, gradient_norm=norm, seconds=seconds)

    def _inputs(self, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
        """The arrays that the network reads, where it lives; labels stay integers."""
        return {
            name: self.net.xp.asarray(a, self.net.dtype if a.dtype.kind == "f" else None)
            for name, a in batch.items()
            if name in self.net.inputs
        }

    # --------------------------------------------------------------------------- checkpoints

    def checkpoints(self) -> list[Path]:
        """The checkpoints in the folder, the oldest first."""
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))

    def checkpoint(self) -> Path:
        """Write a checkpoint now, remove those beyond ``keep``, and return its path.

        Raises
        ------
        NonFiniteError
            If a weight or an array of the solver is not finite; nothing is written.
        OSError
            If it cannot be written; those before stay.
        """
        done, (histories, counters) = self.optimizer.iteration, self.optimizer.state()
        arrays = {f"weights/{name}": array for name, array in self.net.weights().items()}
        arrays |= {f"optimizer/{name}": host(array) for name, array in histories.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self._non_finite(f"iteration {done}: {name} has become NaN or infinite")
        path = self._folder / f"checkpoint-{done:08d}.npz"
        metadata = {
            "format": _FORMAT,
            # The checksums in the file do not cover its table of contents.
            "arrays": sorted(arrays),
            "settings": self._settings,
            "description": self.net.description,  # so that `models.load` reads it
            "optimizer": counters,
            "loader": self.loader.state,
            "net": self.net.state(),
        }
        save_arrays(path, arrays, metadata)
        for old in self.checkpoints()[: -self.keep]:
            old.unlink()
        return path

    def resume(self) -> Path | None:
        """Take over the newest checkpoint; return its path, or None if there is none.

        Raises
        ------
        FormatError
            If it is damaged; the message names the newest one that is whole.
        ValueError
            If it is one of another network or solver, or of other settings; no weight was changed.
        """
        for leftover in self._folder.glob(".checkpoint-*.tmp"):  # of a killed run
            leftover.unlink()
        paths = self.checkpoints()
        if not paths:
            return None
        path = paths[-1]
        try:
            weights, histories, metadata = _read(path)
        except FormatError as error:
            whole = next((p for p in reversed(paths[:-1]) if _is_whole(p)), None)
            advice = f"remove it to resume from {whole.name}" if whole else "no other one is whole"
            raise FormatError(f"{error}; {advice}") from error
        if changed := _changes(metadata["settings"], self._settings):
            raise ValueError(
                f"{path}: the run began with {changed}: resume it as it began, or take another "
                "folder for a new one"
            )
        own = {name: p.data for name, p in self.net.parameters().items()}
        if faults := differing_arrays(own, weights):
            raise ValueError(f"{path}: checkpoint of another network: {faults}")
        self.net.set_state(metadata["net"])
        try:
            self.optimizer.set_state(histories, metadata["optimizer"])
        except ValueError as error:
            raise ValueError(f"{path}: checkpoint of another optimizer: {error}") from error
        self.net.set_weights(weights)
        self.loader.state = metadata["loader"]
        return path

    def _non_finite(self, message: str) -> NonFiniteError:
        paths = self.checkpoints()
        kept = f"the last checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"
        advice = "a lower learning rate (--lr) or a clip_norm (--clip-norm) may help"
        return NonFiniteError(f"{message}; {kept}; {advice}")


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Weights, solver arrays and the rest of a checkpoint."""
    arrays, metadata = load_arrays(path)
    kinds = {"arrays": list, "settings": dict, "optimizer": dict, "loader": int, "net": dict}
    if metadata.get("format") != _FORMAT or not all(
        isinstance(metadata.get(key), kind) for key, kind in kinds.items()
    ):
        raise FormatError(f"{path}: not a checkpoint of this version")
    if sorted(arrays) != metadata["arrays"]:
        raise FormatError(f"{path}: damaged: its arrays are not those it lists")
    weights, histories = (
        {name.removeprefix(group): a for name, a in arrays.items() if name.startswith(group)}
        for group in ("weights/", "optimizer/")
    )
    return weights, histories, metadata


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Tell in words how settings differ from those before; empty if they do not."""
    return ", ".join(
        f"{name} {value} (now {now[name]})"
        for name, value in before.items()
        if name in now and now[name] != value
    )


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except FormatError:
        return False
    return True


@contextmanager
def _postponed_interrupt() -> Iterator[threading.Event]:
    """Note a first Ctrl-C instead of raising it amid an iteration; a second one acts as ever."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread receives signals, and a program that ignores Ctrl-C is left to it.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interrupted
        return

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)
        os.write(2, b"\nstopping after this iteration; Ctrl-C again stops at once\n")

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
