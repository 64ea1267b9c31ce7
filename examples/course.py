"""What the scripts of the course share: size, a photograph, and how pictures look."""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np

SMALL = os.environ.get("SEGAWARE_EXAMPLES") == "small"  # for a quick look, and for tests

plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": plt.cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7"]),
    }
)


def photograph(side):
    """A photograph, (1, 3, H, W) in 0..1: the script's first argument, or scikit-image's astronaut.

    It is shrunk to ``side`` pixels on its longer side.
    """
    from PIL import Image

    from segaware_np.extras import require
    from segaware_np.images import read_image

    words = [word for word in sys.argv[1:] if not word.endswith(".json")]  # Jupyter passes one
    given = [word for word in words if os.path.isfile(word)]
    image = read_image(given[0]) if given else require("skimage.data", extra="docs").astronaut()
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.moveaxis(np.asarray(picture) / 255.0, -1, 0)[None]


def show(axes, picture, title, **options):
    """Draw (1, C, H, W), (H, W, 3) or (H, W) without ticks."""
    picture = np.asarray(picture)
    if picture.ndim == 4:
        picture = np.moveaxis(picture[0], 0, -1)
    axes.imshow(picture.squeeze().clip(0, 1) if picture.ndim == 3 else picture, **options)
    axes.set_title(title, fontsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
