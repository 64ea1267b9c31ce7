"""Learning-rate policies, by Caffe's formulas.

Each is a callable ``policy(iteration) -> learning rate``, with iterations counted from 0. They
raise TypeError or ValueError when an argument is out of its range.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from typing import TypeAlias

from segaware_np.options import COUNT, FINITE, NOT_NEGATIVE, check, check_options, option

Policy: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class Fixed:
    """``lr``"""

    lr: float = option(NOT_NEGATIVE)

    def __post_init__(self) -> None:
        check_options(self)

    def __call__(self, iteration: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step(Fixed):
    """``lr * gamma^floor(iteration / size)``"""

    gamma: float = option(NOT_NEGATIVE)
    size: int = option(COUNT)

    def __call__(self, iteration: int) -> float:
        return self.lr * self.gamma ** (iteration // self.size)


@dataclass(frozen=True)
class MultiStep(Fixed):
    """``lr * gamma^(number of steps that are <= iteration)``, steps in ascending order"""

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
    """``lr * gamma^iteration``"""

    gamma: float = option(NOT_NEGATIVE)

    def __call__(self, iteration: int) -> float:
        return self.lr * self.gamma**iteration


@dataclass(frozen=True)
class Inverse(Fixed):
    """``lr * (1 + gamma * iteration)^-power``"""

    gamma: float = option(NOT_NEGATIVE)
    power: float = option(FINITE)

    def __call__(self, iteration: int) -> float:
        return self.lr * (1 + self.gamma * iteration) ** -self.power


@dataclass(frozen=True)
class Polynomial(Fixed):
    """``lr * (1 - iteration / iterations)^power``, and what it is at the end from there on"""

    iterations: int = option(COUNT)
    power: float = option(NOT_NEGATIVE, 1.0)

    def __call__(self, iteration: int) -> float:
        return self.lr * (1 - min(iteration / self.iterations, 1)) ** self.power


@dataclass(frozen=True)
class Sigmoid(Fixed):
    """``lr / (1 + exp(-gamma * (iteration - size)))``: it falls where ``gamma`` is negative"""

    gamma: float = option(FINITE)
    size: int = option(COUNT)

    def __call__(self, iteration: int) -> float:
        x = self.gamma * (iteration - self.size)
        e = exp(-abs(x))  # of a negative number, so that it cannot overflow
        return self.lr * (1 if x >= 0 else e) / (1 + e)
