"""One small case of every operation that has a gradient, on a window with nothing symmetric."""

from __future__ import annotations

from functools import partial

import numpy as np

from segaware_np import ops
from segaware_np.ops import (
    batch_norm,
    bilateral,
    elementwise,
    masked_sum,
    mean_field,
    normalized_convolution,
    scale,
    tile,
)
from segaware_np.window import Window

ODD = Window((3, 2), stride=(1, 2), pad=(2, 1), dilation=(2, 1))  # nothing alike on both axes
SIZE = (5, 6)
OUT = ODD.output_shape(SIZE)
K = ODD.size
_rng = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return _rng.exponential(size=shape)


def apart(*shape: int) -> np.ndarray:
    """Numbers that all differ by at least half a unit in 10: far from ties."""
    return (_rng.permutation(int(np.prod(shape))).reshape(shape) / 10) - 1.05


LABELS = _rng.choice([0, 1, 2, 3, 255], (2, 3, 4))
PARITY = _rng.choice([0, 1, 255], (2, K, *OUT))
REMOVED = np.where(_rng.uniform(size=(2, K, *OUT)) < 0.3, np.inf, positive(2, K, *OUT))
REMOVED[0, :, 0, 0] = np.inf  # a whole window

# name: forward, backward, inputs, names of the inputs, in which of them it is linear
OPS = {
    "im2col": (
        lambda x: ops.im2col_forward(x, ODD),
        ops.im2col_backward,
        [normal(2, 2, *SIZE)],
        ["x"],
        ["x"],
    ),
    "col2im": (
        lambda cols: ops.col2im_forward(cols, SIZE, ODD),
        ops.col2im_backward,
        [normal(2, 2, K, *OUT)],
        ["cols"],
        ["cols"],
    ),
    **{
        f"distance {norm}{' removing' * flags}": (
            partial(
                ops.distance_forward,
                window=ODD,
                norm=norm,
                remove_center=flags,
                remove_bounds=flags,
            ),
            ops.distance_backward,
            [apart(2, 3, *SIZE)],
            ["embedding"],
            [],
        )
        for norm in ("L1", "L2")
        for flags in (False, True)
    },
    "exponential mask": (
        ops.exponential_mask_forward,
        ops.exponential_mask_backward,
        [REMOVED, np.array(0.7)],
        ["distance", "scale"],
        [],
    ),
    "exponential mask, s = 0": (
        ops.exponential_mask_forward,
        ops.exponential_mask_backward,
        [REMOVED, np.array(0.0)],
        ["distance", "scale"],
        [],
    ),
    "normalized mask": (
        ops.normalized_mask_forward,
        ops.normalized_mask_backward,
        [REMOVED, np.array(0.7)],
        ["distance", "scale"],
        [],
    ),
    "normalized mask, s < 0": (
        ops.normalized_mask_forward,
        ops.normalized_mask_backward,
        [REMOVED, np.array(-1.0)],
        ["distance", "scale"],
        [],
    ),
    **{
        f"local mask, {norm}{', normalized' * normalized}": (
            partial(
                ops.local_mask_forward,
                window=ODD,
                normalized=normalized,
                norm=norm,
                remove_center=normalized,
                remove_bounds=not normalized,
            ),
            ops.local_mask_backward,
            [apart(2, 3, *SIZE), np.array(0.7)],
            ["embedding", "scale"],
            [],
        )
        for norm in ("L1", "L2")
        for normalized in (False, True)
    },
    "convolution": (
        partial(ops.convolution_forward, window=ODD, groups=2),
        ops.convolution_backward,
        [normal(2, 4, *SIZE), normal(6, 2, *ODD.kernel), normal(6)],
        ["x", "weight", "bias"],
        ["x", "weight", "bias"],
    ),
    "column convolution": (
        partial(ops.column_convolution_forward, groups=2),
        ops.column_convolution_backward,
        [normal(2, 4, K, *OUT), normal(6, 2, *ODD.kernel), normal(6)],
        ["columns", "weight", "bias"],
        ["columns", "weight", "bias"],
    ),
    "transposed convolution": (
        partial(
            ops.transposed_convolution_forward,
            window=Window((3, 2), stride=(2, 3), pad=(1, 0), dilation=(1, 2)),
            groups=2,
        ),
        ops.transposed_convolution_backward,
        [normal(2, 4, 3, 2), normal(4, 3, 3, 2), normal(6)],
        ["x", "weight", "bias"],
        ["x", "weight", "bias"],
    ),
    **{
        f"segaware convolution{name}": (
            partial(forward, window=ODD, groups=2),
            backward,
            [normal(2, 4, *SIZE), positive(2, K, *OUT), normal(6, 2, *ODD.kernel), normal(6)],
            ["x", "mask", "weight", "bias"],
            ["x", "mask", "weight", "bias"],
        )
        for name, forward, backward in (
            ("", ops.segaware_convolution_forward, ops.segaware_convolution_backward),
            (
                ", explicit",
                ops.segaware_convolution_explicit_forward,
                ops.segaware_convolution_explicit_backward,
            ),
        )
    },
    "masked sum": (
        partial(masked_sum.masked_sum_forward, window=ODD),
        masked_sum.masked_sum_backward,
        [normal(2, 3, *SIZE), positive(2, K, *OUT)],
        ["x", "mask"],
        ["x", "mask"],
    ),
    "bilateral filter": (
        partial(bilateral.bilateral_filter_forward, window=ODD),
        bilateral.bilateral_filter_backward,
        [normal(2, 2, *SIZE), normal(2, 3, *SIZE), np.array(0.4)],
        ["x", "embedding", "scale"],
        ["x"],
    ),
    "normalized convolution": (
        partial(
            normalized_convolution.normalized_convolution_forward,
            window=ODD,
            groups=2,
            remove_center=True,
            remove_bounds=True,
        ),
        normalized_convolution.normalized_convolution_backward,
        [
            normal(1, 4, *SIZE),
            normal(1, 3, *SIZE),
            normal(2, 2, *ODD.kernel),
            normal(2),
            np.array(0.4),
        ],
        ["x", "embedding", "weight", "bias", "scale"],
        ["x", "weight", "bias"],
    ),
    "mean field": (
        partial(
            mean_field.mean_field_forward,
            window1=Window.same((3, 5), dilation=(2, 1)),
            window2=Window.same(3),
            iterations=2,
        ),
        mean_field.mean_field_backward,
        [
            *(normal(2, c, 3, 3) for c in (2, 2, 3, 2)),
            *(normal(2, 2) for _ in range(3)),
        ],
        ["unary", "first_q", "f1", "f2", "ws", "wb", "wc"],
        [],
    ),
    "relu": (ops.relu_forward, ops.relu_backward, [apart(2, 3, 4)], ["x"], []),
    "max pool": (
        lambda x: ops.max_pool_forward(x, Window((3, 2), stride=2, pad=(1, 0))),
        ops.max_pool_backward,
        [apart(2, 2, 5, 6)],
        ["x"],
        [],
    ),
    "average pool": (
        lambda x: ops.average_pool_forward(x, Window((3, 2), stride=2, pad=(1, 0))),
        ops.average_pool_backward,
        [normal(2, 2, 5, 6)],
        ["x"],
        ["x"],
    ),
    "resize": (
        lambda x: ops.resize_forward(x, (7, 3)),
        ops.resize_backward,
        [normal(2, 2, 4, 5)],
        ["x"],
        ["x"],
    ),
    "concat": (
        ops.concat_forward,
        ops.concat_backward,
        [normal(2, 2, 3, 4), normal(2, 1, 3, 4), normal(2, 3, 3, 4)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "add": (
        ops.add_forward,
        ops.add_backward,
        [normal(2, 3), normal(2, 3), normal(2, 3)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "dropout": (
        partial(ops.dropout_forward, ratio=0.4, seed=3),
        ops.dropout_backward,
        [normal(2, 3, 4, 5)],
        ["x"],
        ["x"],
    ),
    "softmax": (ops.softmax_forward, ops.softmax_backward, [normal(2, 4, 3)], ["x"], []),
    "softmax cross-entropy": (
        ops.softmax_cross_entropy_forward,
        ops.softmax_cross_entropy_backward,
        [normal(2, 4, 3, 4), LABELS],
        ["score", "labels"],
        [],
    ),
    **{
        f"embedding loss, {hinge}, {normalize}": (
            partial(ops.embedding_loss_forward, hinge=hinge, ignore_label=255, normalize=normalize),
            ops.embedding_loss_backward,
            [REMOVED, PARITY],
            ["distance", "parity"],
            [],
        )
        for hinge in ("linear", "squared")
        for normalize in ("all", "valid")
    },
    "scale": (
        scale.scale_forward,
        scale.scale_backward,
        [normal(2, 3, 4), normal(3), normal(3)],
        ["x", "scale", "bias"],
        ["x", "scale", "bias"],
    ),
    "scalar scale": (
        scale.scale_forward,
        scale.scale_backward,
        [normal(2, 3, 4), np.array(1.7)],
        ["x", "scale"],
        ["x", "scale"],
    ),
    "absolute": (
        elementwise.absolute_forward,
        elementwise.absolute_backward,
        [apart(2, 3, 4)],
        ["x"],
        [],
    ),
    "power": (
        partial(elementwise.power_forward, power=3.0, scale=0.5, shift=1.0),
        elementwise.power_backward,
        [normal(2, 3)],
        ["x"],
        [],
    ),
    "exponential": (
        partial(elementwise.exponential_forward, base=2.0, scale=-1.5, shift=0.5),
        elementwise.exponential_backward,
        [normal(2, 3)],
        ["x"],
        [],
    ),
    "product": (
        ops.product_forward,
        ops.product_backward,
        [normal(2, 3), np.array([[0.0, 1, 2], [3, 0, 5]]), normal(2, 3)],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ),
    "maximum": (
        ops.maximum_forward,
        ops.maximum_backward,
        list(apart(3, 2, 3)),
        ["a", "b", "c"],
        [],
    ),
    "batch norm": (
        batch_norm.batch_norm_forward,
        batch_norm.batch_norm_backward,
        [normal(3, 2, 2, 3)],
        ["x"],
        [],
    ),
    "tile": (
        partial(tile.tile_forward, tiles=3, axis=1),
        tile.tile_backward,
        [normal(2, 2, 3)],
        ["x"],
        ["x"],
    ),
}
# Documented: their gradients are views of d_output.
VIEWS = {"concat", "add", "scale"}
