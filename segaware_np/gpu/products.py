"""Matrix products on the GPU."""

from __future__ import annotations

from segaware_np.xp import Array, array_module

_FEW = 32  # products that are made one by one


def products(a: Array, b: Array) -> Array:
    """Return ``a[g] @ b[g]`` for each g.

    a (G, L, M), or (1, L, M) for all g; b (G, M, R) -> (G, L, R)

    CuPy hands two matrices to cuBLAS as they lie, transposed or not, for float16 and TF32 on
    tensor cores. Of a stack it copies what is transposed, widens float16, and never uses TF32:
    that pays only where there are many small ones, as of a depthwise convolution.
    """
    xp = array_module(a)
    if len(b) > _FEW:
        return xp.matmul(a, b)
    c = xp.empty((len(b), a.shape[1], b.shape[2]), b.dtype)
    for g, target in enumerate(c):
        xp.matmul(a[g % len(a)], b[g], out=target)
    return c
