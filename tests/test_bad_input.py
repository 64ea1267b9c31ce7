"""Bad calls: each gives the documented exception and message, before any work is done.

One line a call: what is called, the exception, and what its message must say. Every call runs in
an empty folder, which must be as empty afterwards: nothing half written stays behind.
"""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np import optim
from segaware_np.data import Augmentation, Loader, SyntheticScenes
from segaware_np.ops.columns import col2im_forward, im2col_forward
from segaware_np.ops.convolution import (
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dropout import dropout_forward
from segaware_np.ops.embedding_loss import embedding_loss_forward
from segaware_np.ops.join import add_forward, concat_forward
from segaware_np.ops.mask import exponential_mask_forward, normalized_mask_forward
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import average_pool_forward, max_pool_forward
from segaware_np.ops.relu import relu_forward
from segaware_np.ops.resize import resize_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_explicit_forward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import softmax_cross_entropy_forward, softmax_forward
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array, check_array


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


def labels(*shape: int, value: int = 0) -> np.ndarray:
    return np.full(shape, value, np.int32)


W3 = Window.same(3)
X, WEIGHT, MASK = zeros(2, 4, 6, 5), zeros(3, 4, 3, 3), zeros(2, 9, 6, 5)
_, CONVOLVED = convolution_forward(X, WEIGHT, window=W3)
_, MASKED = segaware_convolution_forward(X, MASK, WEIGHT, window=W3)
_, MEASURED = distance_forward(X, W3)
D = zeros(2, 9, 6, 5)

WINDOWS = [
    (lambda: Window(0), ValueError, "kernel: expected at least 1, got 0"),
    (lambda: Window(3, stride=0), ValueError, "stride: expected at least 1, got 0"),
    (lambda: Window(3, dilation=-1), ValueError, "dilation: expected at least 1, got -1"),
    (lambda: Window(3, pad=-1), ValueError, "pad: expected at least 0, got -1"),
    (lambda: Window(3, pad=(1, -2)), ValueError, "pad: expected at least 0, got (1, -2)"),
    (lambda: Window(2.5), TypeError, "kernel: expected an integer or a pair of integers, got 2.5"),
    (lambda: Window((3, 3, 3)), TypeError, "kernel: expected an integer or a pair of integers"),
    (lambda: Window("3"), TypeError, "kernel: expected an integer or a pair of integers, got '3'"),
    (lambda: im2col_forward(zeros(1, 1, 2, 9), Window(5)), ValueError,
     "kernel 5 with dilation 1 spans 5 pixels, more than the padded height 2 + 2*0"),
    (lambda: convolution_forward(X, WEIGHT, window=Window(3, dilation=3)), ValueError,
     "kernel 3 with dilation 3 spans 7 pixels, more than the padded height 6 + 2*0"),
    (lambda: distance_forward(zeros(1, 2, 0, 4), W3), ValueError, "more than the padded height 0"),
]
ARRAYS = [
    (lambda: array_module([1.0]), TypeError, "expected a NumPy or CuPy array, got list"),
    (lambda: as_array(zeros(2), xp=array_module), TypeError, "expected a array_module array"),
    (lambda: check_array("x", X, (1, "C", "H", "W")), ValueError,
     "x: expected shape (1, C, H, W), got (2, 4, 6, 5)"),
    (lambda: im2col_forward([[1.0]], W3), TypeError, "x: expected a NumPy or CuPy array, got list"),
    (lambda: im2col_forward(zeros(4, 6, 5), W3), ValueError,
     "x: expected shape (N, C, H, W), got (4, 6, 5)"),
    (lambda: im2col_forward(X.astype(int), W3), TypeError, "x: expected a float array, got int64"),
    (lambda: im2col_forward(None, W3), TypeError, "x: expected a NumPy or CuPy array"),
    (lambda: relu_forward("x"), TypeError, "x: expected a NumPy or CuPy array, got str"),
]
OPS = [
    (lambda: col2im_forward(zeros(2, 4, 9, 6, 5), (6, 6), W3), ValueError,
     "cols: expected shape (N, C, 9, 6, 6), got (2, 4, 9, 6, 5)"),
    (lambda: distance_forward(X, W3, norm="L3"), ValueError,
     "norm: expected 'L1' or 'L2', got 'L3'"),
    (lambda: distance_forward(X.astype("i4"), W3), TypeError, "embedding: expected a float array"),
    (lambda: distance_backward(zeros(2, 9, 5, 5), MEASURED), ValueError,
     "expected shape (2, 9, 6, 5), got (2, 9, 5, 5)"),
    (lambda: label_parity_forward(zeros(1, 6, 5), W3), TypeError,
     "labels: expected a integer array, got float32"),
    (lambda: label_parity_forward(np.zeros((1, 6, 5), "u1"), W3, ignore_label=256), ValueError,
     "ignore_label: 256 does not fit labels of uint8"),
    (lambda: exponential_mask_forward(D, float("nan")), ValueError,
     "scale: expected a finite number, got nan"),
    (lambda: normalized_mask_forward(D, float("inf")), ValueError,
     "scale: expected a finite number, got inf"),
    (lambda: exponential_mask_forward(D, zeros(2)), ValueError,
     "scale: expected one number, got shape (2,)"),
    (lambda: exponential_mask_forward(zeros(9, 6, 5), 1.0), ValueError, "distance: expected shape"),
    (lambda: convolution_forward(X, zeros(3, 5, 3, 3), window=W3), ValueError,
     "weight: expected shape"),
    (lambda: convolution_forward(X, WEIGHT, zeros(4), window=W3), ValueError,
     "bias: expected shape (3,), got (4,)"),
    (lambda: convolution_forward(X, WEIGHT.astype("f8"), window=W3), TypeError,
     "weight: expected dtype float32, got float64"),
    (lambda: convolution_forward(X, WEIGHT, window=Window(5, pad=2)), ValueError,
     "weight: expected shape"),
    (lambda: convolution_forward(X, WEIGHT, window=W3, groups=3), ValueError,
     "groups: expected a divisor of the 4 channels, got 3"),
    (lambda: convolution_forward(X, WEIGHT, window=W3, groups=0), ValueError,
     "groups: expected a divisor of the 4 channels, got 0"),
    (lambda: convolution_backward(zeros(2, 3, 6, 6), CONVOLVED), ValueError,
     "dy: expected shape (2, 3, 6, 5), got (2, 3, 6, 6)"),
    (lambda: convolution_backward(zeros(2, 3, 6, 5), CONVOLVED, need={"mask"}), ValueError,
     "need: expected names out of ['bias', 'weight', 'x'], got ['mask']"),
    (lambda: column_convolution_forward(zeros(2, 4, 8, 6, 5), WEIGHT), ValueError,
     "weight: expected a kernel of 8 taps to match columns, got 3x3"),
    (lambda: segaware_convolution_forward(X, zeros(2, 9, 6, 6), WEIGHT, window=W3), ValueError,
     "mask: expected shape (2, 9, 6, 5), got (2, 9, 6, 6)"),
    (lambda: segaware_convolution_forward(X, MASK > 0, WEIGHT, window=W3), TypeError,
     "mask: expected a float array, got bool"),
    (lambda: segaware_convolution_explicit_forward(X, zeros(1, 9, 6, 5), WEIGHT, window=W3),
     ValueError, "mask: expected shape (2, 9, 6, 5), got (1, 9, 6, 5)"),
    (lambda: segaware_convolution_backward(zeros(2, 3, 6, 5, dtype="float64"), MASKED), TypeError,
     "dy: expected dtype float32, got float64"),
    (lambda: max_pool_forward(X, Window(3, 2, 3)), ValueError, "window: expected pad < kernel"),
    (lambda: average_pool_forward(X, Window(2, 2, 2)), ValueError, "window: expected pad < kernel"),
    (lambda: resize_forward(X, 7), TypeError, "size: expected a pair of integers, got 7"),
    (lambda: resize_forward(X, (0, 4)), ValueError, "size: expected at least one pixel each way"),
    (lambda: concat_forward(), ValueError, "xs: expected at least one array"),
    (lambda: concat_forward(X, zeros(2, 4, 6, 6)), ValueError, "got (2, 4, 6, 6)"),
    (lambda: add_forward(X, zeros(2, 3, 6, 5)), ValueError, "got (2, 3, 6, 5)"),
    (lambda: dropout_forward(X, 1.0, 0), ValueError, "ratio: expected a number in [0, 1), got 1.0"),
    (lambda: softmax_forward(zeros(3)), ValueError, "x: expected shape (N, C, ...) with C > 0"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=4)), ValueError,
     "labels: expected classes 0 to 3 or the ignore label"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=-1)), ValueError,
     "labels: expected classes 0 to 3"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 5, 6)), ValueError,
     "labels: expected shape (2, 6, 5), got (2, 5, 6)"),
    (lambda: softmax_cross_entropy_forward(X, zeros(2, 6, 5)), TypeError,
     "labels: expected a integer array, got float32"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), alpha=2.0, beta=0.5), ValueError,
     "alpha, beta: expected 0 < alpha < beta, got 2.0 and 0.5"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 4)), ValueError, "parity: expected shape"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), hinge="cubic"), ValueError,
     "hinge: expected 'linear' or 'squared', got 'cubic'"),
]


@pytest.mark.parametrize(("call", "error", "message"), [*WINDOWS, *ARRAYS, *OPS])
def test_bad_call(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert message in str(caught.value)
