"""Segmentation-aware convolution in NumPy and CuPy, with hand-written backward passes."""

from segaware_np import layers, models, ops, optim, policies
from segaware_np.net import Net
from segaware_np.threads import get_num_threads, set_num_threads
from segaware_np.train import Trainer
from segaware_np.version import __version__
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array

__all__ = [
    "Net",
    "Trainer",
    "Window",
    "__version__",
    "array_module",
    "as_array",
    "get_num_threads",
    "layers",
    "models",
    "ops",
    "optim",
    "policies",
    "set_num_threads",
]
