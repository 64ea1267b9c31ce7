r"""
2. The adjoint: where col2im comes from
=======================================

Backward passes of linear maps need no calculus. If :math:`y = Ax`, then :math:`dL/dx = A^T\,dL/dy`,
and :math:`A^T` is the one map with :math:`\langle Ax, y\rangle = \langle x, A^T y\rangle` for all
:math:`x` and :math:`y`.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import show

from segaware_np import Window, ops
from segaware_np.testing import AdjointError, check_adjoint

# %%
# im2col is a matrix
# ------------------
# It is linear, so feed it every unit image and write down what comes out. Each row has a single 1:
# an entry of the columns is a copy of one pixel, or 0 outside the image.

shape, window = (4, 4), Window(3, stride=1, pad=1)


def im2col(x):
    return ops.im2col_forward(x.reshape(1, 1, *shape), window)[0].ravel()


def col2im(columns):
    return ops.col2im_forward(columns.reshape(1, 1, 9, *shape), shape, window)[0].ravel()


A = np.stack([im2col(unit) for unit in np.eye(16)], axis=1)  # (K * windows, pixels)
B = np.stack([col2im(unit) for unit in np.eye(9 * 16)], axis=1)  # (pixels, K * windows)
assert (A.T == B).all()

figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), width_ratios=[1, 5])
show(panels[0], A, "im2col: A", aspect="auto")
panels[0].set(xlabel="16 pixels", ylabel="9 x 16 entries of the columns")
show(panels[1], B, "col2im: A transposed", aspect="auto")
panels[1].set(xlabel="9 x 16 entries of the columns", ylabel="16 pixels")
plt.show()

# %%
# The transpose of "copy this pixel to all windows that see it" is "add up what all windows that see
# this pixel say": :math:`(A^T y)_q = \sum_{(k,p):\,p+\delta_k=q} y_{k,p}`. On columns of ones it
# counts how many windows see each pixel:

print(col2im(np.ones(9 * 16)).reshape(shape))

# %%
# Proof without a matrix
# ----------------------
# For images of real size nobody writes the matrix down. Two random vectors are enough: for a wrong
# adjoint both sides agree with probability 0. There is no epsilon, no step size, and here, with
# small whole numbers, not even rounding.

rng = np.random.default_rng(0)
x, y = rng.integers(-9, 9, 16).astype(float), rng.integers(-9, 9, 9 * 16).astype(float)
print("<Ax, y> =", im2col(x) @ y, "   <x, A'y> =", x @ col2im(y))
check_adjoint(im2col, col2im, ((16,), (9 * 16,)), rtol=0)

# %%
# A typical bug
# -------------
# Someone forgets that the stride moves the windows, or drops one offset. The proof says where:


def forgetful(columns):
    columns = columns.reshape(9, *shape).copy()
    columns[8] = 0
    return col2im(columns)


try:
    check_adjoint(im2col, forgetful, ((16,), (9 * 16,)))
except AdjointError as error:
    print(error)
else:
    raise AssertionError("the bug was not found")

# %%
# The same holds for convolution
# ------------------------------
# A convolution is linear in the image, so its backward is the adjoint: a "transposed convolution".

weight = rng.normal(size=(5, 2, 3, 3))
strided = Window((3, 3), stride=2, pad=(1, 0), dilation=(1, 2))
image = rng.normal(size=(1, 2, 9, 11))
y, cache = ops.convolution_forward(image, weight, window=strided)
check_adjoint(
    lambda x: ops.convolution_forward(x, weight, window=strided)[0],
    lambda dy: ops.convolution_backward(dy, cache)[0],
    (image.shape, y.shape),
)
print("convolution_backward is the adjoint of convolution_forward in x")
