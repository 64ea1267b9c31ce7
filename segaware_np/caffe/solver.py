"""Solver: training as a solver description says, with Caffe's files for stopping and resuming."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from segaware_np import optim, policies
from segaware_np.caffe.formats import hdf5
from segaware_np.caffe.formats.schema import Message
from segaware_np.caffe.formats.wire import SolverState, read_solverstate, write_solverstate
from segaware_np.caffe.net import Net, describe
from segaware_np.files import FormatError, check_writable
from segaware_np.signals import postponed
from segaware_np.xp import Array, host

Feed = Callable[[], Mapping[str, Any]]

_NAMES = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp",
          "ADADELTA": "AdaDelta", "ADAM": "Adam"}


class _Run(NamedTuple):
    """What a snapshot of this library says beyond those of Caffe."""

    net: dict[str, int] | None
    loss: float
    losses: list[float]


class Solver:
    """A solver described by a prototxt.

    Parameters
    ----------
    path_or_text : path-like or str
        The description, or the file that holds it. Files that it names are looked for from the
        current folder and then from its own.
    net : Net, optional
        The network to train, of phase TRAIN; by default the one that the description names.
    variables : mapping, optional
        Values of the ``${NAME}`` in the solver's and the network's description.
    dtype, xp, fuse, crop
        As for `Net`, where the description names it.
    log : callable, optional
        Called with a line of text every ``display`` iterations, and after each test.

    Attributes
    ----------
    net : Net
    test_nets : list of Net
        They share the parameters of `net`.
    iteration : int
        Iterations done.
    loss : float
        Of the last iteration, averaged over ``iter_size`` batches.

    Raises
    ------
    FileNotFoundError, FormatError, ValueError
        If a file is missing, or a description is malformed or asks for what is not supported.

    Examples
    --------
    >>> solver = Solver('''
    ...     base_lr: 0.5 lr_policy: "fixed" max_iter: 10 solver_mode: CPU
    ... ''', net=Net('''
    ...     input: "x" input_shape { dim: 1 dim: 1 }
    ...     layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"
    ...             inner_product_param { num_output: 1 bias_term: false } }
    ...     layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "x" top: "loss" }
    ... ''', phase="TRAIN"))
    >>> solver.step(3, feed=lambda: {"x": np.ones((1, 1))}) > 0
    True
    """

    def __init__(
        self,
        path_or_text: str | os.PathLike[str],
        net: Net | None = None,
        variables: Mapping[str, object] | None = None,
        dtype: str | np.dtype = "float32",
        xp: ModuleType = np,
        *,
        fuse: bool = True,
        crop: str | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.param = describe(path_or_text, "SolverParameter", variables or {})
        self._folder = Path(self.param._source).parent
        _check(self.param)
        self.log = log or (lambda line: None)
        options = {"variables": variables, "dtype": dtype, "xp": xp, "fuse": fuse,
                   "crop": crop, "seed": max(self.param.random_seed, 0)}
        self.net = net or self._train_net(options)
        tests = len(self.param.test_iter) * any(self.param.test_iter)  # test_iter: 0 is no test
        self.test_nets = [self._test_net(i, net, options) for i in range(tests)]
        self._optimizer = _optimizer(self.param, self.net)
        self.loss, self._kept_at = 0.0, 0  # the iteration of the last snapshot by its own name
        self._losses: deque[float] = deque(maxlen=self.param.average_loss)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Solver is kept by snapshot and restore: a pickle would tear its "
                        "networks and histories apart")

    @property
    def iteration(self) -> int:
        return self._optimizer.iteration

    def step(self, n: int = 1, feed: Feed | None = None) -> float:
        """Do n iterations.

        An iteration clears the gradients, sums those of ``iter_size`` batches, and updates the
        parameters. Tests and snapshots are made when the description says so.

        Parameters
        ----------
        n : int
        feed : callable, optional
            Returns the inputs of the next batch, ``{"data": array, ...}``; not needed where the
            network has data layers.

        Returns
        -------
        float
            The loss of the last iteration.

        Raises
        ------
        optim.NonFiniteError
            If the loss or a gradient is not finite; the parameters are those before.
        KeyboardInterrupt, SystemExit
            After Ctrl-C, and after SIGTERM or SIGHUP, once the iteration under way is complete and
            a snapshot of it written, if there is a ``snapshot_prefix``. A second Ctrl-C acts at
            once.
        Exception
            Whatever `feed`, a data layer or the network raises: once there is such a snapshot of
            the iterations that are whole.
        FormatError
            Before the first iteration, if snapshots are asked for and cannot be written.
        """
        if self.param.snapshot:
            self._try_snapshot(self.iteration + n)
        with postponed("this iteration") as stop:
            for _ in range(n):
                with self._kept():
                    self._test_if_due()
                    loss = self._gradients(feed)
                self._update(loss)
                if self.param.snapshot and self.iteration % self.param.snapshot == 0:
                    self.snapshot(self._snapshot_name(self.iteration))
                if stop.number:
                    break
            if stop.number:
                self._keep()
        return self.loss

    def solve(self, feed: Feed | None = None) -> float:
        """Go on to ``max_iter``, and make a last snapshot unless the description says not to."""
        last = self.param.snapshot_after_train and self.param.snapshot_prefix
        if last:
            self._try_snapshot(self.param.max_iter)
        self.step(max(self.param.max_iter - self.iteration, 0), feed)
        if last and not (self.param.snapshot and self.iteration % self.param.snapshot == 0):
            self.snapshot(self._snapshot_name(self.iteration))
        self._test_if_due()
        return self.loss

    def test(self, number: int = 0) -> dict[str, Array]:
        """Run a test network (with data layers) ``test_iter`` times; return its mean outputs.

        With ``test_compute_loss`` its mean loss is among them, under the name of "test loss".
        """
        net, times = self.test_nets[number], self.param.test_iter[number]
        total: dict[str, Array] = {}
        for _ in range(times):
            outputs: dict[str, Any] = net.forward()
            if self.param.test_compute_loss:
                outputs["test loss"] = np.asarray(net.loss)
            for name, value in outputs.items():
                total[name] = total.get(name, 0) + value / times
        return total

    def snapshot(self, path: str | os.PathLike[str]) -> Path:
        """Write ``PATH.caffemodel`` and ``PATH.solverstate``; return the latter's name.

        With ``snapshot_format: HDF5`` they end in ``.h5``.
        """
        base = _base(path)
        model, state = (_with(base, suffix) for suffix in self._suffixes)
        self.net.save(model)
        extra = {"solver": self._kind, "net": self.net.state(), "loss": self.loss,
                 "losses": list(self._losses)}
        passed = sum(step < self.iteration for step in self.param.stepvalue)
        write = hdf5.write_state if state.suffix == hdf5.SUFFIX else write_solverstate
        write(
            state, SolverState(self.iteration, str(model), self._history(), passed, extra)
        )
        if str(base) == str(_base(self._snapshot_name(self.iteration))):
            self._kept_at = self.iteration
        return state

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a snapshot, as if there had been no stop.

        Parameters
        ----------
        path : path-like
            The name that was given to `snapshot`, or of the solverstate. Those of Caffe work too
            (their random state and place in the data are unknown, and start anew).

        Raises
        ------
        FileNotFoundError, FormatError
            If a file is missing or damaged.
        ValueError
            If it is the state of another solver or network. After any error nothing is changed.
        """
        base = _base(path)
        of_hdf5 = Path(path).suffix == hdf5.SUFFIX or self.param.snapshot_format == "HDF5"
        end = hdf5.SUFFIX if of_hdf5 and Path(path).suffix != ".solverstate" else ""
        state = (hdf5.read_state if end else read_solverstate)(_with(base, ".solverstate" + end))
        if state.extra.get("solver", self._kind) != self._kind:
            raise ValueError(f"{path}: a state of {state.extra['solver']}, this is {self._kind}")
        if state.iteration < 0:
            raise FormatError(f"{path}: damaged, at iteration {state.iteration}")
        history, run = self._read_history(state, path), _read_run(state.extra, path)
        model = _with(base, ".caffemodel" + end)
        self.net.copy_from(model if model.exists() or not state.learned_net else state.learned_net,
                           complete=True)
        # Nothing below can fail: all or nothing is restored.
        self._optimizer.set_state(history, {"solver": self._kind, "iteration": state.iteration})
        if run.net is not None:
            self.net.set_state(run.net)
        self.loss = run.loss
        self._losses.clear()
        self._losses.extend(run.losses)

    # -- inner working ------------------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return type(self._optimizer).__name__

    @property
    def _suffixes(self) -> tuple[str, str]:
        end = hdf5.SUFFIX if self.param.snapshot_format == "HDF5" else ""
        return ".caffemodel" + end, ".solverstate" + end

    def _snapshot_name(self, iteration: int) -> str:
        return f"{self.param.snapshot_prefix}_iter_{iteration}"

    def _try_snapshot(self, iteration: int) -> None:
        """Refuse a prefix under which nothing can be written, while nothing is lost by it."""
        try:
            for suffix in self._suffixes:
                check_writable(self._snapshot_name(iteration) + suffix)
        except (OSError, FormatError) as error:
            prefix = self.param.snapshot_prefix
            raise self.param.error(f"snapshot_prefix {prefix!r}: {error}") from error

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Write a snapshot of the iterations that are whole if the block fails."""
        before = self.net.state()
        try:
            yield
        except optim.NonFiniteError:  # which may have begun before
            raise
        except Exception:
            self.net.set_state(before)
            if path := self._keep():
                warnings.warn(f"what was learned before this error is in {path}", stacklevel=1)
            raise

    def _keep(self) -> Path | None:
        """Write a snapshot of the iterations done, if there are any, a place, and none yet."""
        if self.param.snapshot_prefix and self.iteration != self._kept_at:
            return self.snapshot(self._snapshot_name(self.iteration))
        return None

    def _gradients(self, feed: Feed | None) -> float:
        """Sum the gradients of an iteration's batches; return their mean loss."""
        batches = self.param.iter_size
        self.net.clear_diffs()
        loss = 0.0
        for _ in range(batches):
            self.net.forward(feed() if feed else {})
            self.net.backward()
            loss += self.net.loss / batches
        if not np.isfinite(loss):
            raise optim.NonFiniteError(f"iteration {self.iteration + 1}: the loss is {loss}")
        return loss

    def _update(self, loss: float) -> None:
        rate = self._optimizer.policy(self.iteration)
        self._optimizer.step(self.param.iter_size)
        self.loss = loss
        self._losses.append(loss)
        if self.param.display and (self.iteration - 1) % self.param.display == 0:
            mean = sum(self._losses) / len(self._losses)
            self.log(f"iteration {self.iteration}, loss {mean:.6g}, rate {rate:.6g}")

    def _test_if_due(self) -> None:
        every, done = self.param.test_interval, self.iteration
        if not every or done % every or (done == 0 and not self.param.test_initialization):
            return
        for number in range(len(self.test_nets)):
            for name, value in self.test(number).items():
                self.log(f"test {number} at {done}: {name} = {host(value).ravel()[:8].tolist()}")

    def _train_net(self, options: dict[str, Any]) -> Net:
        param = self.param
        given = [name for name in ("train_net_param", "train_net", "net_param", "net")
                 if name in param]
        if len(given) != 1:
            raise param.error("expected one of net, net_param, train_net and train_net_param, "
                              f"got {', '.join(given) or 'none'}")
        source = getattr(param, given[0])
        state = param.train_state if "train_state" in param else None
        return Net(self._found(source), phase="TRAIN", state=state, **options)

    def _test_net(self, i: int, net: Net | None, options: dict[str, Any]) -> Net:
        param = self.param
        sources = [*param.test_net_param, *param.test_net]
        if i >= len(sources):
            sources += [source for source in (param.net_param if "net_param" in param else None,
                                              param.net) if source] * (i + 1)
        if i >= len(sources):
            raise param.error(f"test_iter {i}: there is no test net")
        state = param.test_state[i] if i < len(param.test_state) else None
        test = Net(self._found(sources[i]), phase="TEST", state=state, **options)
        test.share_from(self.net)
        return test

    def _found(self, source: Any) -> Any:
        """A file named in the description, from here or from the description's folder."""
        if isinstance(source, Message) or Path(source).exists():
            return source
        beside = self._folder / source
        return beside if beside.exists() else Path(source)

    def _history(self) -> list[np.ndarray]:
        """Caffe's order: the first kind of history of all parameters, then the second."""
        arrays, _ = self._optimizer.state()
        return [
            host(arrays[f"{name}/{key}"] if f"{name}/{key}" in arrays
                 else np.zeros(blob.data.shape, blob.data.dtype))
            for key in self._optimizer.HISTORIES
            for name, blob in self.net.learned().items()
        ]

    def _read_history(
        self, state: SolverState, path: str | os.PathLike[str]
    ) -> dict[str, np.ndarray]:
        wanted, _ = self._optimizer.state()
        names = [f"{name}/{key}" for key in self._optimizer.HISTORIES
                 for name in self.net.learned()]
        if len(names) != len(state.history):
            raise ValueError(f"{path}: expected {len(names)} arrays of history, "
                             f"got {len(state.history)}")
        history = {}
        for name, array in zip(names, state.history, strict=True):
            if name in wanted:
                if array.size != wanted[name].size:
                    raise ValueError(f"{path}: {name}: expected {wanted[name].shape}, "
                                     f"got {array.shape}")
                history[name] = array.reshape(wanted[name].shape).astype(wanted[name].dtype)
        return history


def _read_run(extra: Mapping[str, Any], path: str | os.PathLike[str]) -> _Run:
    if "net" not in extra:
        return _Run(None, 0.0, [])
    try:
        net = {name: index(extra["net"][name]) for name in ("seed", "passes")}
        run = _Run(net, float(extra["loss"]), [float(loss) for loss in extra["losses"]])
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: damaged state ({type(error).__name__}: {error})") from error
    if min(net.values()) < 0:
        raise FormatError(f"{path}: damaged state (expected numbers of at least 0, got {net})")
    return run


def _check(param: Message) -> None:
    if param.regularization_type not in ("L1", "L2"):
        raise param.error(f"regularization_type: expected L1 or L2, "
                          f"got {param.regularization_type!r}")
    if param.snapshot and not param.snapshot_prefix:
        raise param.error("snapshot needs a snapshot_prefix")
    if param.snapshot_diff:
        raise param.error("snapshots are files without diffs")
    least = {"iter_size": 1, "average_loss": 1, "test_interval": 0, "snapshot": 0, "display": 0,
             "max_iter": 0}
    for field, bound in least.items():
        if getattr(param, field) < bound:
            raise param.error(f"{field}: expected at least {bound}, got {getattr(param, field)}")
    if min(param.test_iter, default=0) < 0:
        raise param.error(f"test_iter: expected at least 0, got {min(param.test_iter)}")
    if any(param.test_iter) and not param.test_interval:
        raise param.error("test_iter needs a test_interval")
    nets = len(param.test_net) + len(param.test_net_param)
    if nets > len(param.test_iter):
        raise param.error(f"test_iter: expected one for each of {nets} test nets, "
                          f"got {len(param.test_iter)}")


def _policy(param: Message) -> policies.Policy:
    if param.lr_policy not in policies.NAMES:
        raise param.error(f"lr_policy: expected one of {', '.join(policies.NAMES)}, "
                          f"got {param.lr_policy!r}")
    try:
        return policies.named(
            param.lr_policy, lr=param.base_lr, gamma=param.gamma, power=param.power,
            size=param.stepsize, steps=tuple(param.stepvalue), iterations=param.max_iter,
        )
    except (TypeError, ValueError) as error:
        raise param.error(f"lr_policy {param.lr_policy!r}: {error}") from None


def _optimizer(param: Message, net: Net) -> optim.Optimizer:
    kind = param.type if "type" in param else _NAMES[param.solver_type]
    if kind not in _NAMES.values():
        raise param.error(f"type: expected one of {', '.join(_NAMES.values())}, got {kind!r}")
    if kind in ("AdaGrad", "RMSProp") and param.momentum:
        raise param.error(f"type {kind!r} has no momentum")
    if kind == "RMSProp" and "rms_decay" not in param:
        raise param.error("type 'RMSProp' without rms_decay: it is 0 in the authors' Caffe and in "
                          "that of its time, 0.99 in the later one: write which")
    fields = {"SGD": ["momentum"], "Nesterov": ["momentum"], "AdaGrad": ["delta"],
              "RMSProp": ["delta", "rms_decay"], "AdaDelta": ["momentum", "delta"],
              "Adam": ["momentum", "momentum2", "delta"]}[kind]
    options: dict[str, Any] = {field: getattr(param, field) for field in fields}
    if param.clip_gradients >= 0:
        options["clip_norm"] = param.clip_gradients
    try:
        return getattr(optim, kind)(
            net.learned(), _policy(param), weight_decay=param.weight_decay,
            regularization=param.regularization_type, **options,
        )
    except (TypeError, ValueError) as error:
        raise param.error(str(error)) from None


def _base(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    path = path.with_suffix("") if path.suffix == hdf5.SUFFIX else path
    return path.with_suffix("") if path.suffix in (".solverstate", ".caffemodel") else path


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)
