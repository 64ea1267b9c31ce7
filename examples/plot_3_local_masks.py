r"""
3. Embeddings and local masks on a photograph
=============================================

Give every pixel a vector, its *embedding* :math:`e_p`, so that pixels of one object are close and
pixels of different objects are far. The distance to each neighbour then says who belongs together,
and

.. math:: m_{k,p} = \exp(-s\,d_{k,p}), \qquad d_{k,p} = \lVert e_p - e_{p+\delta_k} \rVert_1

is a soft cut-out of the pixel's own region: its local mask. Here the embedding is the simplest one
there is: colour.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, photograph, show

from segaware_np import Window, ops
from segaware_np.plot import masks_at

image = photograph(96 if SMALL else 256)
height, width = image.shape[2:]
kernel = 15 if SMALL else 31
window = Window(kernel)

# %%
# Masks at a few pixels
# ---------------------
# Bright is in, dark is out. The stripes and the shoulder keep to themselves: across their edges the
# mask closes. The last pixel is hair, and colour knows only its strands. An embedding that sees a
# head has to be learned: part 5.

pixels = [
    (int(height * y), int(width * x))
    for y, x in ((0.3, 0.1), (0.55, 0.08), (0.5, 0.62), (0.1, 0.5))
]
figure, panels = plt.subplots(2, 5, figsize=(10, 4.2))
show(panels[0, 0], image, "where")
panels[1, 0].axis("off")
masks = masks_at(image[0], pixels, window, scale=5.0)
for number, ((y, x), mask) in enumerate(zip(pixels, masks, strict=True), 1):
    column = panels[:, number]
    panels[0, 0].text(
        x, y, str(number), ha="center", va="center", fontsize=8,
        bbox={"boxstyle": "circle", "fc": "white", "ec": "black"},
    )  # fmt: skip
    half = kernel // 2
    patch = image[:, :, max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    show(column[0], patch, f"window {number}")
    show(column[1], mask, f"mask: {mask.sum():.0f} of {mask.size}", vmin=0, vmax=1)
plt.show()

# %%
# The scale
# ---------
# :math:`s = 0` is the plain window: every neighbour counts. The networks learn :math:`s`.

figure, panels = plt.subplots(1, 5, figsize=(10, 2.3))
for axes, scale in zip(panels, (0.0, 1.0, 3.0, 10.0, 30.0), strict=True):
    (mask,) = masks_at(image[0], pixels[:1], window, scale)
    show(axes, mask, f"s = {scale:g}", vmin=0, vmax=1)
plt.show()

# %%
# All masks at once
# -----------------
# The operations compute the masks of all pixels together. The mean of a mask is small where a pixel
# is unlike its neighbours: an edge detector that nobody designed.

near = Window.same(5)
distance, _ = ops.distance_forward(image, near, remove_bounds=True)
mask, _ = ops.exponential_mask_forward(distance, 5.0)
print("masks:", mask.shape, "(N, K, H, W)")
figure, panels = plt.subplots(1, 2, figsize=(8, 4))
show(panels[0], image, "photograph")
show(panels[1], mask[0].mean(0), "mean of the 5x5 mask")
plt.show()

# %%
# Laws
# ----
# A constant added to the embedding changes nothing, and at :math:`s = 0` all weights are 1. An
# entry outside the image is infinitely far, so its weight is 0 whatever the scale.

shifted, _ = ops.distance_forward(image + 3.0, near, remove_bounds=True)
inside = np.isfinite(distance)
assert np.allclose(shifted[inside], distance[inside])
open_mask, _ = ops.exponential_mask_forward(distance, 0.0)
assert (open_mask == inside).all()
