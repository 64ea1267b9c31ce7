"""Real CuPy on a pretended driver: its wheels as they are, on a machine without a GPU.

`interpose` puts Python functions in the place of C functions; `runtime`, `driver` and `cublas` are
those functions; `plugin` puts them under CuPy, before pytest collects tests. Device memory is
the host's. Kernels, CuPy's own among them, are compiled by the real NVRTC and run as PTX by `ptx`,
which checks every access against what is allocated.
"""
