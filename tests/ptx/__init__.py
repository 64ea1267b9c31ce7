"""An interpreter of PTX, NVIDIA's portable assembly: runs what NVRTC made of a kernel.

The emulator runs a kernel's C++ as g++ understands it. Here runs what a GPU is given: the other
side of ``__CUDA_ARCH__``, inline assembly, tensor cores, the compiler's own mistakes.
"""
