"""Fast NumPy forms of the hot operations: same names, signatures and results as in `ops`."""

from segaware_np.cpu.convolution import (
    convolution,
    convolution_grad,
    segaware_convolution,
    segaware_convolution_grad,
)
from segaware_np.cpu.distance import distance, distance_grad

__all__ = [
    "convolution",
    "convolution_grad",
    "distance",
    "distance_grad",
    "segaware_convolution",
    "segaware_convolution_grad",
]
