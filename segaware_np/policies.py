"""Learning-rate policies, by Caffe's formulas.

Each is a callable ``policy(iteration) -> learning rate``, with iterations counted from 0. They
raise TypeError or ValueError when an argument is out of its range.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import exp
from typing import Any, TypeAlias

from segaware_np.ranges import COUNT, FINITE, NOT_NEGATIVE, check, check_options, option

Policy: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class Fixed:
    """A learning rate that stays: ``lr``. Policies are called with the iteration, from 0.

    Parameters
    ----------
    lr : float

    Raises
    ------
    TypeError, ValueError
        If an option is out of its range.

    Notes
    -----
    This policy and the others are Caffe's, by other names.

    Examples
    --------
    >>> Fixed(0.1)(1000)
    0.1
    """

    lr: float = option(NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, iteration: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step(Fixed):
    """``lr * gamma^floor(iteration / size)``

    Parameters
    ----------
    lr, gamma : float
    size : int

    Examples
    --------
    >>> policy = Step(1.0, gamma=0.5, size=10)
    >>> policy(9), policy(10), policy(20)
    (1.0, 0.5, 0.25)
    """

    gamma: float = option(NOT_NEGATIVE)
    size: int = option(COUNT)

    def __call__(self, iteration: int) -> float:
        return self.lr * self.gamma ** (iteration // self.size)


@dataclass(frozen=True)
class MultiStep(Fixed):
    """``lr * gamma^(number of steps that are <= iteration)``, steps in ascending order

    Parameters
    ----------
    lr, gamma : float
    steps : tuple of int

    Raises
    ------
    TypeError, ValueError
        If an option is out of its range, or the steps do not ascend.

    Examples
    --------
    >>> policy = MultiStep(1.0, gamma=0.5, steps=(10, 30))
    >>> policy(9), policy(10), policy(30)
    (1.0, 0.5, 0.25)
    """

    gamma: float = option(NOT_NEGATIVE)
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for step in self.steps:
            check("steps", step, COUNT)
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps: expected ascending iterations, got {self.steps}")

    def __call__(self, iteration: int) -> float:
        return self.lr * self.gamma ** bisect_right(self.steps, iteration)


@dataclass(frozen=True)
class Exponential(Fixed):
    """``lr * gamma^iteration``

    Parameters
    ----------
    lr, gamma : float

    Examples
    --------
    >>> Exponential(1.0, gamma=0.5)(3)
    0.125
    """

    gamma: float = option(NOT_NEGATIVE)

    def __call__(self, iteration: int) -> float:
        return self.lr * self.gamma**iteration


@dataclass(frozen=True)
class Inverse(Fixed):
    """``lr * (1 + gamma * iteration)^-power``

    Parameters
    ----------
    lr, gamma, power : float

    Examples
    --------
    >>> Inverse(1.0, gamma=1.0, power=2.0)(1)
    0.25
    """

    gamma: float = option(NOT_NEGATIVE)
    power: float = option(FINITE)

    def __call__(self, iteration: int) -> float:
        return self.lr * (1 + self.gamma * iteration) ** -self.power


@dataclass(frozen=True)
class Polynomial(Fixed):
    """``lr * (1 - iteration / iterations)^power``, and what it is at the end from there on

    Parameters
    ----------
    lr : float
    iterations : int
    power : float

    Examples
    --------
    >>> policy = Polynomial(1.0, iterations=100, power=2.0)
    >>> policy(0), policy(50), policy(100)
    (1.0, 0.25, 0.0)
    """

    iterations: int = option(COUNT)
    power: float = option(NOT_NEGATIVE, 1.0)

    def __call__(self, iteration: int) -> float:
        return self.lr * (1 - min(iteration / self.iterations, 1)) ** self.power


@dataclass(frozen=True)
class Sigmoid(Fixed):
    """``lr / (1 + exp(-gamma * (iteration - size)))``: it falls where ``gamma`` is negative

    Parameters
    ----------
    lr, gamma : float
    size : int

    Examples
    --------
    >>> Sigmoid(1.0, gamma=-0.1, size=10)(10)
    0.5
    """

    gamma: float = option(FINITE)
    size: int = option(COUNT)

    def __call__(self, iteration: int) -> float:
        x = self.gamma * (iteration - self.size)
        e = exp(-abs(x))  # of a negative number, so that it cannot overflow
        return self.lr * (1 if x >= 0 else e) / (1 + e)


NAMES: dict[str, type[Fixed]] = {  # as Caffe calls them
    "fixed": Fixed,
    "step": Step,
    "multistep": MultiStep,
    "exp": Exponential,
    "inv": Inverse,
    "poly": Polynomial,
    "sigmoid": Sigmoid,
}


def named(name: str, **options: Any) -> Policy:
    """Make a policy by Caffe's name of it.

    Parameters
    ----------
    name : {"fixed", "step", "multistep", "exp", "inv", "poly", "sigmoid"}
    **options
        Arguments of all policies, of which it takes its own.

    Returns
    -------
    callable

    Raises
    ------
    TypeError, ValueError
        If there is no such policy, or an option of its own is missing or out of its range.

    Examples
    --------
    >>> named("step", lr=1.0, gamma=0.5, size=10, power=2.0)
    Step(lr=1.0, gamma=0.5, size=10)
    """
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}")
    own = {field.name for field in fields(NAMES[name])}
    return NAMES[name](**{key: value for key, value in options.items() if key in own})
