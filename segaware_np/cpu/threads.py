"""How many threads the CPU path uses, and how they share the parts of one operation."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from math import ceil, prod
from operator import index
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

Job = TypeVar("Job")
Result = TypeVar("Result")

VARIABLE = "SEGAWARE_NUM_THREADS"

# Elements of NumPy's buffers while a job runs: with its default of 8192, rows of up to 2000 are
# copied into a buffer before they are added or multiplied, which takes as long again.
_BUFFER = 1024


_FEW = 1 << 13  # values that one thread is done with before another is awake


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


def parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], values: int | None = None
) -> list[Result]:
    """``[work(job) for job in jobs]``, shared among the threads.

    Whichever thread is free takes the next job, so a result must not depend on what other jobs
    have done. BLAS is held to one thread meanwhile: two levels of threads would fight for the
    processors. That takes threadpoolctl; without it the jobs run one after the other and the
    threads are BLAS's own. A call from inside a job runs its jobs in the calling thread, and so
    does one with few values: to wake a thread takes longer, and BLAS wakes none for so few.

    Parameters
    ----------
    work : callable
        Of one job.
    jobs : sequence
    values : int, optional
        How many numbers the jobs work on in all, if that may be few.

    Returns
    -------
    list
        In the order of the jobs.

    Raises
    ------
    Exception
        An error of a job, once no job runs any longer; what has not begun by then never does.
    RuntimeError
        In a child that a job forked: what other threads had begun has no result there.

    Examples
    --------
    >>> parallel(lambda n: n * n, range(4))
    [0, 1, 4, 9]
    """
    if _inside_job.get() or (values is not None and values <= _FEW):
        return [work(job) for job in jobs]
    try:
        helpers = min(get_num_threads(), len(jobs)) - 1 if _state.hold_blas() else 0
        call = _Call(work, jobs)
        _state.ask(call, helpers)
        return call.run()
    finally:
        _state.release_blas()


def shares_jobs() -> bool:
    """Tell whether `parallel` has the means to share jobs: a BLAS that can be held to one thread.

    Returns
    -------
    bool
        False without threadpoolctl, or where it knows none of the BLAS libraries in use: then jobs
        run one after the other, whatever `get_num_threads` says.

    Examples
    --------
    >>> isinstance(shares_jobs(), bool)
    True
    """
    return bool(_state.find_blas())


class _Call:
    """The jobs of one call of `parallel`, and what has come of them."""

    def __init__(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> None:
        self._work = work
        self._waiting = list(enumerate(jobs))[::-1]  # list.pop is atomic, with and without the GIL
        self._results: list[Any] = [_MISSING] * len(jobs)
        self._errors: list[BaseException] = []  # of helpers
        self._busy: list[threading.Lock] = []  # one for each helper, which releases it at its end
        self._errstate: dict[str, Any] = {**np.geterr(), "call": np.geterrcall()}  # the caller's
        self._process = os.getpid()

    def run(self) -> list[Any]:
        """Take jobs until none is left; wait for the helpers that have taken one."""
        try:
            # What is set in a context of its own is gone with it, whenever an interrupt comes.
            copy_context().run(self._drain)
        finally:
            self._wait()
        if self._errors:
            raise self._errors.pop(0)
        return self._results

    def _wait(self) -> None:
        if os.getpid() == self._process:
            for busy in self._busy:
                busy.acquire()
        elif any(result is _MISSING for result in self._results):
            raise RuntimeError(_FORKED)

    def help(self) -> None:
        """Take jobs as well, in a thread of the pool."""
        busy = threading.Lock()
        busy.acquire()
        self._busy.append(busy)  # before the first job is taken: `run` looks when none is left
        try:
            _state.hold_own_blas()
            with np.errstate(**self._errstate):
                self._drain()
        except BaseException as error:
            self._errors.append(error)
        finally:
            busy.release()

    def _drain(self) -> None:
        _enter_jobs()
        try:
            while self._waiting:
                try:
                    number, job = self._waiting.pop()
                except IndexError:  # another thread took the last one
                    return
                self._results[number] = self._work(job)
        except BaseException:
            self._waiting.clear()
            raise


class _State:
    """What all threads of the process share: the count, the pool and the hold on BLAS.

    A KeyboardInterrupt may come between any two steps. It cannot leave a SimpleQueue locked, as
    it can the pools of the standard library; a hold on BLAS that it leaves, the next call ends.
    """

    def __init__(self) -> None:
        self.count: int | None = None
        self.libraries: list[Any] | None = None  # unknown before the first call
        self.own: list[Any] = []  # those of them whose number each thread has for itself
        self.before: list[int] = []  # threads of BLAS while it is held to one, else empty
        self.start_anew()

    def start_anew(self) -> None:
        """Know of no other thread."""
        self.lock = threading.RLock()  # a signal handler may fork while its thread holds it
        # Threads whose calls hold BLAS to one thread, and their own numbers before.
        self.holders: dict[int, list[int]] = {}
        self.helpers = 0
        # Weak: a call that ended before a helper came for it must not keep its arrays alive.
        self.calls: SimpleQueue[weakref.ref[_Call]] = SimpleQueue()

    def after_fork(self) -> None:
        """In the child only the forking thread lives."""
        if self.before:
            self._restore_blas()
        self.start_anew()
        _inside_job.set(False)

    def ask(self, call: _Call, helpers: int) -> None:
        """Let helpers take jobs of a call. Those that are at work for others may come too late."""
        with self.lock:
            while self.helpers < helpers:
                # A daemon: it sleeps for as long as the program runs, and ends with it.
                threading.Thread(target=_serve, args=(self.calls,), daemon=True).start()
                self.helpers += 1
        for _ in range(helpers):
            self.calls.put(weakref.ref(call))

    def hold_blas(self) -> bool:
        """Hold BLAS to one thread; tell whether that is possible."""
        with self.lock:
            libraries = self.find_blas()
            own = [library.num_threads for library in self.own]
            self.holders.setdefault(threading.get_ident(), own)
            if not self.before:
                self.before = [library.num_threads for library in libraries]
            self.set_blas([1] * len(libraries))
        return bool(libraries)

    def find_blas(self) -> list[Any]:
        """Return the BLAS libraries whose number of threads can be set."""
        with self.lock:
            if self.libraries is None:
                self.libraries = _blas_libraries()
                self.own = [library for library in self.libraries if _is_own(library)]
            return self.libraries

    def hold_own_blas(self) -> None:
        """Hold a helper's own BLAS to one thread, for good."""
        for library in self.own:
            library.set_num_threads(1)

    def release_blas(self) -> None:
        """End this thread's hold on BLAS."""
        with self.lock:
            own = self.holders.pop(threading.get_ident(), [])
            if self.before and not self.holders:
                self._restore_blas()
            for library, count in zip(self.own, own, strict=False):
                library.set_num_threads(count)

    def set_blas(self, counts: list[int]) -> None:
        """Set each library's number of threads, for whichever thread asks.

        Since threadpoolctl 3.8 the first thread that sets OpenBLAS's number is the only one that
        can, as long as it lives: each of ours takes that over, and leaves it to nobody.
        """
        self._take_control()
        for library, count in zip(self.libraries or [], counts, strict=True):
            library.set_num_threads(count)
        self._take_control()

    def _take_control(self) -> None:
        for library in self.libraries or []:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)
                return  # of all libraries: OpenBLAS's controllers share it

    def _restore_blas(self) -> None:
        self.set_blas(self.before)
        self.before = []


def _is_own(library: Any) -> bool:
    """Whether a thread that sets this BLAS's number does so for itself alone."""
    return (library.internal_api, library.info().get("threading_layer")) == ("openblas", "openmp")


def _enter_jobs() -> None:
    """Let this context be one of jobs: calls from inside stay in their thread, buffers are small.

    NumPy 1 may lose a size of buffers when other threads set one, and sums differ in their last
    bits with it: there it stays as it is.
    """
    _inside_job.set(True)
    if not np.__version__.startswith("1."):
        np.setbufsize(_BUFFER)


def _serve(calls: SimpleQueue[weakref.ref[_Call]]) -> None:
    process = os.getpid()
    while True:
        _help(calls.get())
        if os.getpid() != process:  # BLAS's own threads would keep such a child alive
            print(_FORKED, file=sys.stderr, flush=True)
            os._exit(1)


def _help(reference: weakref.ref[_Call]) -> None:
    call = reference()  # in a frame of its own, which does not outlast the call
    if call is not None:
        call.help()


_MISSING = object()
_FORKED = "a job has forked: what other threads had begun has no result in the child"
_inside_job = ContextVar("_inside_job", default=False)
_state = _State()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _state.lock.acquire(),  # no thread is amid setting BLAS's number
        after_in_parent=lambda: _state.lock.release(),
        after_in_child=lambda: _state.after_fork(),
    )


def _blas_libraries() -> list[Any]:
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return []
    import scipy.linalg.cython_blas  # noqa: F401  (only loaded libraries are found)

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def share_processors(count: int) -> None:
    """Let the default be a share of the processors, where some processes have the same ones.

    Parameters
    ----------
    count : int
        Processes of one machine that do the same. A number that was set, or that the environment
        gives, stays.

    Examples
    --------
    >>> share_processors(1)  # alone
    """
    if _state.count is None and not os.environ.get(VARIABLE, "").strip():
        _state.count = max(1, _default_count() // count)


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
        quota, period = (root / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        except OSError:
            return float("inf")
    limited = quota.isdecimal() and period.isdecimal() and int(period) > 0  # "max", "-1": none
    return int(quota) / int(period) if limited else float("inf")


_LINE = 64  # bytes of a cache line


class _Workspace(threading.local):
    def __init__(self) -> None:
        self.blocks: dict[str, np.ndarray] = {}


_workspace = _Workspace()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return uninitialised memory of this thread, the same at every call with that name.

    It grows to the largest that was ever asked for and lives as long as the thread, so that no
    iteration asks for new pages. Nothing that leaves an operation may lie in it.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : numpy.dtype

    Examples
    --------
    >>> buffer = scratch("columns", (2, 3), np.dtype("float32"))
    >>> np.shares_memory(buffer, scratch("columns", (3, 2), np.dtype("float32")))
    True
    """
    size = prod(shape) * dtype.itemsize
    block = _workspace.blocks.get(name)
    if block is None or block.size < size:
        block = _aligned(size)
        _workspace.blocks[name] = block
    return block[:size].view(dtype).reshape(shape)


def _aligned(size: int) -> np.ndarray:
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size]
