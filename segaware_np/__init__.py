"""Segmentation-aware convolution in NumPy and CuPy, with hand-written backward passes."""

from segaware_np import layers, models, ops, optim
from segaware_np.net import Net
from segaware_np.version import __version__
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array

__all__ = [
    "Net",
    "Window",
    "__version__",
    "array_module",
    "as_array",
    "layers",
    "models",
    "ops",
    "optim",
]
