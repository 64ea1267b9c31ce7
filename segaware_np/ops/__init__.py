"""Pure operations: a file begins with the formula and its gradient, then says how they are called.

``X_forward(inputs, ...)`` returns its result and a cache, a named tuple that you can look into;
``X_backward(d_result, cache)`` returns the gradients in the order of the inputs. Neither writes to
its arguments. A cache holds the forward's inputs and sometimes its output, not copies of them:
leave those as they are until `backward` has run.

Arrays are NumPy's or CuPy's, floating point where nothing else is said, those of one call of one
dtype, in one place. Every operation raises TypeError or ValueError, with the argument's name, where
shapes, dtypes or array modules do not go together; what else it raises stands under its Raises.
"""

from segaware_np.ops.batch_norm import batch_norm_backward, batch_norm_forward
from segaware_np.ops.bilateral import bilateral_filter_backward, bilateral_filter_forward
from segaware_np.ops.columns import col2im_backward, col2im_forward, im2col_backward, im2col_forward
from segaware_np.ops.convolution import (
    column_convolution_backward,
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.dense_mean_field import (
    dense_mean_field_backward,
    dense_mean_field_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dot_product import dot_product_backward, dot_product_forward
from segaware_np.ops.dropout import dropout_backward, dropout_forward
from segaware_np.ops.elementwise import (
    absolute_backward,
    absolute_forward,
    exponential_backward,
    exponential_forward,
    power_backward,
    power_forward,
)
from segaware_np.ops.embedding_loss import embedding_loss_backward, embedding_loss_forward
from segaware_np.ops.gaussian_filter import (
    gaussian_filter_backward,
    gaussian_filter_forward,
    permutohedral_lattice,
)
from segaware_np.ops.join import (
    add_backward,
    add_forward,
    concat_backward,
    concat_forward,
    maximum_backward,
    maximum_forward,
    product_backward,
    product_forward,
)
from segaware_np.ops.mask import (
    exponential_mask_backward,
    exponential_mask_forward,
    local_mask_backward,
    local_mask_forward,
    normalized_mask_backward,
    normalized_mask_forward,
)
from segaware_np.ops.masked_sum import masked_sum_backward, masked_sum_forward
from segaware_np.ops.mean_field import mean_field_backward, mean_field_forward
from segaware_np.ops.neighborhood_attention import (
    neighborhood_attention_backward,
    neighborhood_attention_forward,
)
from segaware_np.ops.normalized_convolution import (
    normalized_convolution_backward,
    normalized_convolution_forward,
)
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from segaware_np.ops.position import position_image
from segaware_np.ops.relu import relu_backward, relu_forward
from segaware_np.ops.resize import resize_backward, resize_forward
from segaware_np.ops.scale import scale_backward, scale_forward
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
from segaware_np.ops.tile import tile_backward, tile_forward
from segaware_np.ops.transposed_convolution import (
    transposed_convolution_backward,
    transposed_convolution_forward,
)

__all__ = [
    "absolute_backward",
    "absolute_forward",
    "add_backward",
    "add_forward",
    "average_pool_backward",
    "average_pool_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "bilateral_filter_backward",
    "bilateral_filter_forward",
    "col2im_backward",
    "col2im_forward",
    "column_convolution_backward",
    "column_convolution_forward",
    "concat_backward",
    "concat_forward",
    "convolution_backward",
    "convolution_forward",
    "dense_mean_field_backward",
    "dense_mean_field_forward",
    "distance_backward",
    "distance_forward",
    "dot_product_backward",
    "dot_product_forward",
    "dropout_backward",
    "dropout_forward",
    "embedding_loss_backward",
    "embedding_loss_forward",
    "exponential_backward",
    "exponential_forward",
    "exponential_mask_backward",
    "exponential_mask_forward",
    "gaussian_filter_backward",
    "gaussian_filter_forward",
    "im2col_backward",
    "im2col_forward",
    "label_parity_forward",
    "local_mask_backward",
    "local_mask_forward",
    "masked_sum_backward",
    "masked_sum_forward",
    "max_pool_backward",
    "max_pool_forward",
    "maximum_backward",
    "maximum_forward",
    "mean_field_backward",
    "mean_field_forward",
    "neighborhood_attention_backward",
    "neighborhood_attention_forward",
    "normalized_convolution_backward",
    "normalized_convolution_forward",
    "normalized_mask_backward",
    "normalized_mask_forward",
    "permutohedral_lattice",
    "position_image",
    "power_backward",
    "power_forward",
    "product_backward",
    "product_forward",
    "relu_backward",
    "relu_forward",
    "resize_backward",
    "resize_forward",
    "scale_backward",
    "scale_forward",
    "segaware_convolution_backward",
    "segaware_convolution_explicit_backward",
    "segaware_convolution_explicit_forward",
    "segaware_convolution_forward",
    "softmax_backward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "softmax_forward",
    "tile_backward",
    "tile_forward",
    "transposed_convolution_backward",
    "transposed_convolution_forward",
]
