"""Layers: thin objects that hold parameters and call ops.

``Need``, a tuple of bool, tells `Layer.backward` which inputs' gradients are wanted.
"""

from segaware_np.layers.base import Layer, Need
from segaware_np.layers.convolution import Convolution, SegawareConvolution
from segaware_np.layers.crf import MeanField
from segaware_np.layers.embedding import Distance, EmbeddingLoss
from segaware_np.layers.joins import Add, Concat, Maximum
from segaware_np.layers.losses import SoftmaxCrossEntropy
from segaware_np.layers.normalized import BilateralFilter, NormalizedConvolution
from segaware_np.layers.pointwise import BatchNorm, Dropout, Multiply, ReLU, Scale
from segaware_np.layers.sampling import (
    AveragePool,
    LabelsLike,
    MaxPool,
    PositionLike,
    ResizeLike,
    Shrink,
)
from segaware_np.parameter import Parameter

__all__ = [
    "Add",
    "AveragePool",
    "BatchNorm",
    "BilateralFilter",
    "Concat",
    "Convolution",
    "Distance",
    "Dropout",
    "EmbeddingLoss",
    "LabelsLike",
    "Layer",
    "MaxPool",
    "Maximum",
    "MeanField",
    "Multiply",
    "Need",
    "NormalizedConvolution",
    "Parameter",
    "PositionLike",
    "ReLU",
    "ResizeLike",
    "Scale",
    "SegawareConvolution",
    "Shrink",
    "SoftmaxCrossEntropy",
]
