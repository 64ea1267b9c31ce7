"""
1. Convolution as one matrix product
====================================

A convolution looks at every pixel through a window. Lay what each window sees in a column, and the
whole convolution is a single matrix product, which computers are very good at.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, show

from segaware_np import Window, ops

# %%
# By hand, first
# --------------
# A 4x4 image and a 3x3 window. With padding 1 there are as many windows as pixels; what a window
# sees outside the image is 0. Column :math:`p` holds the neighbours :math:`x_{p+\delta_k}`, one row
# for each offset :math:`k`.

x = np.arange(1.0, 17).reshape(1, 1, 4, 4)
window = Window.same(3)
columns, _ = ops.im2col_forward(x, window)  # (N, C, K, Ho, Wo)

by_hand = np.zeros((9, 16))
padded = np.pad(x[0, 0], 1)
for k in range(9):
    for p in range(16):
        by_hand[k, p] = padded[p // 4 + k // 3, p % 4 + k % 3]
assert (columns.reshape(9, 16) == by_hand).all()

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), width_ratios=[1, 2.2])
for axes, picture, title in (
    (left, x[0, 0], "the image"),
    (right, by_hand, "its columns: K x pixels"),
):
    show(axes, picture, title)
    for (i, j), value in np.ndenumerate(picture):
        axes.text(j, i, f"{value:g}", ha="center", va="center", fontsize=7,
                  color="black" if value > 9 else "white")  # fmt: skip
right.set(xlabel="pixel p", ylabel="offset k")
plt.show()

# %%
# The product
# -----------
# Flatten the weights :math:`W` to one row for each output channel. Then
#
# .. math:: y_{o,p} = b_o + \sum_{c,k} W_{o,c,k}\, x_{c,p+\delta_k}
#
# is ``W @ columns + b``.

rng = np.random.default_rng(0)
weight, bias = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=2)
product = weight.reshape(2, 9) @ by_hand + bias[:, None]
y, _ = ops.convolution_forward(x, weight, bias, window=window)
print("largest difference:", np.abs(y.reshape(2, 16) - product).max())
assert np.allclose(y.reshape(2, 16), product)

# %%
# Geometry
# --------
# Stride skips windows, dilation spreads one. The columns know nothing of it: only ``im2col`` does.

side = 24 if SMALL else 60
i, j = np.mgrid[:side, :side]
picture = np.sin(np.hypot(i - side / 3, j - side / 4) / 2.5)[None, None]
edges = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
figure, panels = plt.subplots(1, 4, figsize=(9, 2.6))
show(panels[0], picture[0, 0], "image")
for axes, (stride, dilation) in zip(panels[1:], ((1, 1), (1, 3), (2, 1)), strict=True):
    shape = Window(3, stride=stride, pad=dilation, dilation=dilation)
    y, _ = ops.convolution_forward(picture, edges, window=shape)
    show(axes, np.abs(y[0, 0]), f"stride {stride}, dilation {dilation}: {y.shape[2]}x{y.shape[3]}")
plt.show()

# %%
# The price
# ---------
# The columns are :math:`K` times as large as the image. That is why the library's own convolution
# never builds them: it adds up one matrix product for each offset, on shifted views of the image.
# The result is the same.

print(f"image {x.nbytes} bytes, columns {columns.nbytes} bytes: {columns.nbytes // x.nbytes} times")
