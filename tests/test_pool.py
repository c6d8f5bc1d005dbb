"""The threads of parallel loops: each iteration runs once on any number of threads, and processes end cleanly."""

import sys
import time

import numba
import numpy as np
import pytest
from numba import prange
from processes import run_python

import numbacnn as nc
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d
from numbacnn.kernels.threads import available, pool

pytestmark = pytest.mark.skipif(not available(), reason="Numba's threads run the kernels here")


@cpu_kernel(float32_1d)
def increment(x):
    for i in prange(x.size):
        x[i] += 1


@cpu_kernel(float32_2d)
def increment_whole(x):
    x[:] = x + np.float32(1)  # Numba makes a loop over two dimensions of it


@nc.kernel
def total(y, x):
    found = 0.0
    for i in prange(x.shape[3]):
        found += x[0, 0, 0, i]
    y[0, 0, 0, 0] = found


@pytest.fixture
def threads():
    """Set the number of threads of this Python thread, and restore it."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize("count", range(1, numba.config.NUMBA_NUM_THREADS + 1))
def test_each_iteration_runs_once(threads, count):
    increment(np.zeros(1, np.float32))  # starts the threads
    threads(count)
    for size in (*range(70), 1000, 12345):
        x = np.zeros(size, np.float32)
        for _ in range(20):
            increment(x)
        assert (x == 20).all(), size


@pytest.mark.parametrize("shape", [(1, 1), (3, 100), (100, 3), (0, 5), (5, 0)])
def test_loops_over_two_dimensions(shape):
    x = np.zeros(shape, np.float32)
    increment_whole(x)
    assert (x == 1).all()


@pytest.mark.parametrize("size", [1, 2, 31, 1000])
def test_a_sum_of_a_custom_kernel(size):
    x, y = np.arange(size, dtype=np.float32).reshape(1, 1, 1, -1), np.zeros((1, 1, 1, 1), np.float32)
    for _ in range(50):
        total(y, x)
        assert y.item() == size * (size - 1) / 2


SEVERAL = """
import os, threading, time
import numpy as np
from test_pool import increment


def many(rounds=2000):
    x = np.zeros(500, np.float32)
    for _ in range(rounds):
        increment(x)
    assert (x == rounds).all()


many()
threads = [threading.Thread(target=many) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if {fork}:
    child = os.fork()
    if child == 0:
        many()
        os._exit(7)
    many()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
{end}
"""


@pytest.mark.parametrize("count", [1, 2, 8])
def test_python_threads_and_forked_children_at_once(count):
    """Eight threads are more than most machines of CI have cores."""
    script = SEVERAL.format(fork=True, end="many()")
    assert run_python("-W", "ignore", "-c", script, NUMBA_NUM_THREADS=str(count), **on_path()) == "7\n"


@pytest.mark.parametrize(
    "end", ["", "time.sleep(0.01)", "threading.Thread(target=many, args=[10**8], daemon=True).start()"]
)
def test_a_process_ends_while_its_threads_wait_sleep_or_compute(end):
    run_python("-c", SEVERAL.format(fork=False, end=end), NUMBA_NUM_THREADS="4", **on_path())


def on_path():
    return {"PYTHONPATH": ":".join(sys.path)}


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS == 1, reason="loops are always serial")
def test_loops_are_serial_for_a_while_after_waits_for_other_threads(threads):
    """A balance far below zero is what many waits for a thread without a core leave."""
    x = np.zeros(500, np.float32)
    increment(x)
    threads(numba.config.NUMBA_NUM_THREADS)
    pool._state[pool.SAVED] = -(10**12)
    increment(x)
    serial_until = pool._state[pool.ALONE_UNTIL]
    assert serial_until > time.monotonic_ns() - 10**9
    loops = pool._state[pool.EPOCH]
    while time.monotonic_ns() < serial_until - 10**6:
        increment(x)
        assert pool._state[pool.EPOCH] in (loops, loops + 1)  # the first loop after the while may begin here
    while pool._state[pool.EPOCH] == loops:
        increment(x)
    assert (x == x[0]).all()


USER = """
import sys
from pathlib import Path
import numba
import numpy as np
import numbacnn as nc

@numba.njit(cache=True)
def half(x):
    return x * np.float32(0.5)

if sys.argv[1] == "first":
    half(np.float32(2))
else:
    @nc.kernel
    def halve(y, x):
        for n in numba.prange(len(x)):
            y[n, 0, 0, 0] = half(x[n, 0, 0, 0])

    y, x = np.zeros((9, 1, 1, 1), np.float32), np.arange(9, dtype=np.float32).reshape(9, 1, 1, 1)
    halve(y, x)
    assert (y == x / 2).all()
"""


def test_a_custom_kernel_calls_a_function_from_a_cache_of_the_user(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    variables = {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "NUMBACNN_CACHE_DIR": str(tmp_path / "numbacnn")}
    for run in ("first", "second"):
        run_python(tmp_path / "user.py", run, **variables)
