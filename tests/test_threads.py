"""Threads of the CPU path: how many there are, and what callers, forks and errors do to them."""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import numpy as np
import pytest

from segaware_np.cpu import threads
from segaware_np.cpu.distance import distance, distance_grad
from segaware_np.cpu.mask import exponential_mask, exponential_mask_grad
from segaware_np.cpu.masked_sum import masked_sum, masked_sum_grad
from segaware_np.cpu.mean_field import mean_field_update_grad
from segaware_np.cpu.segaware_convolution import segaware_convolution, segaware_convolution_grad
from segaware_np.cpu.softmax import softmax
from segaware_np.cpu.threads import get_num_threads, parallel, set_num_threads
from segaware_np.ops.distance import Measure
from segaware_np.window import Window


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(threads._state, "count", threads._state.count)


def run(code, *arguments):
    start = "from segaware_np.cpu.threads import parallel, set_num_threads; set_num_threads(3)\n"
    return subprocess.run(
        [sys.executable, "-c", start + code, *arguments], capture_output=True, text=True, timeout=60
    )


several_threads = pytest.mark.skipif(
    importlib.util.find_spec("threadpoolctl") is None, reason="threadpoolctl is not installed"
)


def default(monkeypatch, value=None):
    if value is None:
        monkeypatch.delenv(threads.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(threads.VARIABLE, value)
    threads._state.count = None
    return get_num_threads()


def test_the_count_is_what_was_set():
    set_num_threads(np.int64(3))
    assert get_num_threads() == 3
    for count, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="count: expected"):
            set_num_threads(count)
    assert get_num_threads() == 3


def test_the_environment_gives_the_default(monkeypatch):
    assert default(monkeypatch, "5") == 5
    for text in ("0", "-2", "many", "1.5"):
        with pytest.raises(ValueError, match=f"SEGAWARE_NUM_THREADS: .* got '{text}'"):
            default(monkeypatch, text)


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({"cpu.max": "damaged"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, processors):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path) == processors


def test_the_default_keeps_within_quota_and_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for quota, count in ((float("inf"), 8), (2.5, 3), (0.2, 1), (64, 8)):
        monkeypatch.setattr(threads, "_quota", lambda quota=quota: quota)
        assert default(monkeypatch) == count


@pytest.mark.parametrize("count", [1, 2, 4])
def test_results_come_in_the_order_of_the_jobs(count):
    set_num_threads(count)

    def work(job):
        time.sleep(0.001 * (job % 3))
        return job**2

    assert parallel(work, range(20)) == [job**2 for job in range(20)]
    assert parallel(work, []) == []


def test_jobs_run_in_several_threads_and_calls_from_inside_in_their_own():
    set_num_threads(3)
    meeting = threading.Barrier(3, timeout=30)

    def inner(job):
        return threading.get_ident()

    def work(job):
        meeting.wait()  # broken, unless three jobs run at the same time
        return threading.get_ident(), set(parallel(inner, range(5)))

    results = parallel(work, range(3))
    assert len({caller for caller, _ in results}) == 3
    assert all(inner == {caller} for caller, inner in results)


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_comes_out_when_all_jobs_have_ended(count):
    set_num_threads(count)
    running = []

    def work(job):
        running.append(job)
        time.sleep(0.005)
        running.remove(job)
        if job == 1:
            raise KeyError(job)

    with pytest.raises(KeyError, match="1"):
        parallel(work, range(50))
    assert not running
    assert parallel(str, [1, 2]) == ["1", "2"]


def test_jobs_keep_the_callers_error_state():
    set_num_threads(3)
    meeting = threading.Barrier(3, timeout=30)

    def work(job):
        meeting.wait()
        return np.geterr()["divide"], np.geterrcall()

    with np.errstate(divide="call", call=print):
        assert parallel(work, range(3)) == [("call", print)] * 3


def blas_threads():
    return [library.num_threads for library in threads._state.libraries]


@pytest.mark.skipif(np.__version__.startswith("1."), reason="NumPy 1 keeps its buffers")
def test_jobs_have_small_buffers_and_the_caller_its_own_again():
    before = np.getbufsize()
    assert parallel(lambda _: np.getbufsize(), range(8)) == [threads._BUFFER] * 8 != [before] * 8
    with pytest.raises(ZeroDivisionError):
        parallel(lambda _: 1 // 0, range(2))
    assert np.getbufsize() == before


def test_blas_has_one_thread_inside_and_its_own_number_again_afterwards():
    pytest.importorskip("threadpoolctl")
    parallel(str, [1])
    before = blas_threads()
    threads._state.set_blas([2] * len(before))
    try:
        set_num_threads(2)
        inside = parallel(lambda job: blas_threads(), range(4))
        assert inside == [[1] * len(before)] * 4
        assert blas_threads() == [2] * len(before)
        with pytest.raises(ZeroDivisionError):
            parallel(lambda job: 1 // job, [1, 0])
        assert blas_threads() == [2] * len(before)
    finally:
        threads._state.set_blas(before)


def in_another_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(60)
    return results[0]


@pytest.fixture
def two_of_blas():
    """BLAS set to two threads, by this thread: the only one that threadpoolctl then listens to."""
    pytest.importorskip("threadpoolctl")
    parallel(str, [1])
    before = blas_threads()
    for library in threads._state.libraries:
        library.set_num_threads(2)
    yield [2] * len(before)
    threads._state.set_blas(before)


def test_blas_has_one_thread_inside_the_calls_of_any_thread(two_of_blas):
    set_num_threads(2)
    one = [1] * len(two_of_blas)
    call = lambda: parallel(lambda job: blas_threads(), range(4))  # noqa: E731
    for _ in range(3):  # each is by a thread that ends: what it controlled, nobody does then
        assert in_another_thread(call) == [one] * 4
        assert blas_threads() == two_of_blas
    assert call() == [one] * 4
    assert blas_threads() == two_of_blas


@pytest.mark.parametrize("main_ends_first", [True, False])
def test_blas_is_held_until_the_last_of_overlapping_calls_ends(two_of_blas, main_ends_first):
    begun, end_main, end_other = (threading.Event() for _ in range(3))
    ends = [end_main, end_other][:: 1 if main_ends_first else -1]
    seen = []

    def watch():
        assert begun.wait(60)
        for end in ends:
            seen.append(blas_threads())
            end.set()
            time.sleep(0.1)  # the call that may end does

    other = threading.Thread(target=parallel, args=(lambda _: end_other.wait(60), [0]))
    watcher = threading.Thread(target=watch)

    def overlap(_):
        other.start()
        watcher.start()
        time.sleep(0.1)
        begun.set()
        assert end_main.wait(60)

    parallel(overlap, [0])
    other.join(60), watcher.join(60)
    assert seen == [[1] * len(two_of_blas)] * 2
    assert blas_threads() == two_of_blas


class _OwnBlas:
    """A BLAS on OpenMP: each thread sets its own number."""

    internal_api = "openblas"

    def __init__(self):
        self.numbers = threading.local()

    def info(self):
        return {"threading_layer": "openmp"}

    @property
    def num_threads(self):
        return getattr(self.numbers, "count", 4)

    def set_num_threads(self, count):
        self.numbers.count = count


def test_a_blas_whose_threads_set_their_own_number_has_one_in_every_thread(monkeypatch):
    library = _OwnBlas()
    monkeypatch.setattr(threads, "_blas_libraries", lambda: [library])
    monkeypatch.setattr(threads._state, "libraries", None)
    monkeypatch.setattr(threads._state, "own", [])
    threads._state.start_anew()  # the pool's threads know nothing of this library
    set_num_threads(3)
    meeting = threading.Barrier(3, timeout=30)

    def work(job):
        meeting.wait()
        return library.num_threads

    library.set_num_threads(2)
    held = threading.Event(), threading.Event()
    other = threading.Thread(
        target=parallel, args=(lambda _: held[0].set() or held[1].wait(30), [0])
    )
    other.start()
    assert held[0].wait(30)
    try:
        assert parallel(work, range(3)) == [1, 1, 1]
        assert library.num_threads == 2
        assert in_another_thread(lambda: library.num_threads) == 4
    finally:
        held[1].set()
        other.join()
        threads._state.start_anew()


def test_without_threadpoolctl_jobs_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(threads._state, "libraries", None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    set_num_threads(4)
    assert set(parallel(lambda job: threading.get_ident(), range(9))) == {threading.get_ident()}
    assert threads._state.libraries == []


def _child(queue):
    queue.put(parallel(lambda job: job + 1, range(8)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_threads_of_its_own():
    set_num_threads(3)
    parallel(str, range(8))  # the pool's threads exist, and will not exist in the child
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def fork(job):  # a fork while other threads are at work
        child = context.Process(target=_child, args=(queue,))
        child.start()
        result = queue.get(timeout=60)
        child.join(60)
        return result, child.exitcode

    expected = list(range(1, 9)), 0
    assert fork(None) == expected
    assert parallel(fork, [1]) == [expected]
    assert parallel(str, range(3)) == ["0", "1", "2"]


FORKS = """
import os, signal, sys, threading, time
import numpy as np
signal.alarm(50)
"""

AMID_CALLS = """
from segaware_np import ops, Window
rng, window, ended = np.random.default_rng(0), Window.same(3), threading.Event()
x, w = rng.standard_normal((2, 8, 40, 40), "f4"), rng.standard_normal((8, 8, 3, 3), "f4")
y, cache = ops.convolution_forward(x, w, window=window)
expected = ops.convolution_backward(y, cache)[1].tobytes()
def call():
    while not ended.is_set():
        assert ops.convolution_backward(y, cache)[1].tobytes() == expected
callers = [threading.Thread(target=call) for _ in range(2)]
for caller in callers:
    caller.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(ops.convolution_backward(y, cache)[1].tobytes() != expected)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ended.set()
for caller in callers:
    caller.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_program_may_fork_amid_the_calls_of_other_threads():
    ended = run(FORKS + AMID_CALLS)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


FROM_A_JOB = """
forker, chosen = sys.argv[1], threading.Lock()
meeting = threading.Barrier(3, timeout=30)
def work(job):
    meeting.wait()  # each thread has one job
    mine = "main" if threading.current_thread() is threading.main_thread() else "helper"
    if mine != forker or not chosen.acquire(blocking=False):
        done.wait()
        return None
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        return None
    done.set()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done = threading.Event()
print(sorted(parallel(work, range(3)), key=str))
"""


@several_threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("forker", ["main", "helper"])
def test_a_child_whose_job_returns_says_that_the_jobs_of_other_threads_are_lost(forker):
    ended = run(FORKS + FROM_A_JOB, forker)
    assert ended.stdout == "[1, None, None]\n"
    assert ended.stderr.count("what other threads had begun has no result in the child") == 1


def test_an_attribute_that_a_thread_computes_at_the_fork_is_there_in_the_child():
    ended = run(
        FORKS
        + """
from segaware_np.lazy import lazy
class Slow:
    @lazy
    def value(self):
        begun.set()
        return self.wait()
begun, end, slow, quick = threading.Event(), threading.Event(), Slow(), Slow()
slow.wait, quick.wait = lambda: end.wait(30), lambda: 7
threading.Thread(target=lambda: slow.value).start()
begun.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(quick.value)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
end.set()
"""
    )
    assert (ended.stdout, ended.stderr) == ("7\n", "")


def test_a_call_does_not_wait_for_the_jobs_of_another():
    set_num_threads(2)
    end, begun = threading.Event(), threading.Barrier(3, timeout=30)

    def occupy(job):
        begun.wait()
        assert end.wait(30)

    other = threading.Thread(target=parallel, args=(occupy, range(2)))
    other.start()
    begun.wait()  # the pool's only helper is at work, and stays there
    assert parallel(str, range(3)) == ["0", "1", "2"]
    assert other.is_alive()
    end.set()
    other.join()


def test_a_call_that_ended_keeps_nothing_alive():
    set_num_threads(2)
    held = []

    def keep(job):
        return np.empty(3)

    for _ in range(20):
        results = parallel(keep, range(2))
        held += [weakref.ref(result) for result in results]
    del results
    deadline = time.monotonic() + 30
    while any(reference() is not None for reference in held) and time.monotonic() < deadline:
        time.sleep(0.001)  # a helper may be about to leave
    assert not any(reference() is not None for reference in held)


@several_threads
def test_a_program_ends_with_its_pool_alive():
    ended = run("print(parallel(abs, [-1, -2, -3]))")
    assert (ended.stdout, ended.stderr) == ("[1, 2, 3]\n", "")


ENDING = """
import atexit, threading
def work():
    print(parallel(abs, [-1, -2, -3]))
def outlive():
    threading.main_thread().join()
    work()
work()
"""


@several_threads
@pytest.mark.parametrize(
    "late", ["atexit.register(work)", "threading.Thread(target=outlive).start()"]
)
def test_a_program_that_is_ending_still_computes(late):
    ended = run(ENDING + late)
    assert (ended.stdout, ended.stderr) == ("[1, 2, 3]\n" * 2, "")


INTERRUPTIONS = """
import random, signal
import numpy as np
from segaware_np.cpu.threads import _inside_job, _state
parallel(abs, range(4))
_state.set_blas([2] * len(_state.libraries))
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
while interrupted < 1000:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
        while True:
            parallel(abs, range(4))
    except KeyboardInterrupt:
        interrupted += 1
    assert not _inside_job.get() and np.getbufsize() == 8192
    assert parallel(abs, [-1, -2, -3]) == [1, 2, 3]
    assert not _state.holders
    assert {library.num_threads for library in _state.libraries} == {2}
print("done")
"""


@several_threads
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_the_next_call_mends_what_an_interrupt_left():
    ended = run(INTERRUPTIONS)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


def step(seed=0, size=(70, 60)):
    """Every gradient of a segmentation-aware convolution with a mask made from an embedding, and
    of a masked sum and the mixing of its channels."""
    rng, window = np.random.default_rng(seed), Window.same(3, dilation=2)
    measure = Measure(window, "L1", remove_center=False, remove_bounds=True)
    x, e = rng.standard_normal((2, 3, 8, *size), dtype="float32")
    weight = rng.standard_normal((5, 8, 3, 3), dtype="float32")
    d = distance(e, measure)
    mask = exponential_mask(d, 0.1)
    y = segaware_convolution(x, mask, weight, None, window, 1)
    need = {"x", "mask", "weight", "bias"}
    dx, dmask, dweight, dbias = segaware_convolution_grad(y, x, mask, weight, window, 1, need)
    dd, ds = exponential_mask_grad(dmask, d, 0.1, mask)
    de = distance_grad(dd, e, measure)
    sums = masked_sum(x, mask, window)
    dx2, dmask2 = masked_sum_grad(sums, x, mask, window, {"x", "mask"})
    mixer = np.outer(weight[0, :, 0, 0], weight[1, :, 0, 0])
    (dp,), (dmixer,) = mean_field_update_grad(x, [softmax(e)], [mixer])
    return [y, dx, dweight, dbias, ds, de, sums, dx2, dmask2, dp, dmixer]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_are_the_same_bit_for_bit_for_a_number_of_threads(count):
    set_num_threads(count)
    first = step()
    for _ in range(10):
        for have, want in zip(step(), first, strict=True):
            assert np.array_equal(have, want)
    set_num_threads(3)
    for have, want in zip(step(), first, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_results_are_the_same_bit_for_bit_in_any_thread(count):
    set_num_threads(count)
    for have, want in zip(in_another_thread(step), step(), strict=True):
        assert np.array_equal(have, want)


def test_callers_may_use_threads_of_their_own():
    seeds, results = range(8), {}

    def call(seed):
        results[seed] = [step(seed) for _ in range(3)]

    set_num_threads(3)
    callers = [threading.Thread(target=call, args=(seed,)) for seed in seeds]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for seed in seeds:
        expected = step(seed)
        for result in results[seed]:
            assert all(np.array_equal(a, b) for a, b in zip(result, expected, strict=True))


def test_iterations_ask_for_no_more_memory():
    def scratch():
        return {n: (b.size, b.ctypes.data) for n, b in threads._workspace.blocks.items()}

    set_num_threads(1)  # all scratch memory belongs to this thread
    tracemalloc.start()
    try:
        for seed in range(20):
            step(seed)  # what is made once, such as the interpreter's free lists, is there
        before, held = scratch(), tracemalloc.get_traced_memory()[0]
        for seed in range(20):
            step(seed)
        gc.collect()
        assert scratch() == before != {}
        assert tracemalloc.get_traced_memory()[0] - held < 2**15
    finally:
        tracemalloc.stop()
