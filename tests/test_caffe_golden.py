"""Networks and solvers against numbers that the paper's authors' own code computed.

``tests/golden`` holds a small part of these vectors and is always run; the whole set is read from
the folder in the environment variable SEGAWARE_GOLDEN. Keys are those of `test_golden_ops`; a
description, the inputs, the parameters and the gradients at the tops go in, and every blob and
every gradient that was recorded has to come out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_cases import cases, check_network, loaded, matching

from segaware_np.caffe import Net, Solver


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "literal"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("path", cases(solver=False))
def test_network(path: Path, dtype: str, fuse: bool) -> None:
    check_network(path, dtype, fuse)


def _solver(meta: dict, case: dict, batch: int, fuse: bool) -> Solver:
    head = "".join(
        f'input: "{name}" input_shape {{ dim: {batch} '
        + " ".join(f"dim: {side}" for side in case[f"{name}_rows"].shape[1:])
        + " }\n"
        for name in ("data", "label")
    )
    net = Net(head + meta["net"], phase="TRAIN", dtype="float64", fuse=fuse)
    for match, value in matching(case, r"param0_(.+)_(\d+)"):
        blob = net.params[match[1]][int(match[2])]
        blob.data[...] = value.reshape(blob.shape)
    return Solver(f"{meta['solver']} max_iter: {meta['max_iter']}", net=net)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "literal"])
@pytest.mark.parametrize("path", cases(solver=True))
def test_solver(path: Path, fuse: bool) -> None:
    """In double precision: Adam turns the noise of float32 in gradients that are 0 into steps."""
    case, meta = loaded(path)
    batch = 1 if "_b1" in path.stem else 2
    solver = _solver(meta, case, batch, fuse)
    numbers = iter(range(10**9))

    def feed() -> dict[str, np.ndarray]:
        rows = [next(numbers) % len(case["data_rows"]) for _ in range(batch)]
        return {name: case[f"{name}_rows"][rows] for name in ("data", "label")}

    checked = 0
    for _ in range(20):
        solver.step(1, feed)
        for match, want in matching(case, rf"it{solver.iteration}64_cu_(.+)_(\d+)"):
            got = solver.net.params[match[1]][int(match[2])].data
            np.testing.assert_allclose(got, want.reshape(got.shape), 1e-5, 5e-7, err_msg=match[0])
            checked += 1
    assert checked
