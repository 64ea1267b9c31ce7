"""The training loop: accumulation, checkpoints, exact resume."""

from __future__ import annotations

import json
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segaware_np.files import (
    FormatError,
    differing_arrays,
    load_arrays,
    remove_leftovers,
    save_arrays,
)
from segaware_np.log import FORMATS, Log
from segaware_np.net import Net
from segaware_np.optim import NonFiniteError, Optimizer
from segaware_np.progress import progress
from segaware_np.ranges import COUNT, check_options, option
from segaware_np.ranks import Alone, Ranks
from segaware_np.sharing import Sharing, fingerprint
from segaware_np.signals import Stop, postponed
from segaware_np.version import __version__
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
    ranks : Ranks
        Processes that share out the images of each iteration, such as `mpi.mpi()`. Their number is
        no setting of the run; the first of them writes all files.
    exact : bool
        Sum gradients in the order of the batches, so that the bits do not depend on the number of
        ranks either, as long as each batch is one rank's and no parameter is shared by layers.

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
    ranks: Ranks = field(default_factory=Alone)
    exact: bool = False

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
        self._shared: Sharing | None = None
        if self.ranks.size > 1:
            self._shared = Sharing(
                self.net, self._losses, self.loader, self.batches, self.ranks, self.exact
            )
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
        SystemExit
            After SIGTERM or SIGHUP, as after Ctrl-C; its code is 128 + the signal's number.
        FileExistsError
            If another process is at work on the folder, or it holds a run and ``resume`` is false,
            or one with a log of the other format.
        FormatError, ValueError
            If the newest checkpoint is damaged, or is one of another network or solver, or of other
            settings.
        OSError
            If the folder cannot be written or the disk is full; nothing is left half written.
        Exception
            Whatever the loader raises, as of a damaged picture, or the network: once a checkpoint
            of the iterations that are whole is written.
        """
        self._agree()
        if self.ranks.rank:
            self._follow()
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._check_log()
        # From here on the folder is this process's: the log is locked while it is open.
        with Log(self._folder / f"log.{self.log}", None) as log:
            remove_leftovers(self._folder)
            if resume:
                self.resume()
            elif self._logs() or self.checkpoints():
                raise FileExistsError(
                    f"{self._folder} holds a run: go on with it (the same call with resume=True) "
                    "or take another folder"
                )
            self.ranks.first(self._snapshot() if resume else None)
            self.net.train()
            if self.optimizer.iteration < self.iterations:
                log.cut(self.optimizer.iteration)
                self._train(log)

    def _follow(self) -> None:
        """Do what rank 0 does, but for its files."""
        if snapshot := self.ranks.first(None):
            self._restore(*snapshot)
        self.net.train()
        if self.optimizer.iteration < self.iterations:
            self._train(_NoLog())

    def _agree(self) -> None:
        """Raise on every rank unless all are about to do the same."""
        data = getattr(self.loader, "dataset", None)
        mine = {
            "version": __version__,
            "iterations": self.iterations,
            "batches": self.batches,
            "exact": self.exact,
            "images": None if data is None else len(data),
            "batch": getattr(self.loader, "size", None),
            **self._settings,
        }
        everyone = self.ranks.gather(mine)
        for rank, theirs in enumerate(everyone):
            if changed := _changes(everyone[0], theirs):
                raise ValueError(
                    f"ranks: expected all to do the same, rank 0 has {changed}, on rank {rank}"
                )

    def _logs(self) -> list[str]:
        """Formats in which the folder holds a log."""
        paths = {kind: self._folder / f"log{kind}" for kind in FORMATS}
        return [kind for kind, p in paths.items() if p.exists() and p.stat().st_size]

    def _check_log(self) -> None:
        for kind in self._logs():
            if kind != f".{self.log}":
                raise FileExistsError(
                    f"{self._folder} holds a run with log{kind}: go on with it (log={kind[1:]}) or "
                    "take another folder"
                )

    def _train(self, log: Log | _NoLog) -> None:
        """Iterate until all is done; see to it that what was done can be gone on from."""
        with (
            progress(self.iterations, self.optimizer.iteration, self._shows) as show,
            np.errstate(over="ignore", invalid="ignore"),  # each iteration ends with a check
            postponed("this iteration") as stop,
            closing(self._items()) as batches,
        ):
            asked: int | None = None  # what the ranks told each other: all go by that
            while self.optimizer.iteration < self.iterations and not self._asked(asked, stop):
                began = time.perf_counter()
                with self._kept(log):
                    loss, asked = self._backward(batches, stop)
                record = self._step(loss) | {"seconds": time.perf_counter() - began}
                log.write(record)
                done = self.optimizer.iteration
                if done == self.iterations or done % self.checkpoint_every == 0:
                    self._save(log)
                with self._kept(log):
                    show(f"loss {record['loss']:.4g}  lr {record['lr']:.3g}")
            self._save(log)
            stop.number = self._asked(asked, stop)

    def _asked(self, asked: int | None, stop: Stop) -> int | None:
        """The signal to obey: this process's own, or what the ranks have agreed on."""
        return stop.number if self._shared is None else asked

    def _save(self, log: Log | _NoLog) -> None:
        """Write a checkpoint, once all ranks are seen to have the same weights."""
        if self._shared is not None:
            self._compare(self.ranks.gather(fingerprint(self.net.weights())))
        if not self.ranks.rank:
            self._keep(log, self._place())

    def _keep(self, log: Log | _NoLog, place: dict[str, Any]) -> Path | None:
        """Write a checkpoint of the iterations done, unless there are none or it is there."""
        done = self.optimizer.iteration
        if not done or self._path(done).exists():
            return None
        log.sync()
        return self._write(place)

    @contextmanager
    def _kept(self, log: Log | _NoLog) -> Iterator[None]:
        """Write a checkpoint of the iterations that are whole if the block fails."""
        place = self._place()
        try:
            yield
        except NonFiniteError:  # which may have begun before
            raise
        except Exception:
            path = None if self.ranks.rank else self._keep(log, place)
            if path:
                warnings.warn(f"what was learned before this error is in {path}", stacklevel=1)
            raise

    @property
    def _shows(self) -> bool:
        return self.progress and not self.ranks.rank

    def _items(self) -> Any:
        """What is read for each round: batches, or this rank's parts of them."""
        return iter(self.loader) if self._shared is None else self._shared.items()

    def _shared_loss(self, shared: Sharing, items: Any, stop: Stop) -> tuple[float, int | None]:
        """Sum the gradients of all ranks; return the loss, and a signal that came to any."""
        everyone = self.ranks.gather((shared.gradients(items, self._inputs), stop.number))
        signals = [number for _, number in everyone if number is not None]
        by_round = zip(*(losses for losses, _ in everyone), strict=True)
        loss = sum((loss for losses in by_round for loss in losses), start=0.0)
        return loss, next(iter(signals), None)

    def _backward(self, batches: Any, stop: Stop) -> tuple[float, int | None]:
        """Sum the gradients of an iteration; return its loss, and a signal to any of the ranks."""
        if self._shared is None:
            return self._gradients(batches), None
        loss, asked = self._shared_loss(self._shared, batches, stop)
        if not math.isfinite(loss):
            number = self.optimizer.iteration + 1
            raise self._non_finite(f"iteration {number}: the loss is {loss}")
        return loss, asked

    def _gradients(self, batches: Any) -> float:
        """Sum the gradients of the next batches; return their mean loss."""
        number, loss = self.optimizer.iteration + 1, 0.0
        self.net.zero_grad()
        for _ in range(self.batches):
            batch = next(batches, None)
            if batch is None:
                raise ValueError(f"loader: expected batches without end, got {self.loader.state}")
            self.net.begin(self.loader.state - 1)
            self.net.forward(self._inputs(batch), self._losses)
            self.net.backward()  # before the loss is asked for, which waits for a GPU
            loss += self.net.loss / self.batches
            if not math.isfinite(loss):
                raise self._non_finite(f"iteration {number}: the loss is {loss}")
        return loss

    def _step(self, loss: float) -> dict[str, float]:
        """Change the parameters; return the record of the iteration."""
        lr = float(self.optimizer.policy(self.optimizer.iteration))
        try:
            norm = self.optimizer.step(self.batches)
        except NonFiniteError as error:
            raise self._non_finite(str(error)) from error
        return dict(iteration=self.optimizer.iteration, loss=loss, lr=lr, gradient_norm=norm)

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
        return self._write(self._place())

    def _compare(self, weights: list[int]) -> None:
        """Raise on every rank if their weights differ, as processors of two kinds make them."""
        other = [str(rank) for rank, found in enumerate(weights) if found != weights[0]]
        if other:
            raise ValueError(
                f"ranks: the weights of rank {', '.join(other)} differ from those of rank 0: "
                "expected processors of one kind and one number of threads on all"
            )

    def _snapshot(self) -> tuple[Any, ...]:
        """All that a rank needs to go on as this one."""
        histories, counters = self.optimizer.state()
        arrays = {name: host(array) for name, array in histories.items()}
        return self.net.weights(), arrays, counters, self.net.state(), self.loader.state

    def _restore(
        self,
        weights: dict[str, np.ndarray],
        histories: dict[str, np.ndarray],
        counters: dict[str, Any],
        state: dict[str, Any],
        place: int,
    ) -> None:
        self.net.set_state(state)
        self.optimizer.set_state(histories, counters)
        self.net.set_weights(weights)
        self.loader.state = place

    def _place(self) -> dict[str, Any]:
        """Where the run stands in its data and its random numbers."""
        return {"loader": self.loader.state, "net": self.net.state()}

    def _path(self, iteration: int) -> Path:
        return self._folder / f"checkpoint-{iteration:08d}.npz"

    def _write(self, place: dict[str, Any]) -> Path:
        done, (histories, counters) = self.optimizer.iteration, self.optimizer.state()
        arrays = {f"weights/{name}": array for name, array in self.net.weights().items()}
        arrays |= {f"optimizer/{name}": host(array) for name, array in histories.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self._non_finite(f"iteration {done}: {name} has become NaN or infinite")
        metadata = {
            "format": _FORMAT,
            # The checksums in the file do not cover its table of contents.
            "arrays": sorted(arrays),
            "settings": self._settings,
            "description": self.net.description,  # so that `models.load` reads it
            "optimizer": counters,
            **place,
        }
        save_arrays(self._path(done), arrays, metadata)
        for old in self.checkpoints()[: -self.keep]:
            old.unlink()
        return self._path(done)

    def resume(self) -> Path | None:
        """Take over the newest checkpoint; return its path, or None if there is none.

        Raises
        ------
        FormatError
            If it is damaged; the message names the newest one that is whole.
        ValueError
            If it is one of another network or solver, or of other settings; nothing was changed.
        """
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
        before, whose = self.net.state(), "network"
        try:
            self.net.set_state(metadata["net"])
            whose = "optimizer"
            self.optimizer.set_state(histories, metadata["optimizer"])
        except (TypeError, ValueError) as error:
            self.net.set_state(before)
            raise ValueError(f"{path}: checkpoint of another {whose}: {error}") from error
        self.net.set_weights(weights)
        self.loader.state = metadata["loader"]
        return path

    def _non_finite(self, message: str) -> NonFiniteError:
        paths = self.checkpoints()
        kept = f"the last checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"
        advice = "a lower learning rate (lr=...) or a clip_norm (clip_norm=...) may help"
        return NonFiniteError(f"{message}; {kept}; {advice}")


class _NoLog:
    """The log of a rank that keeps none."""

    def write(self, record: Mapping[str, float]) -> None:
        """Write nothing."""

    def sync(self) -> None:
        """Have nothing to wait for."""


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Weights, solver arrays and the rest of a checkpoint."""
    arrays, metadata = load_arrays(path)
    kinds = {"arrays": list, "settings": dict, "optimizer": dict, "loader": int, "net": dict}
    if (
        metadata.get("format") != _FORMAT
        or not all(isinstance(metadata.get(key), kind) for key, kind in kinds.items())
        or metadata["loader"] < 0
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
