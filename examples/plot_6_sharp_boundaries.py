r"""
6. Plain against segmentation-aware at a boundary
=================================================

A convolution at a boundary mixes both sides. With a stack of layers the mixture grows: the features
of a network are foggy exactly where a segmentation has to be sharp. The mask stops that.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, show

from segaware_np import Window, ops

# %%
# An edge, with noise
# -------------------

rng = np.random.default_rng(0)
side = 40 if SMALL else 80
column = np.arange(side)
step = np.where(column < side // 2, 0.2, 0.8)
image = (step + rng.normal(0, 0.08, (side, side)))[None, None]

window = Window.same(7)
distance, _ = ops.distance_forward(image, window, remove_bounds=True)
scale = 12.0
mask, _ = ops.normalized_mask_forward(distance, scale)
plain, _ = ops.normalized_mask_forward(distance, 0.0)  # s = 0: every neighbour counts the same
box = np.ones((1, 1, 7, 7))


def smooth(x, weights, times):
    for _ in range(times):
        x, _ = ops.segaware_convolution_forward(x, weights, box, window=window)
    return x


# %%
# Sharpness across the edge
# -------------------------
# The profile is the mean over rows. After four plain layers the step is a ramp of two dozen pixels;
# the aware ones have removed the noise and kept the step.

figure, panels = plt.subplots(1, 4, figsize=(11, 2.8), width_ratios=[1, 1, 1, 1.7])
show(panels[0], image[0, 0], "noisy edge", vmin=0, vmax=1)
show(panels[1], smooth(image, plain, 4)[0, 0], "4 plain layers", vmin=0, vmax=1)
show(panels[2], smooth(image, mask, 4)[0, 0], "4 aware layers", vmin=0, vmax=1)
for weights, name in ((plain, "plain"), (mask, "segmentation-aware")):
    for times, style in ((1, ":"), (4, "-")):
        profile = smooth(image, weights, times)[0, 0].mean(0)
        colour = "#0072b2" if name == "plain" else "#d55e00"
        panels[3].plot(column, profile, style, color=colour, label=f"{name}, {times}x")
panels[3].set(xlabel="column", title="across the edge")
panels[3].legend(frameon=False, fontsize=7)
plt.show()


def width(x):
    """Pixels that the profile takes from 20 % to 80 % of the step."""
    profile = (x[0, 0].mean(0) - 0.2) / 0.6
    return int(((profile > 0.2) & (profile < 0.8)).sum())


print(
    "width of the edge:",
    {n: width(smooth(image, w, 4)) for n, w in (("plain", plain), ("aware", mask))},
)
assert width(smooth(image, mask, 4)) < width(smooth(image, plain, 4))

# %%
# How much leaks
# --------------
# Colour one side red and the other blue and filter the colours: what arrives on the wrong side has
# leaked. The mask's scale decides.

sides = np.broadcast_to(step < 0.5, (1, 1, side, side)).astype(float)
scales = np.linspace(0, 30, 6 if SMALL else 16)
leaks = []
for s in scales:
    weights, _ = ops.normalized_mask_forward(distance, s)
    leaks.append(smooth(sides, weights, 4)[0, 0][:, side // 2 :].mean() * side / 2)
figure, axes = plt.subplots(figsize=(5, 2.8))
axes.plot(scales, leaks, "o-")
axes.set(xlabel="scale s", ylabel="pixels leaked, a row", ylim=(0, None))
plt.show()
assert leaks[-1] < leaks[0] / 2
