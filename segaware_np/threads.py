"""How many threads the CPU path uses, and how they share the parts of one operation."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from math import ceil
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Job = TypeVar("Job")
Result = TypeVar("Result")

VARIABLE = "SEGAWARE_NUM_THREADS"

# Elements of NumPy's buffers while a job runs: with its default of 8192, rows of up to 2000 are
# copied into a buffer before they are added or multiplied, which takes as long again.
_BUFFER = 1024


def get_num_threads() -> int:
    """Return the number of threads that an operation on NumPy arrays may use.

    It is what `set_num_threads` last set, else the environment variable
    ``SEGAWARE_NUM_THREADS``, else the number of processors that this process may run on (its
    affinity and the quota of its container considered).

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the environment variable is not a positive integer.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    if _state.count is None:
        _state.count = _default_count()
    return _state.count


def set_num_threads(count: int) -> None:
    """Set the number of threads that an operation on NumPy arrays may use, for all callers.

    Results are the same bit for bit for a given number of threads; between two numbers they
    may differ by rounding, because gradients of weights are then summed in another grouping.

    Parameters
    ----------
    count : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `count` is not a positive integer.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    try:
        number = index(count)
    except TypeError:
        raise TypeError(f"count: expected an integer, got {count!r}") from None
    if number < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    _state.count = number


def parallel(work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    """``[work(job) for job in jobs]``, shared among the threads.

    Whichever thread is free takes the next job, so a result must not depend on what other jobs
    have done. BLAS is held to one thread meanwhile: two levels of threads would fight for the
    processors. That takes threadpoolctl; without it the jobs run one after the other and the
    threads are BLAS's own. A call from inside a job runs its jobs in the calling thread.

    Parameters
    ----------
    work : callable
        Of one job.
    jobs : sequence

    Returns
    -------
    list
        In the order of the jobs.

    Raises
    ------
    Exception
        The first error of a job, once no job runs any longer.

    Examples
    --------
    >>> parallel(lambda n: n * n, range(4))
    [0, 1, 4, 9]
    """
    if getattr(_inside, "job", False):
        return [work(job) for job in jobs]
    with _single_threaded_blas() as limited:
        helpers = min(get_num_threads(), len(jobs)) - 1 if limited else 0
        return _shared(work, jobs, max(0, helpers))


def _shared(work: Callable[[Job], Result], jobs: Sequence[Job], helpers: int) -> list[Result]:
    results: list[Any] = [None] * len(jobs)
    waiting = list(enumerate(jobs))[::-1]  # list.pop is atomic, with and without the GIL

    def drain() -> None:
        _inside.job = True
        before = np.setbufsize(_BUFFER)
        try:
            while waiting:
                try:
                    number, job = waiting.pop()
                except IndexError:  # another thread took the last one
                    return
                results[number] = work(job)
        except BaseException:
            waiting.clear()
            raise
        finally:
            np.setbufsize(before)
            _inside.job = False

    futures = []
    if helpers:
        with _state.lock:
            pool = _state.pool_of(helpers)
            # The caller's context holds its numpy.errstate.
            futures = [pool.submit(copy_context().run, drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        wait(futures)
    for future in futures:
        future.result()
    return results


class _State:
    """What all threads of the process share: the count, the pool and the hold on BLAS."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        self.libraries: list[Any] | None = None  # unknown before the first call
        self.holders = 0  # calls that hold BLAS to one thread
        self.before: list[int] = []  # its threads before the first of them

    def pool_of(self, size: int) -> ThreadPoolExecutor:
        if self.pool is None or self.size < size:
            if self.pool is not None:
                self.pool.shutdown(wait=False)  # what was submitted still runs
            self.pool, self.size = ThreadPoolExecutor(size, "segaware"), size
        return self.pool

    def after_fork(self) -> None:
        """In the child only the forking thread lives: no pool, no other holder, a new lock."""
        if self.holders:
            self.set_blas(self.before)
        self.lock, self.pool, self.size, self.holders = threading.Lock(), None, 0, 0
        _inside.job = False

    def set_blas(self, counts: list[int]) -> None:
        for library, count in zip(self.libraries or [], counts, strict=True):
            library.set_num_threads(count)


_state = _State()
_inside = threading.local()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _state.after_fork())


@contextmanager
def _single_threaded_blas() -> Iterator[bool]:
    """Hold BLAS to one thread; tell whether that is possible."""
    with _state.lock:
        if _state.libraries is None:
            _state.libraries = _blas_libraries()
        if _state.holders == 0:
            _state.before = [library.num_threads for library in _state.libraries]
            _state.set_blas([1] * len(_state.libraries))
        _state.holders += 1
    try:
        yield bool(_state.libraries)
    finally:
        with _state.lock:
            _state.holders -= 1
            if _state.holders == 0:
                _state.set_blas(_state.before)


def _blas_libraries() -> list[Any]:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return []
    import scipy.linalg.cython_blas  # noqa: F401  (only loaded libraries are found)

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _default_count() -> int:
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{VARIABLE}: expected a positive integer, got {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, ceil(min(processors, _quota())))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors that the container (control group, version 2 or 1) may keep busy."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return float("inf")
    limited = quota.isdecimal() and period.isdecimal() and int(period) > 0  # "max", "-1": none
    return int(quota) / int(period) if limited else float("inf")
