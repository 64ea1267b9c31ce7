"""Fast NumPy forms of the hot operations: same names, signatures and results as in `ops`."""

from segaware_np.cpu.columns import col2im, im2col
from segaware_np.cpu.convolution import (
    convolution,
    convolution_grad,
    segaware_convolution,
    segaware_convolution_grad,
)
from segaware_np.cpu.distance import distance, distance_grad
from segaware_np.cpu.mask import (
    exponential_mask,
    exponential_mask_grad,
    normalized_mask,
    normalized_mask_grad,
)
from segaware_np.cpu.masked_sum import masked_sum, masked_sum_grad

__all__ = [
    "col2im",
    "convolution",
    "convolution_grad",
    "distance",
    "distance_grad",
    "exponential_mask",
    "exponential_mask_grad",
    "im2col",
    "masked_sum",
    "masked_sum_grad",
    "normalized_mask",
    "normalized_mask_grad",
    "segaware_convolution",
    "segaware_convolution_grad",
]
