r"""
7. Normalised convolution: a bilateral filter, and a CRF
========================================================

Divide by the sum of the mask, and let the embedding be position and colour: normalised convolution
is the *bilateral filter*. Filter class probabilities with it, again and again, and it is mean-field
inference in a conditional random field.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, photograph, show

from segaware_np import Window, ops
from segaware_np.data import SyntheticScenes
from segaware_np.ops.bilateral import bilateral_filter_forward
from segaware_np.ops.mean_field import mean_field_forward

# %%
# The bilateral filter
# --------------------
# With :math:`e = (\text{position}/\sigma_s, \text{colour}/\sigma_r)` and L2,
# :math:`\exp(-d) = \exp(-\lVert\Delta p\rVert^2/2\sigma_s^2 - \lVert\Delta x\rVert^2/2\sigma_r^2)`:
# the textbook's two Gaussians, from one embedding.

image = photograph(64 if SMALL else 192)
rng = np.random.default_rng(0)
noisy = image + rng.normal(0, 0.1, image.shape)
height, width = image.shape[2:]
position = np.stack(np.meshgrid(np.arange(width), np.arange(height)))[None].astype(float)


def features(picture, space, colour):
    return np.concatenate([position / space, picture / colour], axis=1)


window = Window.same(9)
filtered, _ = bilateral_filter_forward(noisy, features(noisy, 3.0, 0.3), window=window)
gaussian, _ = bilateral_filter_forward(noisy, position / 1.5, window=window)
figure, panels = plt.subplots(1, 4, figsize=(11, 3))
for axes, picture, title in zip(
    panels,
    (image, noisy, gaussian, filtered),
    ("photograph", "with noise", "Gaussian", "bilateral"),
    strict=True,
):
    error = np.sqrt(((picture - image) ** 2).mean())
    show(axes, picture, f"{title} (off by {error:.3f})")
plt.show()

# %%
# It is the same as normalised convolution with weights of 1 on each channel by itself:

weight = np.ones((3, 1, 9, 9))
again, _ = ops.normalized_mask_forward(
    ops.distance_forward(features(noisy, 3.0, 0.3), window, "L2", remove_bounds=True)[0], 1.0
)
again, _ = ops.segaware_convolution_forward(noisy, again, weight, window=window, groups=3)
print("largest difference:", np.abs(again - filtered).max())
assert np.allclose(again, filtered)

# %%
# A conditional random field
# --------------------------
# Scores of a poor classifier: right on average, wrong in places, foggy at boundaries. Each
# iteration asks the neighbours that look alike for their opinion and adds it to the scores.

side = 48 if SMALL else 96
scene, labels = SyntheticScenes(5, (side, side), seed=2)[1]
classes = int(labels.max()) + 1
truth = np.eye(classes)[labels].transpose(2, 0, 1)[None]
blurred, _ = ops.average_pool_forward(truth, Window.same(7))
unary = 3 * blurred + rng.normal(0, 0.8, truth.shape)

colour = np.moveaxis(scene / 255.0, -1, 0)[None]
grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)))[None].astype(float)
identity = np.eye(classes)
results = {}
for iterations in (1, 2, 5):
    results[iterations], _ = mean_field_forward(
        unary, unary, np.concatenate([grid / 6, colour / 0.15], 1), grid / 2,
        identity, 4 * identity, -identity,
        window1=Window.same(9, dilation=1), window2=Window.same(5), iterations=iterations,
    )  # fmt: skip

figure, panels = plt.subplots(1, 5, figsize=(11, 2.6))
show(panels[0], scene / 255, "scene")
show(panels[1], labels, "truth", vmin=0, vmax=5)


def accuracy(scores):
    return (scores[0].argmax(0) == labels).mean()


show(panels[2], unary[0].argmax(0), f"classifier: {accuracy(unary):.1%}", vmin=0, vmax=5)
for axes, iterations in zip(panels[3:], (1, 5), strict=True):
    q = results[iterations]
    show(axes, q[0].argmax(0), f"CRF, {iterations}x: {accuracy(q):.1%}", vmin=0, vmax=5)
plt.show()
assert accuracy(results[5]) > accuracy(unary)
