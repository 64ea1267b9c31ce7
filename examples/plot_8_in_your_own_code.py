"""
8. In your own array code
=========================

Every operation is a pure function of arrays. NumPy arrays in, NumPy arrays out; CuPy in, CuPy out.
Arrays of other libraries come in by DLPack, without a copy.
"""

from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, photograph, show

from segaware_np import Window, as_array, ops

image = photograph(64 if SMALL else 192)
window = Window.same(7)


def smooth(x, scale=2.5):
    """Any array in; local means over what looks alike."""
    x = as_array(x)
    distance, _ = ops.distance_forward(x, window, remove_bounds=True)
    mask, _ = ops.normalized_mask_forward(distance, scale)
    box = np.ones((x.shape[1], 1, 7, 7), x.dtype)
    return ops.segaware_convolution_forward(x, mask, box, window=window, groups=x.shape[1])[0]


smoothed = smooth(image)

# %%
# PyTorch and JAX
# ---------------
# What has ``__dlpack__`` is taken as it is: ``as_array`` shares the memory. To go back, use the
# other library's ``from_dlpack``. A tensor that requires a gradient has to be detached: the
# gradient here is an explicit function, and wrapping forward and backward in a
# ``torch.autograd.Function`` takes ten lines.

if find_spec("torch"):
    import torch

    tensor = torch.from_numpy(image)
    assert np.shares_memory(as_array(tensor), image)
    print("torch:", torch.from_dlpack(smooth(tensor)).shape)

    class Smooth(torch.autograd.Function):
        """Masked sum with a gradient for PyTorch."""

        @staticmethod
        def forward(context, x, mask, weight):
            y, context.cache = ops.segaware_convolution_forward(
                *(as_array(t.detach()) for t in (x, mask, weight)), window=window, groups=3
            )
            return torch.from_dlpack(y)

        @staticmethod
        def backward(context, dy):
            dy = as_array(dy.contiguous())
            gradients = ops.segaware_convolution_backward(dy, context.cache)
            return tuple(torch.from_dlpack(g) for g in gradients[:3])

    x, mask, weight = (torch.rand(*shape, dtype=torch.float64, requires_grad=True)
                       for shape in ((1, 3, 5, 6), (1, 49, 5, 6), (3, 1, 7, 7)))  # fmt: skip
    assert torch.autograd.gradcheck(Smooth.apply, (x, mask, weight))
    print("torch's own gradcheck agrees")
else:
    print("PyTorch is not installed: skipped")

if find_spec("jax"):
    import jax.numpy as jnp

    print("JAX:", smooth(jnp.asarray(image, "float32")).shape)
else:
    print("JAX is not installed: skipped")

# %%
# CuPy
# ----
# The same call with CuPy arrays runs on the GPU. Nothing moves between host and device behind your
# back: mixed arrays are an error.

try:
    ops.convolution_forward(image, np.ones((3, 3, 7, 7), "float32"), window=window)
except TypeError as error:
    print("TypeError:", error)

# %%
# scikit-image
# ------------
# Pictures are (H, W, C) there and (N, C, H, W) here: two transposes, which copy nothing.
# Superpixels make a fine embedding: the mask then closes between segments.

if find_spec("skimage"):
    from skimage.segmentation import slic

    picture = np.moveaxis(image[0], 0, -1)
    segments = slic(picture, n_segments=40 if SMALL else 150, compactness=12, start_label=0)
    colours = np.array([picture[segments == s].mean(0) for s in range(segments.max() + 1)])
    means = colours[segments]
    embedding = np.ascontiguousarray(np.moveaxis(means, -1, 0)[None])
    distance, _ = ops.distance_forward(embedding, window, remove_bounds=True)
    mask, _ = ops.normalized_mask_forward(distance, 30.0)
    by_segment, _ = ops.segaware_convolution_forward(
        image, mask, np.ones((3, 1, 7, 7)), window=window, groups=3
    )
    figure, panels = plt.subplots(1, 4, figsize=(11, 3))
    for axes, each, title in zip(
        panels,
        (image, smoothed, embedding, by_segment),
        ("photograph", "by colour", "superpixels", "by superpixel"),
        strict=True,
    ):
        show(axes, each, title)
else:
    print("scikit-image is not installed: skipped")
    figure, panels = plt.subplots(1, 2, figsize=(6, 3))
    show(panels[0], image, "photograph")
    show(panels[1], smoothed, "by colour")
plt.show()

# %%
# Larger than memory: dask, or a loop
# -----------------------------------
# A window reaches ``dilation * (kernel // 2)`` pixels far, so an image can be worked on in tiles
# that overlap by that much. ``dask.array.map_overlap`` does this; here is what it does.

reach = 3


def in_tiles(x, tile):
    out = np.empty_like(x)
    height, width = x.shape[2:]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            y0, x0 = max(top - reach, 0), max(left - reach, 0)
            part = smooth(
                np.ascontiguousarray(x[:, :, y0 : top + tile + reach, x0 : left + tile + reach])
            )
            rows, columns = min(tile, height - top), min(tile, width - left)
            out[:, :, top : top + rows, left : left + columns] = part[
                :, :, top - y0 : top - y0 + rows, left - x0 : left - x0 + columns
            ]
    return out


assert np.allclose(in_tiles(image, 40), smoothed)
if find_spec("dask"):
    import dask.array as da

    lazy = da.from_array(image, chunks=(1, 3, 50, 50))
    tiled = da.map_overlap(smooth, lazy, depth=(0, 0, reach, reach), boundary="none", dtype=float)
    assert np.allclose(tiled.compute(), smoothed)
    print("dask agrees")
else:
    print("dask is not installed: skipped")
