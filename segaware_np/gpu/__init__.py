"""CuPy forms of the hot operations: same names, signatures and results as in `ops`.

They launch the kernels of ``raw_kernels/`` through `segaware_np.kernels`, on arrays that the ops
have checked. What is not here runs on CuPy arrays by its plain formula.
"""

from segaware_np.gpu.columns import col2im, im2col, masked_sum, masked_sum_grad
from segaware_np.gpu.convolution import (
    convolution,
    convolution_grad,
    segaware_convolution,
    segaware_convolution_grad,
)
from segaware_np.gpu.distance import distance, distance_grad, label_parity
from segaware_np.gpu.losses import (
    cross_entropy,
    cross_entropy_grad,
    hinge_loss,
    hinge_loss_grad,
    softmax,
    softmax_grad,
)
from segaware_np.gpu.mask import (
    exponential_mask,
    exponential_mask_grad,
    local_mask,
    local_mask_grad,
    normalized_mask,
    normalized_mask_grad,
)
from segaware_np.gpu.pooling import average_pool, average_pool_grad, max_pool, max_pool_grad
from segaware_np.gpu.resize import resize, resize_grad

__all__ = [
    "average_pool",
    "average_pool_grad",
    "col2im",
    "convolution",
    "convolution_grad",
    "cross_entropy",
    "cross_entropy_grad",
    "distance",
    "distance_grad",
    "exponential_mask",
    "exponential_mask_grad",
    "hinge_loss",
    "hinge_loss_grad",
    "im2col",
    "label_parity",
    "local_mask",
    "local_mask_grad",
    "masked_sum",
    "masked_sum_grad",
    "max_pool",
    "max_pool_grad",
    "normalized_mask",
    "normalized_mask_grad",
    "resize",
    "resize_grad",
    "segaware_convolution",
    "segaware_convolution_grad",
    "softmax",
    "softmax_grad",
]
