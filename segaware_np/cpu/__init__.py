"""Fast NumPy forms of the hot operations: files, names, signatures, results as in `ops`."""
