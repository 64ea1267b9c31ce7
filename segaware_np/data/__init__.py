"""From files or from nothing to batches: datasets, augmentation, loader."""

from segaware_np.data.augmentation import RGB_MEAN, Augmentation
from segaware_np.data.datasets import Dataset, ImageFolder, PairList, VOCFolder
from segaware_np.data.loader import Loader
from segaware_np.data.synthetic import SyntheticScenes

__all__ = [
    "RGB_MEAN",
    "Augmentation",
    "Dataset",
    "ImageFolder",
    "Loader",
    "PairList",
    "SyntheticScenes",
    "VOCFolder",
]
