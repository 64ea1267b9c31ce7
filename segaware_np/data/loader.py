"""Batches in a reproducible order, read ahead in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from segaware_np.data.augmentation import Augmentation
from segaware_np.data.datasets import Dataset
from segaware_np.data.order import shuffled
from segaware_np.ranges import COUNT, WHOLE, check

Item = TypeVar("Item")
_ORDER, _AUGMENT = 0, 1  # two independent streams of random numbers from one seed


class Loader:
    """An endless sequence of batches; batch ``i`` depends on nothing but the seed and ``i``.

    The dataset is walked through epoch after epoch, each in a fresh order; a batch may span the
    end of one epoch and the start of the next.

    Parameters
    ----------
    dataset : Dataset
    batch : int
        Images a batch.
    augmentation : Augmentation, optional
        By default only the mean is subtracted.
    seed : int
        Not negative.
    shuffle : bool
        False: the dataset's own order in every epoch.
    ahead : int
        Batches that iteration holds ready.

    Attributes
    ----------
    state : int
        Number of the next batch that iteration yields: all there is to save and restore.

    Raises
    ------
    TypeError, ValueError
        If the data set is empty or a number is out of its range.

    Examples
    --------
    >>> from segaware_np.data import SyntheticScenes
    >>> loader = Loader(SyntheticScenes(10, size=(32, 48)), batch=4)
    >>> [batch["image"].shape for _, batch in zip(range(2), loader)], loader.state
    ([(4, 3, 32, 48), (4, 3, 32, 48)], 2)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shuffle: bool = True,
        ahead: int = 2,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("dataset: expected at least one image, got none")
        check("batch", batch, COUNT)
        check("seed", seed, WHOLE)
        check("ahead", ahead, COUNT)
        self.dataset, self.size, self.seed = dataset, batch, seed
        self.augmentation = augmentation or Augmentation()
        self.shuffle, self.ahead, self.state = shuffle, ahead, 0

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """Read batch ``index``: see `part`."""
        return self.part(index)

    def part(self, index: int, part: int = 0, parts: int = 1) -> dict[str, np.ndarray]:
        """Read one of some equal parts of batch ``index``.

        Parameters
        ----------
        index : int
        part, parts : int
            Number of the part, and how many there are.

        Returns
        -------
        dict
            ``image``: (N, 3, H, W) float32; ``label``: (N, H, W) int32, if the dataset has labels.

        Raises
        ------
        TypeError, ValueError
            If ``index`` is negative, the batch cannot be cut so, its images differ in size, or
            one is no image.
        OSError, FormatError
            If a file cannot be read.
        """
        check("index", index, WHOLE)
        if not 0 <= part < parts or self.size % parts:
            raise ValueError(f"part: expected one of {parts} of {self.size} images, got {part}")
        count = self.size // parts
        first = index * self.size + part * count
        images, labels = zip(*map(self._sample, range(first, first + count)), strict=True)
        sizes = {image.shape[1:] for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f"dataset: expected images of one size in batch {index}, got {sorted(sizes)}: crop "
                "them in the augmentation (crop=...) or take one a batch (batch=1)"
            )
        batch = {"image": np.stack(images)}
        if labels[0] is not None:
            batch["label"] = np.stack(labels)
        return batch

    def _sample(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Sample ``number`` of the endless sequence of epochs."""
        epoch, position = divmod(number, len(self.dataset))
        if self.shuffle:
            position = int(shuffled(len(self.dataset), self.seed, _ORDER, epoch)[position])
        rng = np.random.default_rng((self.seed, _AUGMENT, number))
        image, labels = self.dataset[position]
        try:
            return self.augmentation(image, labels, rng)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"dataset[{position}]: {error}") from error

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches from ``state`` on, without end; the reader stops with the iterator."""
        with closing(read_ahead(self.batch, self.state, self.ahead)) as batches:
            for batch in batches:
                self.state += 1
                yield batch


def read_ahead(
    read: Callable[[int], Item], start: int, ahead: int
) -> Generator[Item, None, None]:
    """Yield ``read(start)``, ``read(start + 1)``, ... that a thread computes ``ahead`` of time.

    An exception in ``read`` is raised here, in its turn. Closing the generator, or dropping it,
    waits for the ``read`` that is under way and ends the thread.
    """
    ready: SimpleQueue[tuple[Item | None, BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(ahead)
    closed = threading.Event()

    def work() -> None:
        index = start
        while room.acquire() and not closed.is_set():
            try:
                ready.put((read(index), None))
            except BaseException as error:  # raised again where the batch is taken
                ready.put((None, error))
                return
            index += 1

    thread = threading.Thread(target=work, name="segaware-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            room.release()
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        room.release()
        thread.join()
