"""What cases are made from: a geometry and a seed, from which all arrays follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from segaware_np.testing import strategies as proofs
from segaware_np.testing.strategies import Geometry
from segaware_np.window import Window


@dataclass
class Problem:
    """A geometry, numbers of channels, and the arrays drawn for them, one behind the other."""

    geometry: Geometry
    seed: int
    channels: int = 2  # of the input, in each group
    outputs: int = 3  # in each group
    groups: int = 2
    biased: bool = True
    ties: bool = False  # embeddings may be equal, where distances have kinks

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.window, self.size = self.geometry.window, self.geometry.size

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def apart(self, *shape: int) -> np.ndarray:
        """Numbers from -2 to 2, all different, none of them 0: far from kinks."""
        order = self.rng.permutation(int(np.prod(shape))).reshape(shape)
        return (4 * order + 2) / max(order.size, 1) - 2

    def image(self) -> np.ndarray:
        return self.normal(*self.geometry.image(self.groups * self.channels))

    def scores(self) -> np.ndarray:
        """An image of one class or more."""
        return self.normal(*self.geometry.image(max(1, self.channels)))

    def embedding(self) -> np.ndarray:
        shape = self.geometry.image(self.pick(1, 3))
        return self.rng.integers(-2, 3, shape) / 2 if self.ties else self.apart(*shape)

    def columns(self) -> np.ndarray:
        n, _, *windows = self.geometry.result(0)
        return self.normal(n, self.groups * self.channels, self.window.size, *windows)

    def mask(self) -> np.ndarray:
        """Weights from 0 to 1, some of them exactly 0 or 1."""
        shape = self.geometry.result(self.window.size)
        return np.clip(self.rng.uniform(-0.2, 1.2, shape), 0, 1)

    def distances(self) -> np.ndarray:
        """From 0 to 10; some removed, and in one window all."""
        d = self.rng.exponential(2.0, self.geometry.result(self.window.size)).clip(max=10)
        d[self.rng.uniform(size=d.shape) < 0.3] = np.inf
        d[:1, :, 0, 0] = np.inf
        return d

    def weight(self) -> np.ndarray:
        shape = (self.groups * self.outputs, self.channels, *self.window.kernel)
        return self.normal(*shape) / 2

    def bias(self) -> np.ndarray | None:
        return self.normal(self.groups * self.outputs) if self.biased else None

    def integers(self, shape: tuple[int, ...], stop: int, ignore: int | None) -> np.ndarray:
        """Numbers below `stop`, some of them replaced by the one that is ignored."""
        found = self.rng.integers(0, stop, shape)
        if ignore is not None:
            found[self.rng.uniform(size=shape) < 0.2] = ignore
        return found.astype(self.pick("u1", "i2", "i4", "i8"))  # kernels do not know all of them

    def pooling(self) -> tuple[Window, np.ndarray]:
        """A window that is larger than its padding, and an image with a pixel in all of them.

        Perhaps an image as small as the stride allows: then the window is larger.
        """
        w = self.window
        pad = tuple(min(p, k - 1) for p, k in zip(w.pad, w.kernel, strict=True))
        axes = zip(w.kernel, w.stride, pad, w.dilation, strict=True)
        least = [max(d * (k - 1) + 2 - s - 2 * p, d, 1) for k, s, p, d in axes]
        n, c, *size = self.geometry.image(self.channels)
        size = self.pick(least, [max(sides) for sides in zip(size, least, strict=True)])
        return Window(w.kernel, w.stride, pad, w.dilation), self.apart(n, c, *size)


def problems(
    window: st.SearchStrategy[Window] | None = None,
    *,
    max_output: int = 3,
    channels: tuple[int, ...] = (1, 2),
    outputs: tuple[int, ...] = (1, 2),
    ties: bool = True,
) -> st.SearchStrategy[Problem]:
    """Draw problems, with empty batches, one to three groups and, if wanted, ties."""
    return st.builds(
        Problem,
        geometry=proofs.geometries(window, min_batch=0, max_output=max_output),
        seed=proofs.seeds(),
        channels=st.sampled_from(channels),
        outputs=st.sampled_from(outputs),
        groups=st.integers(1, 3),
        biased=st.booleans(),
        ties=st.booleans() if ties else st.just(False),
    )
