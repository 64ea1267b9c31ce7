"""Pure operations: each formula's backward stands right under its forward."""

# ruff: noqa: F401  (__all__ below names them all)

from segaware_np.ops.columns import (
    col2im_backward,
    col2im_forward,
    im2col_backward,
    im2col_forward,
)
from segaware_np.ops.convolution import (
    column_convolution_backward,
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dropout import dropout_backward, dropout_forward
from segaware_np.ops.embedding_loss import embedding_loss_backward, embedding_loss_forward
from segaware_np.ops.join import add_backward, add_forward, concat_backward, concat_forward
from segaware_np.ops.mask import (
    exponential_mask_backward,
    exponential_mask_forward,
    normalized_mask_backward,
    normalized_mask_forward,
)
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.ops.resize import resize_backward, resize_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_explicit_backward,
    segaware_convolution_explicit_forward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import (
    softmax_backward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
    softmax_forward,
)

__all__ = [name for name in dir() if name.endswith(("_forward", "_backward"))]
