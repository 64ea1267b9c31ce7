"""Golden cases, and a network held against one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from segaware_np.caffe import Net

HERE = Path(__file__).parent / "golden"
TOLERANCE = {"float32": (2e-4, 2e-5), "float64": (1e-6, 1e-8)}  # relative; of the largest entry
INFINITE = 3e36


def cases(solver: bool) -> list:
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


def loaded(path: Path) -> tuple[dict, dict]:
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    return case, json.loads(str(case.pop("meta")))


def matching(case: dict, pattern: str) -> Iterator[tuple[re.Match, np.ndarray]]:
    for key, value in case.items():
        if match := re.fullmatch(pattern, key):
            yield match, value


def check_network(path: Path, dtype: str, fuse: bool, xp: ModuleType = np) -> None:
    """Run a case forward and backward; assert all that was recorded of it."""
    get = np.asarray if xp is np else xp.asnumpy
    case, meta = loaded(path)
    gpu_rules = path.parent.name != "distloss"  # there the GPU code is the broken one
    net = Net(meta["prototxt"], phase="TRAIN", dtype=dtype, xp=xp, fuse=fuse)

    def inputs(kind: str) -> dict:
        found = matching(case, f"{kind}_(.+)")
        return {match[1]: xp.asarray(value.astype(dtype)) for match, value in found}

    for match, value in matching(case, r"param_(.+)_(\d+)"):
        blob = net.params[match[1]][int(match[2])]
        blob.data[...] = xp.asarray(value.reshape(blob.shape).astype(dtype))
    net.forward(inputs("in"))
    for match, _ in matching(case, "out_(?!cu_)(.+)"):
        want = _wanted(case, "out", match[1], dtype, gpu_rules)
        _close(get(net.blobs[match[1]].data), want, dtype, match[1])
    net.backward(inputs("topdiff"))
    for match, _ in matching(case, "grad_(?!cu_)(.+)"):
        want = _wanted(case, "grad", match[1], dtype, gpu_rules)
        _close(get(net.blobs[match[1]].diff), want, dtype, f"gradient of {match[1]}")
    for match, _ in matching(case, r"pgrad_(?!cu_)((.+)_(\d+))"):
        want = _wanted(case, "pgrad", match[1], dtype, gpu_rules)
        got = get(net.params[match[2]][int(match[3])].diff)
        _close(got, want, dtype, f"gradient of parameter {match[1]}")
