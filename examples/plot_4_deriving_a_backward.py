r"""
4. Deriving the backward of a masked convolution, and proving it
================================================================

Segmentation-aware convolution multiplies what each window sees by the window's mask:

.. math:: y_{o,p} = b_o + \sum_{c,k} W_{o,c,k}\; m_{k,p}\; x_{c,p+\delta_k}

Here are its four gradients, each derived, written in one line of NumPy, and proved. Write
:math:`\bar y = dL/dy` and so on.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import show

from segaware_np import Window, ops
from segaware_np.testing import GradientError, check_gradients, prove

# %%
# Forward
# -------
# In columns, :math:`X_{c,k,p} = x_{c,p+\delta_k}`.

window = Window.same(3)


def forward(x, mask, weight, bias):
    columns, _ = ops.im2col_forward(x, window)  # X: (N, C, K, H, W)
    masked = mask[:, None] * columns
    taps = weight.reshape(*weight.shape[:2], -1)  # W: (O, C, K)
    y = np.einsum("ock,nckhw->nohw", taps, masked) + bias[:, None, None]
    return y, (columns, mask, weight)


# %%
# Backward, line by line
# ----------------------
# *Bias.* :math:`b_o` is in every pixel of channel :math:`o` once, so its gradient is a sum:
#
# .. math:: \bar b_o = \sum_{n,p} \bar y_{n,o,p}
#
# *Weights.* :math:`\partial y_{n,o,p} / \partial W_{o,c,k} = m_{n,k,p} X_{n,c,k,p}`:
#
# .. math:: \bar W_{o,c,k} = \sum_{n,p} \bar y_{n,o,p}\, m_{n,k,p}\, X_{n,c,k,p}
#
# *What arrives at the masked columns* :math:`Z = mX`:
#
# .. math:: \bar Z_{n,c,k,p} = \sum_o W_{o,c,k}\, \bar y_{n,o,p}
#
# *Mask.* One mask weight multiplies all channels, so it hears from all of them:
#
# .. math:: \bar m_{n,k,p} = \sum_c X_{n,c,k,p}\, \bar Z_{n,c,k,p}
#
# *Image.* Back through the mask, then through im2col, whose adjoint is col2im:
#
# .. math:: \bar x_{n,c,q} = \sum_{(k,p):\,p+\delta_k = q} m_{n,k,p}\, \bar Z_{n,c,k,p}


def backward(dy, cache):
    columns, mask, weight = cache
    taps = weight.reshape(*weight.shape[:2], -1)
    dbias = dy.sum((0, 2, 3))
    dtaps = np.einsum("nohw,nkhw,nckhw->ock", dy, mask, columns)
    dmasked = np.einsum("ock,nohw->nckhw", taps, dy)
    dmask = (columns * dmasked).sum(1)
    dx, _ = ops.col2im_forward(mask[:, None] * dmasked, columns.shape[3:], window)
    return dx, dmask, dtaps.reshape(weight.shape), dbias


# %%
# The proof
# ---------
# ``prove`` climbs the whole ladder: dtypes, adjoints in the linear arguments, the complex step
# :math:`f'(x) = \operatorname{Im} f(x + ih)/h` with :math:`h = 10^{-30}`, which cancels nothing and
# is exact to rounding, and purity: nothing is written to, any memory layout gives the same.

rng = np.random.default_rng(0)
arguments = [
    rng.normal(size=(2, 3, 4, 5)),  # x
    rng.uniform(size=(2, 9, 4, 5)),  # mask
    rng.normal(size=(4, 3, 3, 3)),  # weight
    rng.normal(size=4),  # bias
]
print(prove(forward, backward, arguments, linear=["x", "mask", "weight", "bias"]))

# %%
# The library's own operation says the same, without ever building the columns:

y, cache = ops.segaware_convolution_forward(*arguments, window=window)
dy = rng.normal(size=y.shape)
for name, mine, theirs in zip(
    ("x", "mask", "weight", "bias"),
    backward(dy, forward(*arguments)[1]),
    ops.segaware_convolution_backward(dy, cache),
    strict=True,
):
    print(f"d{name}: largest difference {np.abs(mine - theirs).max():.1e}")
    assert np.allclose(mine, theirs)

# %%
# A bug, and what the proof says
# ------------------------------
# Leave out the mask on the way to the image, which is easy to do: the forward pass is right,
# training even seems to work.


def careless(dy, cache):
    columns, mask, weight = cache
    _, dmask, dweight, dbias = backward(dy, cache)
    dx = backward(dy, (columns, np.ones_like(mask), weight))[0]
    return dx, dmask, dweight, dbias


try:
    check_gradients(forward, careless, arguments)
except GradientError as error:
    print(error)
else:
    raise AssertionError("the bug was not found")

right, wrong = (each(dy, forward(*arguments)[1])[0][0, 0] for each in (backward, careless))
figure, panels = plt.subplots(1, 3, figsize=(8, 2.4))
limit = np.abs(wrong).max()
for axes, picture, title in zip(
    panels, (right, wrong, wrong - right), ("right dx", "careless dx", "difference"), strict=True
):
    show(axes, picture, title, vmin=-limit, vmax=limit)
figure.colorbar(axes.images[0], ax=panels)
plt.show()
