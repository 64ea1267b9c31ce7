"""The layer types of Caffe and of the authors' fork; `base` says what a layer is."""

from segaware_np.caffe.layers import (  # noqa: F401  (they register their layer types)
    crf,
    data,
    database,
    elementwise,
    image,
    loss,
    measure,
    neuron,
    normalization,
    published,
    reduce,
    shape,
    sinks,
    unpooling,
    windowed,
    windows,
)
from segaware_np.caffe.layers.base import TYPES

__all__ = ["TYPES"]
