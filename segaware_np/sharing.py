"""Gradients of an iteration whose batches several ranks share out: data-parallel training."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any
from zlib import crc32

import numpy as np

from segaware_np.data.loader import read_ahead
from segaware_np.net import Net
from segaware_np.ranks import Ranks, share_out
from segaware_np.xp import Array

_AHEAD = 2  # parts that are read ahead


class Sharing:
    """One rank's part in the gradients of each iteration.

    All parameters' gradients become views into one array, which is summed over the ranks in their
    order. Where a batch is cut in parts, a part's loss weighs as the pixels (or pairs) that count
    in it, not as a mean of means.

    Parameters
    ----------
    net : Net
    losses : list of str
        Names of its losses.
    loader : data.Loader
        Or what else reads ``part(index, part, parts)`` of batches of ``size`` images.
    batches : int
        Of an iteration.
    ranks : Ranks
    exact : bool
        Add up after every round, in the order of the batches: the same bits for any number of
        ranks that leaves batches whole, for more messages.

    Raises
    ------
    TypeError, ValueError
        If the loader has no parts, or the images cannot be shared evenly.
    """

    def __init__(
        self, net: Net, losses: list[str], loader: Any, batches: int, ranks: Ranks, exact: bool
    ) -> None:
        if not (hasattr(loader, "part") and hasattr(loader, "size")):
            raise TypeError(f"loader: expected one with parts, as data.Loader has, got {loader!r}")
        self.net, self.losses, self.loader = net, losses, loader
        self.batches, self.ranks, self.exact = batches, ranks, exact
        self.parts, self.rounds = share_out(batches, loader.size, ranks)
        parameters = net.parameters().values()
        length = sum(p.data.size for p in parameters)
        self.length = -(-length // ranks.size)
        self.flat = net.xp.zeros(self.length * ranks.size, net.dtype)
        at = 0
        for p in parameters:
            p.grad = self.flat[at : at + p.data.size].reshape(p.data.shape)
            at += p.data.size

    def items(self) -> Generator[dict[str, np.ndarray], None, None]:
        """Read this rank's parts from the loader's ``state`` on, without end, ahead of time."""
        start = self.loader.state

        def read(number: int) -> dict[str, np.ndarray]:
            iteration, round_ = divmod(number, len(self.rounds))
            item = self.rounds[round_]
            batch = start + iteration * self.batches + item.batch
            return self.loader.part(batch, item.part, self.parts)

        return read_ahead(read, 0, _AHEAD)

    def gradients(
        self,
        items: Generator[dict[str, np.ndarray], None, None],
        inputs: Callable[[Mapping[str, np.ndarray]], dict[str, Array]],
    ) -> list[float]:
        """Sum up the gradients of an iteration; return this rank's losses, one a round."""
        self.flat[...] = 0
        own = self.net.xp.zeros(self.length, self.net.dtype)
        losses = []
        for item in self.rounds:
            self.net.begin(
                self.loader.state + item.batch, item.part * self.loader.size // self.parts
            )
            self.net.forward(inputs(next(items)), self.losses)
            losses.append(self._backward() / self.batches)
            if self.exact:
                self.ranks.add(self.flat, own)
                self.flat[...] = 0
        if not self.exact:
            self.ranks.add(self.flat, own)
        self.ranks.share(own, self.flat)
        self.loader.state += self.batches
        return losses

    def _backward(self) -> float:
        """Go back from the losses of a part; return what it adds to that of its batch."""
        net, weight = self.net, {name: self.net.nodes[name].weight or 0.0 for name in self.losses}
        if self.parts == 1:
            net.backward()
            return net.loss
        everyone = self.ranks.gather(net.counts())
        first = self.ranks.rank // self.parts * self.parts
        batch = everyone[first : first + self.parts]
        share = {}
        for name, count in everyone[self.ranks.rank].items():
            total = None if count is None else sum(counts[name] or 0 for counts in batch)
            share[name] = 1.0 if count is None or total is None else count / max(total, 1)
        net.backward({n: net.xp.asarray(weight[n] * share[n], net.dtype) for n in self.losses})
        return sum(weight[n] * share[n] * loss for n, loss in net.losses.items())


def fingerprint(arrays: Mapping[str, np.ndarray]) -> int:
    """Return a checksum of some arrays, by which ranks compare their weights.

    Parameters
    ----------
    arrays : mapping of str to array
    """
    found = 0
    for name in sorted(arrays):
        found = crc32(np.ascontiguousarray(arrays[name]).tobytes(), crc32(name.encode(), found))
    return found
