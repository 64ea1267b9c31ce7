"""Processes that train one network together, and how they share out its batches.

The number of ranks is no setting of a run: ranks share out the images of an iteration, sum up the
gradients in a fixed order, and take the same step. What carries their messages is behind `Ranks`;
`mpi.mpi` is one such, `Alone` a single process.
"""

from __future__ import annotations

from math import gcd
from typing import Any, NamedTuple, Protocol, TypeVar

from segaware_np.xp import Array

Value = TypeVar("Value")


class Ranks(Protocol):
    """Processes with numbers from 0, of which every one makes the same calls in the same order.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.

    Examples
    --------
    >>> def mean(ranks: Ranks, value: float) -> float:
    ...     return sum(ranks.gather(value)) / ranks.size
    >>> mean(Alone(), 3.0)
    3.0
    """

    rank: int
    size: int

    def add(self, flat: Array, own: Array) -> None:
        """Add everybody's part of `flat`, from rank 0 up, to `own`.

        Parameters
        ----------
        flat : (size * L,) array
        own : (L,) array
            Part number `rank` of the sum.
        """

    def share(self, own: Array, flat: Array) -> None:
        """Write everybody's `own` into `flat`, in the order of ranks: the same bits everywhere."""

    def gather(self, value: Value) -> list[Value]:
        """Return everybody's small object, in the order of ranks, to everybody."""

    def first(self, value: Value) -> Value:
        """Return the object of rank 0."""


class Alone:
    """One process.

    Examples
    --------
    >>> Alone().rank, Alone().size, Alone().gather("mine"), Alone().first("mine")
    (0, 1, ['mine'], 'mine')
    """

    rank, size = 0, 1

    def add(self, flat: Array, own: Array) -> None:
        """Add `flat` to `own`."""
        own += flat

    def share(self, own: Array, flat: Array) -> None:
        """Write `own` into `flat`."""
        flat[...] = own

    def gather(self, value: Value) -> list[Value]:
        """Return the one object in a list."""
        return [value]

    def first(self, value: Value) -> Value:
        """Return the object."""
        return value


class Item(NamedTuple):
    """What a rank computes in one round.

    Attributes
    ----------
    batch, part : int
        Number of the batch in the iteration, and of the part of it.

    Examples
    --------
    >>> Item(batch=1, part=0).batch
    1
    """

    batch: int
    part: int


class Plan(NamedTuple):
    """How ranks share out an iteration.

    Attributes
    ----------
    parts : int
        Into how many parts each batch is cut.
    rounds : list of Item
        What this rank computes, one after another; the parts of a batch meet in one round.

    Examples
    --------
    >>> share_out(2, 4, Alone())
    Plan(parts=1, rounds=[Item(batch=0, part=0), Item(batch=1, part=0)])
    """

    parts: int
    rounds: list[Item]


def share_out(batches: int, size: int, ranks: Any) -> Plan:
    """Return what a rank computes of an iteration of some batches of some images.

    Parameters
    ----------
    batches, size : int
    ranks : Ranks

    Raises
    ------
    ValueError
        If the images cannot be shared evenly; the message says which numbers of ranks can.

    Examples
    --------
    >>> class Third:
    ...     rank, size = 2, 4
    >>> share_out(2, 8, Third())  # two ranks a batch, four images each
    Plan(parts=2, rounds=[Item(batch=1, part=0)])
    """
    n = ranks.size
    parts = _parts(batches, n)
    if size % parts:
        can = [k for k in range(1, batches * size + 1) if size % _parts(batches, k) == 0]
        raise ValueError(
            f"ranks: {n} cannot share {batches} x {size} images evenly: {', '.join(map(str, can))} "
            "can"
        )
    items = range(ranks.rank, batches * parts, n)
    return Plan(parts, [Item(*divmod(item, parts)) for item in items])


def _parts(batches: int, ranks: int) -> int:
    return ranks // gcd(ranks, batches)
