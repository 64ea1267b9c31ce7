"""The process in which a student's file runs: ``python -m segaware_np.learn.worker``.

Arguments: the exercise, the file, where to write the verdict as JSON, and the memory in megabytes.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from segaware_np.learn.examine import examine
from segaware_np.learn.exercise import find


def main(name: str, file: str, target: str, megabytes: str) -> None:
    """Judge a file, whatever it does, and leave."""
    exercise, text = find(name), Path(file).read_bytes()
    limit_memory(int(megabytes) << 20)
    try:
        found = asdict(examine(exercise, text, file))
    except Exception:  # no fault of the student: `check` raises it
        found = {"error": traceback.format_exc()}
    Path(target).write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # threads that the file has started do not hold it up


def limit_memory(more: int) -> None:
    """Let this process take so many bytes more than it has now, on Linux."""
    status = Path("/proc/self/statm")
    if status.exists():
        import resource

        now = int(status.read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


if __name__ == "__main__":
    main(*sys.argv[1:])
