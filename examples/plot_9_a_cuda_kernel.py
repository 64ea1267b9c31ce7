r"""
9. Writing a CUDA kernel, and proving it without a GPU
======================================================

A kernel is one formula for one output, run by many threads. This machine may have no GPU; NVIDIA's
compiler and an ordinary C++ compiler are enough to show that the kernel compiles for every GPU and
computes the right thing, whatever the order of its threads.
"""

import matplotlib.pyplot as plt
import numpy as np
from course import SMALL, show

from segaware_np import Window, ops
from segaware_np.testing.cuda import emulate, nvrtc

# %%
# The kernel
# ----------
# The exponential mask straight from an embedding, for a 3x3 window: :math:`m_{k,p} = \exp(-s \sum_c
# |e_{c,p} - e_{c,p+\delta_k}|)`. One thread makes one output and *gathers* what it needs, so no two
# threads write to one place. The loop lets any grid do the whole work; indices have 64 bits,
# because images are large.

SOURCE = r"""
extern "C" __global__ void local_mask(const float* embedding, float* mask, float scale,
                                      int channels, int height, int width) {
  const long long pixels = (long long)height * width;
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < 9 * pixels; i += step) {
    const int k = i / pixels;
    const long long p = i % pixels;
    const int y = p / width + k / 3 - 1, x = p % width + k % 3 - 1;
    float d = 0;
    if (y >= 0 && y < height && x >= 0 && x < width)
      for (int c = 0; c < channels; ++c)
        d += fabsf(embedding[c * pixels + p] - embedding[c * pixels + (long long)y * width + x]);
    mask[i] = expf(-scale * d);
  }
}
"""

# %%
# Does it compile, for every GPU?
# -------------------------------
# NVRTC is a wheel (``pip install nvidia-cuda-nvrtc nvidia-cuda-runtime``) and needs no driver. It
# also tells the registers a thread takes, and whether some had to spill to slow memory.

try:
    compiler = nvrtc.compiler()
except ImportError as error:
    print(f"skipped: {error}")
else:
    for architecture in nvrtc.ARCHITECTURES[:: 3 if SMALL else 1]:
        usage = compiler.compile(SOURCE, ["local_mask"], architecture)["local_mask"]
        print(f"sm_{architecture}: {usage.registers} registers, {usage.spill_bytes} bytes spilled")
        assert usage.spill_bytes == 0

# %%
# Does it compute the right thing?
# --------------------------------
# The same source, built by g++, threads as fibers in a random order. The oracle is the library's
# own formula in NumPy.

side = 16 if SMALL else 48
y, x = np.mgrid[:side, :side] / side
embedding = np.stack([np.hypot(y - 0.5, x - 0.5) < 0.33, y, x]).astype(np.float32)
scale = np.float32(3)


def run(source, sanitize=None, seed=None):
    mask = np.full((9, side, side), np.nan, np.float32)
    sizes = [np.int32(n) for n in embedding.shape]
    module = emulate.Module(source, sanitize=sanitize)
    module.launch("local_mask", (5,), (64,), [embedding, mask, scale, *sizes], seed=seed)
    return mask


distance, _ = ops.distance_forward(embedding[None], Window.same(3))
expected, _ = ops.exponential_mask_forward(distance, scale)

if emulate.compiler() is None:
    print("skipped: no C++ compiler (install g++ or set CXX)")
    mask = expected[0]
else:
    mask = run(SOURCE)
    print("largest difference:", np.abs(mask - expected[0]).max())
    assert np.allclose(mask, expected[0], atol=1e-6)

figure, panels = plt.subplots(1, 3, figsize=(8, 2.6))
show(panels[0], np.moveaxis(embedding, 0, -1), "embedding")
show(panels[1], mask[5], "weight of the right neighbour", vmin=0, vmax=1)
show(panels[2], mask.mean(0), "mean of the mask", vmin=0, vmax=1)
plt.show()

# %%
# A bug that a GPU would hide
# ---------------------------
# Compare with ``<=`` and the kernel reads one row past the image. On a GPU that memory usually
# belongs to some other array: no crash, a slightly wrong answer at the border. The address
# sanitizer sees it.

buggy = SOURCE.replace("y < height", "y <= height")
if emulate.compiler() is not None and emulate.has_sanitizer("address"):
    try:
        run(buggy, sanitize="address", seed=1)
    except emulate.KernelError as error:
        print("found:", next(line for line in str(error).splitlines() if "ERROR" in line))
    else:
        raise AssertionError("the bug was not found")
else:
    print("skipped: no address sanitizer here")

# %%
# On a real GPU, ``cupy.RawKernel(SOURCE, "local_mask")`` runs the very same text. The library's own
# kernels live in ``raw_kernels/``; its tests do all of the above for each of them, for each dtype.
