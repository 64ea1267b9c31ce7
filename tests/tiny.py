"""Small arrays, networks and runs for tests, and the check of an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from segaware_np import models, optim
from segaware_np.data import Augmentation, Loader, SyntheticScenes
from segaware_np.net import Net
from segaware_np.train import Trainer


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def labels(*shape: int, value: int = 0) -> np.ndarray:
    return np.full(shape, value, np.int32)


def network(seed: int = 0, **options) -> Net:
    return models.segmentation_network(6, (4,), (1,), seed=seed, **options)


def trainer(net: Net | None = None, folder: str = "run", **options) -> Trainer:
    net = net or network()
    scenes = SyntheticScenes(2, size=(8, 8))
    loader = Loader(scenes, 1, Augmentation())
    options = {"iterations": 1, "progress": False, **options}
    return Trainer(net, optim.SGD(net.parameters(), 1e-3), loader, folder=folder, **options)


def check(call: Callable, error: type[BaseException], message: str) -> None:
    """Raise unless the call raises exactly this error and its message holds this text."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)
