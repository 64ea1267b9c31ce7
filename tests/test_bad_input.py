"""Bad calls: each gives the documented exception and message, before any work is done.

One line a call: what is called, the exception, and what its message must say. Every call runs in
an empty folder, which must be as empty afterwards: nothing half written stays behind.
"""

from __future__ import annotations

import numpy as np
import pytest
from tiny import check, labels, network, trainer, zeros

from segaware_np import layers, models, optim, policies
from segaware_np.crf import refine
from segaware_np.data import (
    Augmentation,
    ImageFolder,
    Loader,
    PairList,
    SyntheticScenes,
    VOCFolder,
)
from segaware_np.files import load_arrays, save_arrays
from segaware_np.images import overlay, read_image, write_image, write_labels
from segaware_np.inference import embed, evaluate, predict
from segaware_np.metrics import Confusion, Evaluation, boundary_band
from segaware_np.net import Net
from segaware_np.ops.batch_norm import BatchNormCache, batch_norm_backward, batch_norm_forward
from segaware_np.ops.bilateral import bilateral_filter_forward
from segaware_np.ops.columns import (
    ColumnsCache,
    col2im_backward,
    col2im_forward,
    im2col_backward,
    im2col_forward,
)
from segaware_np.ops.convolution import (
    column_convolution_forward,
    convolution_backward,
    convolution_forward,
)
from segaware_np.ops.distance import distance_backward, distance_forward
from segaware_np.ops.dot_product import dot_product_forward
from segaware_np.ops.dropout import dropout_forward
from segaware_np.ops.embedding_loss import embedding_loss_forward
from segaware_np.ops.join import add_forward, concat_forward
from segaware_np.ops.mask import (
    exponential_mask_forward,
    local_mask_backward,
    local_mask_forward,
    normalized_mask_forward,
)
from segaware_np.ops.masked_sum import masked_sum_forward
from segaware_np.ops.mean_field import mean_field_backward, mean_field_forward
from segaware_np.ops.neighborhood_attention import (
    neighborhood_attention_backward,
    neighborhood_attention_forward,
)
from segaware_np.ops.normalized_convolution import normalized_convolution_forward
from segaware_np.ops.parity import label_parity_forward
from segaware_np.ops.pooling import average_pool_forward, max_pool_forward
from segaware_np.ops.relu import relu_forward
from segaware_np.ops.resize import resize_forward
from segaware_np.ops.scale import scale_forward
from segaware_np.ops.segaware_convolution import (
    segaware_convolution_backward,
    segaware_convolution_explicit_forward,
    segaware_convolution_forward,
)
from segaware_np.ops.softmax import softmax_cross_entropy_forward, softmax_forward
from segaware_np.ops.tile import TileCache, tile_backward
from segaware_np.ops.transposed_convolution import transposed_convolution_forward
from segaware_np.plot import draw_masks, masks_at
from segaware_np.train import Trainer
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array, check_array

W3 = Window.same(3)
X, WEIGHT, MASK = zeros(2, 4, 6, 5), zeros(3, 4, 3, 3), zeros(2, 9, 6, 5)
_, CONVOLVED = convolution_forward(X, WEIGHT, window=W3)
_, MASKED = segaware_convolution_forward(X, MASK, WEIGHT, window=W3)
_, MEASURED = distance_forward(X, W3)
_, LOCAL = local_mask_forward(X, 1.0, W3)
_, ATTENDED = neighborhood_attention_forward(X, X, X, W3)
D = zeros(2, 9, 6, 5)


def attention(*arrays, **options):
    return neighborhood_attention_forward(*arrays, W3, **options)


def mean_field(f2=None, ws=None, **options):
    options = {"window1": W3, "iterations": 1, **options}
    return mean_field_forward(X, X, X, f2, ws, zeros(4, 4), zeros(4, 4), **options)



def one_score():
    net = Net()
    net.add("score", layers.Convolution(3, 1, Window(1)), "image")
    return net


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
FOREIGN = type("Tensor", (), {"__dlpack__": None})()
LAST = zeros(2, 6, 5, 4)  # channels last
NO_WINDOW = "window: expected a Window: Window(3), or Window.same(3) to keep the size, got 3"
NO_WINDOWS = [
    *(
        (call, TypeError, NO_WINDOW)
        for call in (
            lambda: im2col_forward(X, 3),
            lambda: col2im_forward(zeros(2, 4, 9, 6, 5), (6, 5), 3),
            lambda: distance_forward(X, 3),
            lambda: local_mask_forward(X, 1.0, 3),
            lambda: label_parity_forward(labels(2, 6, 5), 3),
            lambda: convolution_forward(X, WEIGHT, window=3),
            lambda: transposed_convolution_forward(X, zeros(4, 3, 3, 3), window=3),
            lambda: segaware_convolution_forward(X, MASK, WEIGHT, window=3),
            lambda: segaware_convolution_explicit_forward(X, MASK, WEIGHT, window=3),
            lambda: normalized_convolution_forward(X, X, WEIGHT, window=3),
            lambda: masked_sum_forward(X, MASK, 3),
            lambda: bilateral_filter_forward(X, X, 1.0, window=3),
            lambda: max_pool_forward(X, 3),
            lambda: average_pool_forward(X, 3),
            lambda: layers.Convolution(4, 6, 3),
            lambda: layers.SegawareConvolution(4, 6, 3),
            lambda: layers.MaxPool(3),
            lambda: layers.AveragePool(3),
            lambda: layers.Distance(3),
            lambda: layers.BilateralFilter(3),
            lambda: layers.EmbeddingLoss(3),
            lambda: masks_at(X[0], [(0, 0)], 3, 1.0),
            lambda: draw_masks(IMAGE, zeros(3, 4, 5), [(0, 0)], 3, 1.0),
            lambda: refine(zeros(2, 4, 5), IMAGE, window=3),
        )
    ),
    (lambda: max_pool_forward(X, (3, 3)), TypeError, "to keep the size, got (3, 3)"),
    (lambda: mean_field(window1=3), TypeError, "window1: expected a Window: Window(3), or Win"),
    (lambda: mean_field(window2=3), TypeError, "window2: expected a Window: Window(3), or Win"),
    (lambda: layers.BilateralFilter(W3, "L3"), ValueError,
     "norm: expected 'L1', 'L2' or None, got 'L3'"),
    (lambda: layers.NormalizedConvolution(3, 3, W3, scale=np.nan), ValueError, "scale: expected"),
    (lambda: layers.MeanField(3, 3, W3), TypeError, "window1: expected a Window"),
]
ARRAYS = [
    (lambda: relu_forward(FOREIGN), TypeError,
     "x: expected a NumPy or CuPy array, got Tensor (segaware_np.as_array makes one of it)"),
    (lambda: array_module([1.0]), TypeError, "got list (segaware_np.as_array makes one of it)"),
    (lambda: convolution_forward(LAST, WEIGHT, window=W3), ValueError,
     "x: expected shape (N, 4, H, W) to go with weight, got (2, 6, 5, 4) (channels last?"),
    (lambda: convolution_forward(LAST, zeros(6, 2, 3, 3), window=W3, groups=2), ValueError,
     "x: expected shape (N, 4, H, W) to go with weight, got (2, 6, 5, 4) (channels last?"),
    (lambda: segaware_convolution_forward(LAST, zeros(2, 9, 5, 4), WEIGHT, window=W3), ValueError,
     "x: expected shape (N, 4, H, W) to go with weight, got (2, 6, 5, 4) (channels last?"),
    (lambda: NET.forward({"image": zeros(1, 8, 9, 3)}, ["score"]), ValueError, "channels last?"),
    (lambda: array_module([1.0]), TypeError, "expected a NumPy or CuPy array, got list"),
    (lambda: as_array(zeros(2), xp=array_module), TypeError, "expected a array_module array"),
    (lambda: check_array("x", X, (1, "C", "H", "W")), ValueError,
     "x: expected shape (1, C, H, W), got (2, 4, 6, 5)"),
    (lambda: im2col_forward([[1.0]], W3), TypeError, "x: expected a NumPy or CuPy array, got list"),
    (lambda: im2col_forward(zeros(4, 6, 5), W3), ValueError,
     "x: expected shape (N, C, H, W), got (4, 6, 5)"),
    (lambda: im2col_forward(X.astype(int), W3), TypeError, "x: expected a float array, got int64"),
    (lambda: im2col_forward(None, W3), TypeError, "x: expected a NumPy or CuPy array, got None"),
    (lambda: convolution_forward(X.astype(">f4"), WEIGHT.astype(">f4"), window=W3), TypeError,
     "x: expected native byte order, got dtype '>f4'"),
    (lambda: relu_forward("x"), TypeError, "x: expected a NumPy or CuPy array, got str"),
]
OPS = [
    (lambda: col2im_forward(zeros(2, 4, 9, 6, 5), (6, 6), W3), ValueError,
     "cols: expected shape (N, C, 9, 6, 6), got (2, 4, 9, 6, 5)"),
    (lambda: col2im_forward(zeros(2, 4, 9, 6, 5), (6,), W3), TypeError,
     "shape: expected a pair of integers, got (6,)"),
    (lambda: im2col_backward(zeros(2, 4, 9, 6, 6), ColumnsCache((6, 5), W3)), ValueError,
     "dcols: expected shape (N, C, 9, 6, 5), got (2, 4, 9, 6, 6)"),
    (lambda: col2im_backward(zeros(2, 4, 7, 5), ColumnsCache((6, 5), W3)), ValueError,
     "dx: expected shape (N, C, 6, 5), got (2, 4, 7, 5)"),
    (lambda: distance_forward(X, W3, norm="L3"), ValueError,
     "norm: expected 'L1' or 'L2', got 'L3'"),
    (lambda: distance_forward(X.astype("i4"), W3), TypeError, "embedding: expected a float array"),
    (lambda: distance_backward(zeros(2, 9, 5, 5), MEASURED), ValueError,
     "expected shape (2, 9, 6, 5), got (2, 9, 5, 5)"),
    (lambda: label_parity_forward(zeros(1, 6, 5), W3), TypeError,
     "labels: expected an integer array, got float32"),
    (lambda: label_parity_forward(np.zeros((1, 6, 5), "u1"), W3, ignore_label=256), ValueError,
     "ignore_label: 256 does not fit labels of uint8"),
    (lambda: label_parity_forward(np.zeros((1, 6, 5), bool), W3, ignore_label=255), ValueError,
     "ignore_label: 255 does not fit labels of bool"),
    (lambda: dot_product_forward(X, X[:, :2], W3), ValueError, "key: expected shape (2, 4, 6, 5)"),
    (lambda: dot_product_forward(X, X, 3), TypeError, "window: expected a Window"),
    (lambda: attention(X, X.astype("f8"), X), TypeError, "key: expected dtype float32"),
    (lambda: attention(X, X, X[..., :4]), ValueError, "value: expected shape (2, D, 6, 5)"),
    (lambda: attention(X, X, X, heads=3), ValueError,
     "heads: expected a divisor of the 4 channels of query, got 3"),
    (lambda: attention(X, X, X[:, :3], heads=2), ValueError,
     "heads: expected a divisor of the 3 channels of value, got 2"),
    (lambda: attention(X, X, X, heads=0), ValueError, "heads: expected"),
    (lambda: attention(X, X, X, bias=zeros(1, 9)), ValueError,
     "bias: expected shape (1, 3, 3), got (1, 9)"),
    (lambda: neighborhood_attention_backward(zeros(2, 4, 5, 5), ATTENDED), ValueError,
     "dy: expected shape (2, 4, 6, 5), got (2, 4, 5, 5)"),
    (lambda: neighborhood_attention_backward(X, ATTENDED, {"x"}), ValueError,
     "need: expected names out of ['bias', 'key', 'query', 'value'], got ['x']"),
    (lambda: local_mask_forward(X, 1.0, W3, norm="L3"), ValueError,
     "norm: expected 'L1' or 'L2', got 'L3'"),
    (lambda: local_mask_forward(X, float("nan"), W3), ValueError,
     "scale: expected a finite number, got nan"),
    (lambda: local_mask_backward(D[:1], LOCAL), ValueError, "dmask: expected shape"),
    (lambda: local_mask_backward(D, LOCAL, {"mask"}), ValueError,
     "need: expected names out of ['embedding', 'scale'], got ['mask']"),
    (lambda: exponential_mask_forward(D, float("nan")), ValueError,
     "scale: expected a finite number, got nan"),
    (lambda: normalized_mask_forward(D, float("inf")), ValueError,
     "scale: expected a finite number, got inf"),
    (lambda: exponential_mask_forward(D, zeros(2)), ValueError,
     "scale: expected shape (), got (2,)"),
    (lambda: exponential_mask_forward(D, "much"), TypeError,
     "scale: expected a number or a 0-d array, got 'much'"),
    (lambda: normalized_mask_forward(D, np.array(1)), TypeError,
     "scale: expected a float array, got int64"),
    (lambda: exponential_mask_forward(zeros(9, 6, 5), 1.0), ValueError, "distance: expected shape"),
    (lambda: convolution_forward(X, zeros(3, 7, 3, 3), window=W3), ValueError,
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
    (lambda: max_pool_forward(zeros(1, 1, 1, 5), Window((2, 1), 1, (1, 0), 2)), ValueError,
     "has windows in the padding of (1, 5) alone"),
    (lambda: max_pool_forward(zeros(1, 1, 5, 0), Window(3, 2, 1)), ValueError,
     "window: expected an image with pixels, got one of (5, 0)"),
    (lambda: average_pool_forward(zeros(1, 1, 0, 5), Window(3, 1, 2)), ValueError,
     "window: expected an image with pixels, got one of (0, 5)"),
    (lambda: average_pool_forward(X, Window(2, 2, 2)), ValueError, "window: expected pad < kernel"),
    (lambda: resize_forward(X, 7), TypeError, "size: expected a pair of integers, got 7"),
    (lambda: resize_forward(X, (0, 4)), ValueError, "size: expected at least one pixel each way"),
    (lambda: concat_forward(), ValueError, "xs: expected at least one array"),
    (lambda: concat_forward(X, zeros(2, 4, 6, 6)), ValueError, "got (2, 4, 6, 6)"),
    (lambda: add_forward(X, zeros(2, 3, 6, 5)), ValueError, "got (2, 3, 6, 5)"),
    (lambda: dropout_forward(X, 1.0, 0), ValueError, "ratio: expected a number in [0, 1), got 1.0"),
    (lambda: softmax_forward(zeros(3)), ValueError, "x: expected shape (N, C, ...) with C > 0"),
    (lambda: softmax_cross_entropy_forward(zeros(3), labels(3)), ValueError,
     "score: expected shape (N, C, ...) with C > 0, got (3,)"),
    (lambda: softmax_cross_entropy_forward(zeros(1, 2), labels(1, value=5), None), ValueError,
     "labels: expected classes 0 to 1, got 5"),
    (lambda: scale_forward(X, zeros(4), axis=4), ValueError,
     "axis: expected one of the 4 axes of x, got 4"),
    (lambda: tile_backward(zeros(1, 7), TileCache(2, 1, (1, 4))), ValueError,
     "dy: expected shape (1, 8), got (1, 7)"),
    (lambda: batch_norm_backward(X, batch_norm_forward(zeros(2, 3, 6, 5))[1]), ValueError,
     "dy: expected shape (2, 3, 6, 5), got (2, 4, 6, 5)"),
    (lambda: batch_norm_backward(X, BatchNormCache(None, zeros(3))), ValueError,
     "dy: expected 3 channels, got shape (2, 4, 6, 5)"),
    (lambda: mean_field(iterations=1.5), TypeError,
     "iterations: expected an integer of at least 1, got 1.5"),
    (lambda: mean_field(remove_center=True), TypeError,
     "remove_center: expected a pair of bool, for f1 and for f2, got True"),
    (lambda: mean_field(remove_bounds=(True,)), TypeError, "remove_bounds: expected a pair of"),
    (lambda: mean_field(f2=X), ValueError,
     "f2, ws, window2: expected all three or none of them, got no ws, window2"),
    (lambda: mean_field(f2=X, ws=zeros(4, 4), window2=Window(3)), ValueError,
     "window2: expected outputs as large as the input"),
    (lambda: mean_field_backward(zeros(2, 4, 6, 6), mean_field()[1]), ValueError,
     "dq: expected shape (2, 4, 6, 5), got (2, 4, 6, 6)"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=4)), ValueError,
     "labels: expected classes 0 to 3 or the ignore label"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 6, 5, value=-1)), ValueError,
     "labels: expected classes 0 to 3"),
    (lambda: softmax_cross_entropy_forward(X, labels(2, 5, 6)), ValueError,
     "labels: expected shape (2, 6, 5), got (2, 5, 6)"),
    (lambda: softmax_cross_entropy_forward(X, zeros(2, 6, 5)), TypeError,
     "labels: expected an integer array, got float32"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), alpha=2.0, beta=0.5), ValueError,
     "alpha, beta: expected 0 < alpha < beta, got 2.0 and 0.5"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 4)), ValueError, "parity: expected shape"),
    (lambda: embedding_loss_forward(D, labels(2, 9, 6, 5), hinge="cubic"), ValueError,
     "hinge: expected 'linear' or 'squared', got 'cubic'"),
]


IMAGE = np.zeros((4, 5, 3), np.uint8)
SCENES = SyntheticScenes(2, size=(8, 8))
NET = network()
PARAMETERS = NET.parameters()

DATA = [
    (lambda: SyntheticScenes(0), ValueError, "count: expected an integer"),
    (lambda: SyntheticScenes(1, size=(0, 4)), ValueError, "size: expected 2 values, each an"),
    (lambda: SyntheticScenes(2)[2], IndexError, "index: expected below 2, got 2"),
    (lambda: Augmentation(crop=0), ValueError, "crop: expected an integer of at least 1, got 0"),
    (lambda: Augmentation(scale=(2, 1)), ValueError, "scale: expected 0 < low <= high"),
    (lambda: Augmentation(mean=(1, 2, float("nan"))), ValueError, "mean: expected 3 values, each"),
    (lambda: Augmentation(crop=2.5), TypeError, "crop: expected an integer of at least 1, got 2.5"),
    (lambda: Augmentation(crop=(4, -1)), ValueError, "crop: expected 2 values, each an integer"),
    (lambda: Augmentation(scale=1.0), TypeError, "scale: expected 2 values, each a finite number"),
    (lambda: SyntheticScenes(2, 5), TypeError, "size: expected 2 values, each an integer of"),
    (lambda: Loader(SCENES, "2"), TypeError, "batch: expected an integer of at least 1, got '2'"),
    (lambda: Augmentation(order="hsv"), ValueError, "order: expected 'rgb' or 'bgr', got 'hsv'"),
    (lambda: Loader(SCENES, 0), ValueError, "batch: expected an integer"),
    (lambda: Loader(SCENES, 1, seed=-1), ValueError, "seed: expected an integer"),
    (lambda: Loader(SCENES, 1).batch(-1), ValueError, "index: expected an integer"),
    (lambda: Confusion(0), ValueError, "classes: expected an integer of at least 1, got 0"),
    (lambda: Confusion(2).update(labels(2, 2, value=2), labels(2, 2)), ValueError,
     "predicted: expected values in 0..1, got 2"),
    (lambda: Confusion(2).update(labels(2, 2), labels(2, 2, value=7)), ValueError,
     "labels: expected values in 0..1 or the ignore label 255, got 7"),
    (lambda: Evaluation(2, width=0), ValueError, "width: expected an integer of at least 1, got 0"),
    (lambda: boundary_band(zeros(4, 4)), TypeError, "labels: expected an integer array"),
    (lambda: overlay(IMAGE, labels(4, 4)), ValueError, "labels: expected shape (4, 5)"),
]
FILES = [
    (lambda: read_image("none.png"), FileNotFoundError, "none.png"),
    (lambda: write_image("a.png", IMAGE.astype(float)), TypeError,
     "image: expected an integer array, got float64"),
    (lambda: write_image("a.xyz", IMAGE), ValueError, "path: expected the suffix of an image"),
    (lambda: write_labels("a.png", labels(4, 5, value=256)), ValueError,
     "labels: expected values in 0..255, got 256"),
    (lambda: write_labels("a.jpg", labels(4, 5)), ValueError, "expected a name ending in .png"),
    (lambda: write_image("none/a.png", IMAGE), FileNotFoundError, "none"),
    (lambda: PairList("none.txt"), FileNotFoundError, "none.txt"),
    (lambda: VOCFolder(".", "train"), FileNotFoundError, "train.txt"),
    (lambda: ImageFolder("."), FileNotFoundError, "no image"),
    (lambda: load_arrays("none.npz"), FileNotFoundError, "no such file: none.npz"),
    (lambda: load_arrays("none.pkl"), ValueError, "expected a name ending in .npz or .safetensors"),
    (lambda: save_arrays("a.bin", {}), ValueError, "expected a name ending in .npz or"),
    (lambda: save_arrays("a.npz", {}, {"x": object()}), TypeError, "not JSON serializable"),
    (lambda: save_arrays("none/a.npz", {"x": X}), FileNotFoundError, "none"),
    (lambda: save_arrays("a.safetensors", {"x": X.astype("complex128")}), TypeError,
     "x: expected a dtype that .safetensors holds, got complex128"),
    (lambda: models.load("none.npz"), FileNotFoundError, "no such file: none.npz"),
]
NETWORKS = [
    (lambda: network(aware={"stage2"}), ValueError, "aware: expected names out of"),
    (lambda: network(aware="refine"), TypeError, "aware: expected a bool or a collection of names"),
    (lambda: network(aware=True, norm="L3"), ValueError, "norm: expected 'L1' or 'L2', got 'L3'"),
    (lambda: network(aware=True, scale=float("nan")), ValueError, "scale: expected a finite"),
    (lambda: models.segmentation_network(1), ValueError, "classes: expected an integer of at"),
    (lambda: models.segaware_vgg16(1), ValueError, "classes: expected an integer of at"),
    (lambda: models.segaware_resnet101(1), ValueError, "classes: expected an integer of at"),
    (lambda: refine(zeros(1, 3, 4), np.zeros((3, 4, 3), np.uint8)), ValueError,
     "score: expected scores of at least 2 classes, got 1"),
    (lambda: models.segmentation_network(3, 4, 1), TypeError, "widths: expected a sequence of"),
    (lambda: models.segmentation_network(3, (), ()), ValueError, "widths: expected at least one"),
    (lambda: models.embedding_network((4,), (-1,)), ValueError, "depths: expected a sequence of"),
    (lambda: network(embedding="depth"), ValueError, "embedding: expected 'learned' or 'rgb'"),
    (lambda: network(dropout=1.5), ValueError, "dropout: expected a number in [0, 1), got 1.5"),
    (lambda: models.embedding_network((4, 4), (1,)), ValueError, "depths: expected 2"),
    (lambda: models.build({"model": "unet"}), ValueError, "description: not that of a network"),
    (lambda: models.build(NET.description, width=1), TypeError,
     "width: expected an argument of segmentation_network: ['classes', 'widths', "),
    (lambda: models.build(NET.description, dtype="float16"), ValueError, "dtype: expected one of"),
    (lambda: Net(dtype="float16"), ValueError, "dtype: expected one of"),
    (lambda: network().add("loss", layers.ReLU(), "score"), ValueError, "'loss' is taken"),
    (lambda: network().add("new", layers.ReLU(), "nothing"), ValueError, "which nothing produces"),
    (lambda: NET.forward({}), ValueError, "are needed for ['loss'] and missing"),
    (lambda: NET.forward({"image": zeros(1, 3, 8, 8)}, ["sky"]), ValueError,
     "outputs: expected names of layers, got ['sky']"),
    (lambda: NET.forward({"image": zeros(1, 3, 8, 8, dtype="float64")}, ["score"]), TypeError,
     "image: expected float32, as the network, got float64"),
    (lambda: NET.forward({"image": zeros(1, 4, 8, 8)}, ["score"]), ValueError,
     "weight: expected shape"),
    (lambda: network().backward(), RuntimeError, "needs a forward pass"),
    (lambda: NET.set_weights({}), ValueError, "weights of another network"),
    (lambda: NET.set_state({}), ValueError, "state: not the random state of a network"),
    (lambda: layers.Convolution(4, -6, W3), ValueError, "filters: expected an integer of at least"),
    (lambda: layers.Convolution(4.5, 6, W3), TypeError, "channels: expected an integer of at"),
    (lambda: layers.Convolution(4, 6, W3, groups=4), ValueError, "groups: expected a divisor"),
    (lambda: layers.Convolution(4, 4, W3, init="zeros"), ValueError, "init: expected"),
    (lambda: predict(one_score(), IMAGE), ValueError, "'score' of at least 2 channels, one a cl"),
    (lambda: evaluate(one_score(), SyntheticScenes(1, size=(8, 8))), ValueError, "got 1 (one cla"),
    (lambda: predict(NET, zeros(4, 5, 3)), TypeError, "image: expected a uint8 NumPy array"),
    (lambda: predict(NET, IMAGE[..., :2]), ValueError, "image: expected shape (H, W, 3)"),
    (lambda: embed(NET, IMAGE), ValueError, "expected a network with a layer 'embedding'"),
    (lambda: evaluate(network(), SyntheticScenes(1, size=(8, 8)), width=0), ValueError, "width"),
]
TRAINING = [
    (lambda: policies.Fixed(-1.0), ValueError, "lr: expected a finite number of at least 0"),
    (lambda: policies.Fixed("fast"), TypeError, "lr: expected a"),
    (lambda: policies.Polynomial(0.1, 0), ValueError, "iterations: expected an integer of"),
    (lambda: policies.MultiStep(0.1, 0.1, (20, 10)), ValueError, "steps: expected ascending"),
    (lambda: optim.SGD(PARAMETERS, 0.1, momentum=1.0), ValueError, "momentum: expected"),
    (lambda: optim.SGD(PARAMETERS, float("nan")), ValueError, "lr: expected a finite number"),
    (lambda: optim.SGD({}, 0.1), ValueError, "parameters: expected at least one"),
    (lambda: optim.Adam(PARAMETERS, clip_norm=0.0), ValueError, "clip_norm: expected"),
    (lambda: optim.SGD(PARAMETERS, 0.1).step(0), ValueError, "batches: expected"),
    (lambda: trainer(iterations=0), ValueError, "iterations: expected an integer of at least 1"),
    (lambda: trainer(batches=1.5), TypeError, "batches: expected"),
    (lambda: Trainer(NET, optim.SGD(PARAMETERS, 0.1), SCENES, folder="run", iterations=1),
     TypeError, "loader: expected a data.Loader or the like, got <segaware_np.data"),
    (lambda: trainer(log="xml"), ValueError, "log: expected 'jsonl' or 'csv', got 'xml'"),
    (lambda: Trainer(NET, optim.SGD(network().parameters(), 0.1), Loader(SCENES, 1),
                     folder="run", iterations=1), ValueError, "not parameters of this network"),
    (lambda: Trainer(Net(), optim.SGD(PARAMETERS, 0.1), Loader(SCENES, 1), folder="run",
                     iterations=1), ValueError, "net: expected at least one loss layer, got none"),
]
HIDDEN, MATRIX = np.ma.array(np.ones((2, 2)), mask=[[0, 1], [0, 0]]), np.matrix([[1.0, 2.0]])
MINE = "which has an arithmetic of its own: "
SUBCLASSES = [
    (lambda: relu_forward(MATRIX), TypeError, "x: expected a plain NumPy array, got matrix, "),
    (lambda: array_module(HIDDEN), TypeError, f"got MaskedArray, {MINE}its filled(value) makes"),
    (lambda: as_array(HIDDEN), TypeError, f"MaskedArray, {MINE}its filled(value) makes a plain"),
    (lambda: layers.Parameter(MATRIX), TypeError, f"got matrix, {MINE}numpy.asarray makes"),
    (lambda: layers.Parameter(zeros(2, 2)).accumulate(HIDDEN), TypeError,
     f"got MaskedArray, {MINE}its"),
    (lambda: save_arrays("a.npz", {"w": HIDDEN}), TypeError, "w: expected a plain NumPy array"),
    (lambda: Confusion(2).update(HIDDEN.astype(int), labels(2, 2)), TypeError, "predicted: expect"),
    (lambda: predict(NET, np.ma.array(IMAGE)), TypeError, "image: expected a plain NumPy array"),
    (lambda: write_image("a.png", np.ma.array(IMAGE)), TypeError, "image: expected a plain Num"),
    (lambda: NET.forward({"image": np.ma.array(zeros(1, 3, 8, 8))}, ["score"]), TypeError,
     f"{MINE}its filled"),
]
CALLS = [
    *WINDOWS, *NO_WINDOWS, *ARRAYS, *OPS, *DATA, *FILES, *NETWORKS, *TRAINING, *SUBCLASSES
]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("call", "error", "message"), CALLS, ids=[message for _, _, message in CALLS]
)
def test_bad_call(empty, call, error, message):
    check(call, error, message)
    assert list(empty.iterdir()) == []
