"""Solvers: how parameters follow their gradients, by Caffe's formulas.

A step does, in this order:

1. clip: if the global norm of the summed gradients exceeds ``clip_norm``, scale them down to it;
2. divide by the number of batches they were summed over;
3. add the weight decay, ``decay * decay_mult * w`` (L2) or ``decay * decay_mult * sign(w)`` (L1);
4. turn the gradient ``g`` into an update by the solver's rule, with ``rate = lr * lr_mult``;
5. subtract the update from the parameter ``w``.

The rules, in Caffe's form: Polyak 1964 (`SGD`), Nesterov 1983, Duchi et al. 2011 (`AdaGrad`),
Tieleman and Hinton 2012 (`RMSProp`), Zeiler 2012 (`AdaDelta`), Kingma and Ba 2015 (`Adam`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from segaware_np.files import differing_arrays
from segaware_np.parameter import Parameter
from segaware_np.policies import Fixed, Policy
from segaware_np.ranges import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    WHOLE,
    check,
    check_options,
    option,
)
from segaware_np.xp import Array, array_module

_CPU_BLOCK = 1 << 17  # elements: what one block of a step touches stays in a cache
_CPU_DOT = 1 << 15  # elements: a longer dot product in single precision loses more digits


class NonFiniteError(FloatingPointError):
    """A loss, a gradient or a parameter is NaN or infinite; the message says which, and when."""


@dataclass(eq=False)
class Optimizer(ABC):
    """What all solvers share: clipping, averaging, weight decay, and the state of a run.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        The arrays to learn, all of one module and one dtype, float32 or float64. Those whose
        ``lr_mult`` is 0 at this moment are frozen and left out of everything. One parameter
        under several names is learned once, under the first.
    lr : float or policy
        The learning rate, fixed or as a function of the iteration.
    weight_decay : float
        Each parameter multiplies it by its ``decay_mult``.
    regularization : {"L2", "L1"}
        What the weight decay adds to the gradient: a multiple of ``w`` or of ``sign(w)``.
    clip_norm : float, optional
        Largest global norm of the summed gradients.

    Attributes
    ----------
    iteration : int
        Number of steps done.

    Raises
    ------
    TypeError, ValueError
        If an option is out of its range, nothing is left to learn, or the arrays of the
        parameters do not fit each other.

    Examples
    --------
    >>> w = Parameter(np.array([1.0, -1.0]))
    >>> w.accumulate(np.array([3.0, 4.0]))
    >>> solver = SGD({"w": w}, lr=0.1, momentum=0.0, clip_norm=1.0)
    >>> solver.step(), w.data.round(6).tolist()  # the norm before clipping; w - 0.1 g / 5
    (5.0, [0.94, -1.08])
    """

    HISTORIES: ClassVar[tuple[str, ...]]  # the arrays that the rule keeps for each parameter

    parameters: Mapping[str, Parameter] = field(repr=False)
    lr: float | Policy
    _: KW_ONLY
    weight_decay: float = option(NOT_NEGATIVE, 0.0)
    regularization: str = "L2"
    clip_norm: float | None = option(POSITIVE, None)

    def __post_init__(self) -> None:
        check_options(self)
        if self.regularization not in ("L1", "L2"):
            raise ValueError(f"regularization: expected 'L1' or 'L2', got {self.regularization!r}")
        self.policy: Policy = self.lr if callable(self.lr) else Fixed(self.lr)
        self.iteration = 0

        once = {id(p): (name, p) for name, p in reversed([*self.parameters.items()]) if p.lr_mult}
        self.parameters = dict(reversed(once.values()))
        if not self.parameters:
            raise ValueError("parameters: expected at least one whose lr_mult is not 0, got none")
        _check_parameters(self.parameters)
        self._histories = {
            name: [self._xp.zeros_like(p.data) for _ in self.HISTORIES]
            for name, p in self.parameters.items()
        }
        # The CPU goes through an array block by block, to read and write each number once. A GPU
        # takes it whole: launches would cost more than caches gain.
        largest = max(p.data.size for p in self.parameters.values())
        self._block = min(_CPU_BLOCK, largest) if self._xp is np else largest
        self._scratch = self._new_scratch()

    @property
    def _xp(self) -> ModuleType:
        return array_module(next(iter(self.parameters.values())).data)

    def _new_scratch(self) -> Array:
        return self._xp.empty(self._block, next(iter(self.parameters.values())).data.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle and a copy keep: all but the room to calculate in."""
        return {name: value for name, value in vars(self).items() if name != "_scratch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._scratch = self._new_scratch()

    def step(self, batches: int = 1) -> float:
        """Change the parameters by their gradients, which are sums over ``batches`` batches.

        The gradients are worked in: afterwards they hold nothing of use.

        Returns
        -------
        float
            The global norm of the summed gradients, before clipping.

        Raises
        ------
        NonFiniteError
            If a gradient is not finite (or its square overflows). Nothing was changed.
        """
        check("batches", batches, COUNT)
        norm = self._gradient_norm()
        scale = 1 / batches
        if self.clip_norm is not None and norm > self.clip_norm:
            scale *= self.clip_norm / norm
        lr = float(self.policy(self.iteration))
        for name, p in self.parameters.items():
            rate, decay = lr * float(p.lr_mult), float(self.weight_decay * p.decay_mult)
            for w, g, *history in self._blocks(name, p.data, p.grad, *self._histories[name]):
                scratch = self._scratch[: w.size]
                if scale != 1:
                    g *= scale
                if decay:
                    self._add_decay(g, w, decay, scratch)
                w -= self._update(g, rate, scratch, *history)
        self.iteration += 1
        return norm

    @abstractmethod
    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        """Return what to subtract from the parameter; ``g`` and ``scratch`` may be overwritten."""

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The histories, ``{"conv1.weight/velocity": array}`` (not copies), and the counters."""
        arrays = {
            f"{name}/{key}": array
            for name, histories in self._histories.items()
            for key, array in zip(self.HISTORIES, histories, strict=True)
        }
        return arrays, {"solver": type(self).__name__, "iteration": self.iteration}

    def set_state(self, arrays: Mapping[str, Array], counters: Mapping[str, Any]) -> None:
        """Take over what `state` gave. All is checked before anything is changed.

        Raises
        ------
        TypeError, ValueError
            If it is the state of another solver or of other parameters.
        """
        mine, about = self.state()
        if counters.get("solver") != about["solver"]:
            raise ValueError(
                f"state: expected that of {about['solver']}, got {counters.get('solver')}"
            )
        check("state: iteration", counters.get("iteration"), WHOLE)
        if differences := differing_arrays(mine, arrays):
            raise ValueError(f"state: {differences}")
        for name, array in mine.items():
            array[...] = self._xp.asarray(arrays[name])
        self.iteration = int(counters["iteration"])

    def _gradient_norm(self) -> float:
        # One dot product a parameter, all brought to the host at once: for clipping and for safety.
        xp = self._xp
        squares = xp.stack([_square(p.grad) for p in self.parameters.values()]).tolist()
        for name, square in zip(self.parameters, squares, strict=True):
            if not math.isfinite(square):
                raise NonFiniteError(
                    f"iteration {self.iteration + 1}: the norm of the gradient of {name} "
                    f"is {math.sqrt(square)}"
                )
        return math.sqrt(math.fsum(squares))

    def _blocks(self, name: str, *arrays: Array) -> Iterator[list[Array]]:
        flat = [_flat(name, array) for array in arrays]
        for start in range(0, flat[0].size, self._block):
            yield [array[start : start + self._block] for array in flat]

    def _add_decay(self, g: Array, w: Array, decay: float, scratch: Array) -> None:
        if self.regularization == "L1":
            self._xp.sign(w, out=scratch)
            scratch *= decay
        else:
            self._xp.multiply(w, decay, out=scratch)
        g += scratch


@dataclass(eq=False)
class SGD(Optimizer):
    """Gradient descent with momentum. The other arguments are those of `Optimizer`.

    ``v <- momentum v + rate g``,  ``w <- w - v``

    Parameters
    ----------
    momentum : float

    Examples
    --------
    >>> w = Parameter(np.array([1.0]))
    >>> solver = SGD({"w": w}, lr=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     w.grad[:] = 1.0
    ...     _ = solver.step()
    >>> w.data.item()  # 1 - 0.5 - (0.25 + 0.5)
    -0.25
    """

    HISTORIES = ("velocity",)

    _: KW_ONLY
    momentum: float = option(FRACTION, 0.9)

    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        (v,) = history
        g *= rate
        v *= self.momentum
        v += g
        return v


@dataclass(eq=False)
class Nesterov(SGD):
    """Nesterov's accelerated gradient. The arguments are those of `SGD`.

    ``v' = momentum v + rate g``,  ``w <- w - ((1 + momentum) v' - momentum v)``

    Examples
    --------
    >>> w = Parameter(np.array([1.0]))
    >>> w.grad[:] = 1.0
    >>> _ = Nesterov({"w": w}, lr=0.5, momentum=0.5).step()
    >>> w.data.item()  # 1 - 1.5 * 0.5
    0.25
    """

    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        v = super()._update(g, rate, scratch, *history)
        # (1 + momentum) v' - momentum v = momentum v' + rate g, and g already holds rate g
        self._xp.multiply(v, self.momentum, out=scratch)
        g += scratch
        return g


@dataclass(eq=False)
class AdaGrad(Optimizer):
    """Rates that fall with the gradients seen. The other arguments are those of `Optimizer`.

    ``h <- h + g^2``,  ``w <- w - rate g / (sqrt(h) + delta)``

    Parameters
    ----------
    delta : float

    Examples
    --------
    The first step is as long as the rate, whatever the gradient:

    >>> w = Parameter(np.array([1.0, 1.0]))
    >>> w.grad[:] = [4.0, -0.1]
    >>> _ = AdaGrad({"w": w}, lr=0.5).step()
    >>> w.data.round(6).tolist()
    [0.5, 1.5]
    """

    HISTORIES = ("squares",)

    _: KW_ONLY
    delta: float = option(POSITIVE, 1e-8)

    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        (h,) = history
        self._xp.multiply(g, g, out=scratch)
        self._remember(h, scratch)
        self._xp.sqrt(h, out=scratch)
        scratch += self.delta
        g /= scratch
        g *= rate
        return g

    def _remember(self, h: Array, squares: Array) -> None:
        h += squares


@dataclass(eq=False)
class RMSProp(AdaGrad):
    """AdaGrad that forgets. The other arguments are those of `Optimizer`.

    ``h <- rms_decay h + (1 - rms_decay) g^2``,  ``w <- w - rate g / (sqrt(h) + delta)``

    Parameters
    ----------
    delta : float
    rms_decay : float

    Examples
    --------
    >>> w = Parameter(np.array([1.0]))
    >>> w.grad[:] = 4.0
    >>> _ = RMSProp({"w": w}, lr=0.1, rms_decay=0.75).step()
    >>> w.data.round(6).item()  # 1 - 0.1 * 4 / sqrt(0.25 * 16)
    0.8
    """

    _: KW_ONLY
    rms_decay: float = option(FRACTION, 0.99)

    def _remember(self, h: Array, squares: Array) -> None:
        _blend(h, squares, self.rms_decay)


@dataclass(eq=False)
class AdaDelta(Optimizer):
    """Updates scaled by those before. The other arguments are those of `Optimizer`.

    ``h <- momentum h + (1 - momentum) g^2``,  ``u = g sqrt((s + delta) / (h + delta))``,
    ``s <- momentum s + (1 - momentum) u^2``,  ``w <- w - rate u``

    Parameters
    ----------
    momentum : float
    delta : float

    Examples
    --------
    >>> w = Parameter(np.array([1.0]))
    >>> w.grad[:] = 4.0
    >>> _ = AdaDelta({"w": w}, momentum=0.75, delta=1.0).step()
    >>> w.data.round(3).item()  # 1 - 4 sqrt(1 / (0.25 * 16 + 1))
    -0.789
    """

    HISTORIES = ("squares", "squared_updates")

    lr: float | Policy = 1.0
    _: KW_ONLY
    momentum: float = option(FRACTION, 0.95)
    delta: float = option(POSITIVE, 1e-6)

    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        xp, (h, s) = self._xp, history
        xp.multiply(g, g, out=scratch)
        _blend(h, scratch, self.momentum)
        g /= xp.sqrt(xp.add(h, self.delta, out=scratch), out=scratch)
        g *= xp.sqrt(xp.add(s, self.delta, out=scratch), out=scratch)
        xp.multiply(g, g, out=scratch)
        _blend(s, scratch, self.momentum)
        g *= rate
        return g


@dataclass(eq=False)
class Adam(Optimizer):
    """Running means of g and of its square. The other arguments are those of `Optimizer`.

    ``m <- momentum m + (1 - momentum) g``,  ``v <- momentum2 v + (1 - momentum2) g^2``,
    ``w <- w - rate sqrt(1 - momentum2^t) / (1 - momentum^t) m / (sqrt(v) + delta)``, t = 1, 2, ...

    The paper's embeddings were trained with ``momentum=0``.

    Parameters
    ----------
    momentum, momentum2 : float
    delta : float

    Examples
    --------
    The first step is as long as the rate, whatever the gradient:

    >>> w = Parameter(np.array([1.0, 1.0]))
    >>> w.grad[:] = [4.0, -0.1]
    >>> _ = Adam({"w": w}, lr=0.25).step()
    >>> w.data.round(3).tolist()
    [0.75, 1.25]
    """

    HISTORIES = ("mean", "squares")

    lr: float | Policy = 1e-3
    _: KW_ONLY
    momentum: float = option(FRACTION, 0.9)
    momentum2: float = option(FRACTION, 0.999)
    delta: float = option(POSITIVE, 1e-8)

    def _update(self, g: Array, rate: float, scratch: Array, *history: Array) -> Array:
        xp, (m, v), t = self._xp, history, self.iteration + 1
        xp.multiply(g, g, out=scratch)
        _blend(v, scratch, self.momentum2)
        _blend(m, g, self.momentum)
        xp.sqrt(v, out=scratch)
        scratch += self.delta
        xp.divide(m, scratch, out=g)
        g *= rate * math.sqrt(1 - self.momentum2**t) / (1 - self.momentum**t)
        return g


def _blend(mean: Array, value: Array, keep: float) -> None:
    """``mean <- keep mean + (1 - keep) value``; overwrites ``value``."""
    mean *= keep
    value *= 1 - keep
    mean += value


def _square(gradient: Array) -> Array:
    """The square of the norm. On the CPU block by block: a long dot product would lose digits."""
    xp = array_module(gradient)
    if xp is not np:
        return xp.vdot(gradient, gradient)
    flat, step = gradient.reshape(-1), _CPU_DOT
    parts = [np.vdot(flat[i : i + step], flat[i : i + step]) for i in range(0, flat.size, step)]
    return np.asarray(math.fsum(parts))


def _flat(name: str, array: Array) -> Array:
    # A reshape of any other layout would be a copy, and the update would go nowhere.
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected C-contiguous arrays, got strides {array.strides}")
    return array.reshape(-1)


def _check_parameters(parameters: Mapping[str, Parameter]) -> None:
    """Raise unless all are of one module and one dtype, and each could be changed in place."""
    array_module(*(a for p in parameters.values() for a in (p.data, p.grad)))
    dtype = next(iter(parameters.values())).data.dtype
    for name, p in parameters.items():
        for array in (p.data, p.grad):
            if array.dtype != dtype or dtype.char not in "fd":
                raise TypeError(
                    f"{name}: expected all parameters and gradients in float32 or all in float64, "
                    f"got {array.dtype} (the first is {dtype})"
                )
            if array.shape != p.data.shape:
                raise ValueError(f"{name}: expected a gradient {p.data.shape}, got {array.shape}")
            _flat(name, array)
