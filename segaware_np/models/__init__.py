"""Networks: embeddings, and segmentation in which convolutions are plain or aware."""

from segaware_np.models.embedding import embedding_network
from segaware_np.models.resnet import segaware_resnet101
from segaware_np.models.segmentation import segmentation_network
from segaware_np.models.storage import build, load
from segaware_np.models.vgg import segaware_vgg16
from segaware_np.models.weights import transfer

__all__ = [
    "build",
    "embedding_network",
    "load",
    "segaware_resnet101",
    "segaware_vgg16",
    "segmentation_network",
    "transfer",
]
