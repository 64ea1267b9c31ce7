"""Pooling, a few planes at a time."""

from segaware_np.cpu.planes import planewise
from segaware_np.ops import pooling as plain

max_pool, max_pool_grad = planewise(plain.max_pool), planewise(plain.max_pool_grad)
average_pool, average_pool_grad = planewise(plain.average_pool), planewise(plain.average_pool_grad)
