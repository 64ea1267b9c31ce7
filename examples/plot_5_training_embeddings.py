r"""
5. Training embeddings with the contrastive loss
================================================

Colour is a poor embedding: objects have textures, and neighbours share hues. So learn one. For
every pixel and each neighbour in a 3x3 window (at dilations 1, 2 and 5) the loss asks for a
distance below :math:`\alpha` if both have the same label, and above :math:`\beta` if not:

.. math::

   L = \frac{1}{\#}\sum_{k,p} \begin{cases} \max(d_{k,p} - \alpha, 0) & \quad \text{same label} \\
   \max(\beta - d_{k,p}, 0) & \quad \text{different} \end{cases}
"""

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, show

from segaware_np import Window, models, ops, optim
from segaware_np.data import Loader, SyntheticScenes
from segaware_np.demo import pixels_near_boundaries
from segaware_np.inference import embed
from segaware_np.plot import embedding_to_rgb, masks_at

# %%
# The loss, drawn
# ---------------

d = np.linspace(0, 3, 200).reshape(1, -1, 1, 1)
figure, axes = plt.subplots(figsize=(5, 2.8))
for same, label in ((1, "same label"), (0, "different labels")):
    parity = np.full(d.shape, same)
    each = [
        ops.embedding_loss_forward(d[:, i : i + 1], parity[:, i : i + 1])[0] for i in range(200)
    ]
    axes.plot(d.ravel(), each, label=label)
axes.set(xlabel="distance d", ylabel="loss")
axes.legend(frameon=False)
plt.show()

# %%
# A small network
# ---------------
# Convolutions at three resolutions, resized to the image, concatenated and mixed into 8 channels:
# the published network in small. The scenes are drawn, with exact labels.

side, steps = (32, 4) if SMALL else (64, 180)
scenes = SyntheticScenes(200, (side, side))
net = models.embedding_network((12, 16), (2, 1), 8, hinge="squared", seed=0)
solver = optim.Adam(net.parameters(), 3e-3)
loader = Loader(scenes, batch=4)
net.train()
losses = []
for step in range(steps):
    net.zero_grad()
    net.forward(loader.batch(step))
    net.backward()
    solver.step()
    losses.append(net.loss)
print(f"loss {losses[0]:.3f} -> {np.mean(losses[-5:]):.3f} in {steps} steps")

figure, axes = plt.subplots(figsize=(5, 2.5))
axes.plot(losses)
axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
plt.show()

# %%
# What it learned
# ---------------
# On a scene that it never saw: the embedding's three principal components as red, green and blue.

image, labels = SyntheticScenes(20, (2 * side, 2 * side), seed=1)[3]
learned = embed(net, image)
colour = np.moveaxis(image / 255.0, -1, 0)
pixels = [pixel for pixel in pixels_near_boundaries(labels, 4) if labels[pixel]]  # on objects

figure, panels = plt.subplots(1, 3, figsize=(8, 2.8))
show(panels[0], image / 255, "scene")
show(panels[1], labels, "labels")
show(panels[2], embedding_to_rgb(learned) / 255, "embedding")
for number, (y, x) in enumerate(pixels, 1):
    panels[0].text(
        x, y, str(number), ha="center", va="center", fontsize=8,
        bbox={"boxstyle": "circle", "fc": "white", "ec": "black"},
    )  # fmt: skip
plt.show()

# %%
# Masks of pixels in textured objects, by colour and by the embedding, and how much of each lies on
# the pixel's own object. Colour picks what looks the same, on whichever side it lies.

window = Window(21)
same = ops.label_parity_forward(labels[None], Window.same(21))[0].reshape(21, 21, *labels.shape)
scales = {"by colour": (colour, 5.0), "by embedding": (learned, 2.0)}
figure, panels = plt.subplots(len(pixels), 3, figsize=(6.5, 2.1 * len(pixels)), squeeze=False)
for number, ((y, x), row) in enumerate(zip(pixels, panels, strict=True), 1):
    show(row[0], image[y - 10 : y + 11, x - 10 : x + 11] / 255, f"window {number}")
    for axes, (title, (e, scale)) in zip(row[1:], scales.items(), strict=True):
        (mask,) = masks_at(e, [(y, x)], window, scale)
        own = (mask * same[:, :, y, x]).sum() / mask.sum()
        show(axes, mask, f"{title}: {own:.0%} on its own", vmin=0, vmax=1)
plt.show()
