"""From files or from nothing to batches: datasets, augmentation, loader.

``RGB_MEAN`` are the means of red, green and blue that the published networks subtract.
"""

from segaware_np.data.augmentation import RGB_MEAN, Augmentation
from segaware_np.data.datasets import Dataset, ImageFolder, PairedFolders, PairList, VOCFolder
from segaware_np.data.loader import Loader
from segaware_np.data.synthetic import SyntheticScenes

__all__ = [
    "RGB_MEAN",
    "Augmentation",
    "Dataset",
    "ImageFolder",
    "Loader",
    "PairList",
    "PairedFolders",
    "SyntheticScenes",
    "VOCFolder",
]
