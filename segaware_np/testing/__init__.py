"""Proofs for operations with hand-written gradients: the library's own, and yours.

`prove` runs all of them. They are, one by one: `check_gradients`, `check_adjoint`, `check_same`
and `check_pure`, for any pair ``forward(*inputs) -> (output, cache)`` and
``backward(d_output, cache) -> gradients`` on NumPy or CuPy arrays. What fails raises a
`ProofError`, an AssertionError that names the argument, the index and both values.

`segaware_np.testing.strategies` draws windows, images, embeddings, masks and labels for
hypothesis. ``pytest_plugins = ["segaware_np.testing.plugin"]`` in a ``conftest.py`` adds
the option ``--proofs quick|thorough``.

Examples
--------
A new operation, proved in five lines:

>>> def swish_forward(x):
...     return x / (1 + np.exp(-x)), x
>>> def swish_backward(dy, x):
...     s = 1 / (1 + np.exp(-x))
...     return dy * s * (1 + x * (1 - s))
>>> import numpy as np
>>> from segaware_np.testing import prove
>>> print(prove(swish_forward, swish_backward, [np.array([-1.0, 0.0, 2.0])]).inputs[0].method)
complex step
"""

from segaware_np.testing.adjoint import check_adjoint
from segaware_np.testing.errors import (
    AdjointError,
    GradientError,
    MismatchError,
    ProofError,
    PurityError,
)
from segaware_np.testing.gradients import check_gradients
from segaware_np.testing.prove import prove
from segaware_np.testing.purity import check_pure
from segaware_np.testing.reports import Entry, GradientReport, InputReport
from segaware_np.testing.same import check_same

__all__ = [
    "AdjointError",
    "Entry",
    "GradientError",
    "GradientReport",
    "InputReport",
    "MismatchError",
    "ProofError",
    "PurityError",
    "check_adjoint",
    "check_gradients",
    "check_pure",
    "check_same",
    "prove",
]
