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
    local_mask,
    local_mask_grad,
    normalized_mask,
    normalized_mask_grad,
)
from segaware_np.cpu.masked_sum import masked_sum, masked_sum_grad
from segaware_np.cpu.pixelwise import (
    mean_field_update,
    mean_field_update_grad,
    softmax,
    softmax_grad,
)
from segaware_np.cpu.planes import (
    average_pool,
    average_pool_grad,
    max_pool,
    max_pool_grad,
    resize,
    resize_grad,
)

__all__ = [
    "average_pool",
    "average_pool_grad",
    "col2im",
    "convolution",
    "convolution_grad",
    "distance",
    "distance_grad",
    "exponential_mask",
    "exponential_mask_grad",
    "im2col",
    "local_mask",
    "local_mask_grad",
    "masked_sum",
    "masked_sum_grad",
    "max_pool",
    "max_pool_grad",
    "mean_field_update",
    "mean_field_update_grad",
    "normalized_mask",
    "normalized_mask_grad",
    "resize",
    "resize_grad",
    "segaware_convolution",
    "segaware_convolution_grad",
    "softmax",
    "softmax_grad",
]
