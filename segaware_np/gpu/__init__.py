"""CuPy forms of the hot operations: files, names, signatures, results as in `ops`.

They launch ``raw_kernels/`` through `segaware_np.gpu.kernels`, on arrays that the ops have checked.
What is not here runs on CuPy arrays by its plain formula.
"""
