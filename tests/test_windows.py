"""Without what Windows does not have: user numbers, file locks. (Not tried on Windows itself.)"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segaware_np.log import Log, read_log
from segaware_np.testing.cuda import emulate


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pytest's folder needs them
    for name in ("getuid", "geteuid", "getgid"):
        monkeypatch.delattr(os, name, raising=False)
    for name in ("fcntl", "pwd", "resource"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails


def test_the_emulator_keeps_its_builds_by_the_name_of_the_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEGAWARE_EMULATOR_CACHE", raising=False)
    for name in ("LOGNAME", "USER", "LNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USERNAME", "ada")  # the variable that Windows sets
    assert emulate.cache_folder().name == "segaware-emulator-ada"


def test_a_log_is_written_without_a_lock(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.write(dict(iteration=1, loss=0.5, lr=0.1, gradient_norm=2.0, seconds=0.01))
    assert read_log(path)[0]["iteration"] == 1


def test_every_module_of_the_package_is_imported():
    code = """
import os, pkgutil, sys
del os.getuid
sys.modules.update(dict.fromkeys(["fcntl", "pwd", "resource", "grp"]))
import segaware_np
for module in pkgutil.walk_packages(segaware_np.__path__, "segaware_np."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
