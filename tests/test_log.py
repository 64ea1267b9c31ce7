"""What a run tells: its log, and its progress on standard error."""

import errno
import os
from contextlib import nullcontext

import pytest
from command_line import terminal

from segaware_np import extras
from segaware_np.files import FormatError
from segaware_np.log import Log, read_log
from segaware_np.progress import progress


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_log(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    lines = [
        dict(iteration=i, loss=i / 3, lr=1e-4, gradient_norm=1e300, seconds=0.5) for i in (1, 2, 3)
    ]
    with Log(path) as log:
        for line in lines:
            log.write(line)
        assert read_log(path) == lines
    with Log(path, 2) as log:
        assert read_log(path) == lines[:2]
        log.write(lines[2])
    assert read_log(path) == lines
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(FormatError, match="is no training log"):
        Log(path, 3)
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / f"none.{suffix}")


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
@pytest.mark.parametrize(("code", "works"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_folder_without_locks(tmp_path, monkeypatch, code, works):
    def fail(*arguments):
        raise OSError(code, "no")

    monkeypatch.setattr("fcntl.flock", fail)
    with nullcontext() if works else pytest.raises(OSError, match="no"), Log(tmp_path / "log.csv"):
        assert works


@pytest.mark.parametrize("line", ["[" * 10**5, '{"iteration": 1e999}', "[]", "7", '{"loss": 1}'])
def test_lines_that_are_no_log(tmp_path, line):
    (tmp_path / "log.jsonl").write_text(line.replace("}", ', "lr": 1}') + "\n")
    with pytest.raises(FormatError, match=r"log.jsonl: line 1 is no training log"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.skipif(os.name != "posix", reason="files are locked on Unix")
def test_one_process_a_log(tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path), pytest.raises(FileExistsError, match="another process is at work on this run"):
        Log(path)
    with Log(path):
        pass


def test_a_full_disk_is_told_with_the_name_of_the_log(tmp_path):
    resource = pytest.importorskip("resource", reason="no file size limits here")
    limits, path = resource.getrlimit(resource.RLIMIT_FSIZE), tmp_path / "log.jsonl"
    line = dict(iteration=1, loss=1.0, lr=1.0, gradient_norm=1.0, seconds=1.0)
    try:  # a file size limit is the full disk that a process can give itself
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="too large") as caught, Log(path) as log:
            for _ in range(2):
                log.write(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    assert read_log(path) == [line]  # what of the second there is, is no line


@pytest.fixture
def without_tqdm(monkeypatch):
    def missing(module, extra):
        raise ImportError(module)

    monkeypatch.setattr("segaware_np.progress.require", missing)
    assert extras.require is not missing


def test_progress_in_a_file(capsys, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("segaware_np.progress.time.monotonic", lambda: 10 * next(now))
    with progress(40, 10) as step:
        for i in range(11, 41):
            step(f"loss {i}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["12/40  loss 12", "14/40  loss 14"]
    assert lines[-1] == "40/40  loss 40"
    assert len(lines) == 15
    with progress(10**6) as step:
        for _ in range(100):  # far from a 20th, but minutes pass
            step("")
    assert 10 < len(capsys.readouterr().err.splitlines()) < 40


def test_progress_on_a_terminal():
    pytest.importorskip("tqdm")
    with terminal() as shown, progress(10, 4) as step:
        step("loss 1")
    assert "| 5/10" in shown.getvalue()


@pytest.mark.usefixtures("without_tqdm")
def test_progress_on_a_terminal_without_tqdm():
    with terminal() as shown, progress(2) as step:
        step("a long note")
        step("short")
    assert shown.getvalue() == "\r1/2  a long note\r2/2  short      \n"


def test_progress_that_nobody_wants():
    with terminal() as shown, progress(2, shown=False) as step:
        step("unseen")
    assert shown.getvalue() == ""
