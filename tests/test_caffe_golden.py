"""Networks and solvers against numbers that the paper's authors' own code computed.

``tests/golden`` holds a small part of these vectors and is always run; the whole set is read from
the folder in the environment variable SEGAWARE_GOLDEN. Keys are those of `test_golden_ops`; a
description, the inputs, the parameters and the gradients at the tops go in, and every blob and
every gradient that was recorded has to come out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segaware_np.caffe import Net, Solver

HERE = Path(__file__).parent / "golden"
TOLERANCE = {"float32": (2e-4, 2e-5), "float64": (1e-6, 1e-8)}  # relative; of the largest entry
INFINITE = 3e36


def _cases(solver: bool) -> list:
    root = Path(os.environ.get("SEGAWARE_GOLDEN") or HERE)
    found = [path for path in sorted(root.glob("*/*.npz"))
             if (path.parent.name == "solver") == solver]
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in found]


def _wanted(case: dict, kind: str, name: str, dtype: str, gpu_rules: bool = True) -> np.ndarray:
    wide = "64" if dtype == "float64" else ""
    keys = [f"{kind}{wide}_cu_{name}"] * gpu_rules + [f"{kind}{wide}_{name}"]
    return next(case[key] for key in keys if key in case)


def _close(got: np.ndarray, want: np.ndarray, dtype: str, what: str) -> None:
    rtol, atol = TOLERANCE[dtype]
    got, far = np.reshape(got, want.shape), np.abs(want) > INFINITE
    assert (np.abs(got[far]) > INFINITE).all(), what
    largest = max(1, np.abs(want[~far]).max(initial=0))
    np.testing.assert_allclose(got[~far], want[~far], rtol, atol * largest, err_msg=what)


def _loaded(path: Path) -> tuple[dict, dict]:
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    return case, json.loads(str(case.pop("meta")))


def _matching(case: dict, pattern: str) -> Iterator[tuple[re.Match, np.ndarray]]:
    for key, value in case.items():
        if match := re.fullmatch(pattern, key):
            yield match, value


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "literal"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("path", _cases(solver=False))
def test_network(path: Path, dtype: str, fuse: bool) -> None:
    case, meta = _loaded(path)
    gpu_rules = path.parent.name != "distloss"  # there the GPU code is the broken one
    net = Net(meta["prototxt"], phase="TRAIN", dtype=dtype, fuse=fuse)
    for match, value in _matching(case, r"param_(.+)_(\d+)"):
        blob = net.params[match[1]][int(match[2])]
        blob.data[...] = value.reshape(blob.shape)
    net.forward({m[1]: value.astype(dtype) for m, value in _matching(case, "in_(.+)")})
    for match, _ in _matching(case, "out_(?!cu_)(.+)"):
        want = _wanted(case, "out", match[1], dtype, gpu_rules)
        _close(net.blobs[match[1]].data, want, dtype, match[1])
    net.backward({m[1]: value.astype(dtype) for m, value in _matching(case, "topdiff_(.+)")})
    for match, _ in _matching(case, "grad_(?!cu_)(.+)"):
        want = _wanted(case, "grad", match[1], dtype, gpu_rules)
        _close(net.blobs[match[1]].diff, want, dtype, f"gradient of {match[1]}")
    for match, _ in _matching(case, r"pgrad_(?!cu_)((.+)_(\d+))"):
        want = _wanted(case, "pgrad", match[1], dtype, gpu_rules)
        _close(net.params[match[2]][int(match[3])].diff, want, dtype, f"gradient of {match[1]}")


def _solver(meta: dict, case: dict, batch: int, fuse: bool) -> Solver:
    head = "".join(
        f'input: "{name}" input_shape {{ dim: {batch} '
        + " ".join(f"dim: {side}" for side in case[f"{name}_rows"].shape[1:])
        + " }\n"
        for name in ("data", "label")
    )
    net = Net(head + meta["net"], phase="TRAIN", dtype="float64", fuse=fuse)
    for match, value in _matching(case, r"param0_(.+)_(\d+)"):
        blob = net.params[match[1]][int(match[2])]
        blob.data[...] = value.reshape(blob.shape)
    return Solver(f"{meta['solver']} max_iter: {meta['max_iter']}", net=net)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "literal"])
@pytest.mark.parametrize("path", _cases(solver=True))
def test_solver(path: Path, fuse: bool) -> None:
    """In double precision: Adam turns the noise of float32 in gradients that are 0 into steps."""
    case, meta = _loaded(path)
    batch = 1 if "_b1" in path.stem else 2
    solver = _solver(meta, case, batch, fuse)
    numbers = iter(range(10**9))

    def feed() -> dict[str, np.ndarray]:
        rows = [next(numbers) % len(case["data_rows"]) for _ in range(batch)]
        return {name: case[f"{name}_rows"][rows] for name in ("data", "label")}

    checked = 0
    for _ in range(20):
        solver.step(1, feed)
        for match, want in _matching(case, rf"it{solver.iteration}64_cu_(.+)_(\d+)"):
            got = solver.net.params[match[1]][int(match[2])].data
            np.testing.assert_allclose(got, want.reshape(got.shape), 1e-5, 5e-7, err_msg=match[0])
            checked += 1
    assert checked
