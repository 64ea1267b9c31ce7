"""CuPy forms of the hot operations: same names, signatures and results as in `ops`."""
