"""Kernels that a training needs are compiled by several processes, into the cache on the disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import run_python

from numbacnn.kernels import ahead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks only on Linux")
TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")

TRAIN = """
import zlib
import numpy as np
import numbacnn as nc
from numbacnn.kernels import disk_cache, jit

compiled = []
jit.add_compile_listener(lambda name, done: compiled.append(name) if done else None)
rng = np.random.default_rng(0)
layers = [nc.Conv2D(4, 3, activation="relu"), nc.MaxPool2D(2), nc.BatchNorm(), nc.Flatten(), nc.Dense(3)]
model = nc.Sequential(layers, (12, 12, 1))
images = rng.integers(0, 255, (20, 12, 12, 1)).astype(np.uint8)
model.fit(images, np.arange(20) % 3, epochs=1, batch_size=8, progress=False)
print(len(compiled), disk_cache.cached_functions(), zlib.crc32(model.store.values.tobytes()))
"""


@TWO_CORES
def test_a_training_loads_what_other_processes_have_compiled(tmp_path):
    both, alone = (
        [
            int(n)
            for n in run_python("-c", TRAIN, NUMBA_NUM_THREADS=threads, NUMBACNN_CACHE_DIR=tmp_path / threads).split()
        ]
        for threads in ("2", "1")
    )
    assert both[0] < alone[0]
    assert both[1:] == alone[1:]  # as many in the cache, and the same bits of the weights


def test_only_idle_threads_compile_and_only_where_a_fork_is_safe(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4))
    monkeypatch.setattr(ahead, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    assert [ahead.processes_ahead(threads) for threads in (1, 2, 8)] == [0, 1, 3]
    with monkeypatch.context() as patch:
        patch.setattr(threading, "active_count", lambda: 2)
        assert ahead.processes_ahead(8) == 0
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mpi4py.MPI", None)
        assert ahead.processes_ahead(8) == 0
    for folder in (None, tmp_path / "missing"):
        monkeypatch.setattr(ahead, "cache_folder", lambda folder=folder: folder)
        assert ahead.processes_ahead(8) == 0


def test_it_compiles_alone_where_no_process_may_be_started(monkeypatch):
    forks = []

    def fork():
        forks.append(1)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = sorted(Path("/proc/self/fd").iterdir())
    ahead.compile_ahead([(None, ())] * 8, processes=3)
    assert (len(forks), sorted(Path("/proc/self/fd").iterdir())) == (1, before)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_each_kernel_is_compiled_by_one_of_several_processes(tmp_path):
    program = """
import os, sys, time
from pathlib import Path
from numbacnn.kernels.ahead import compile_ahead
order = Path(sys.argv[1]) / "order"

class Kernel:
    def compile_into_cache(self, arguments):
        os.write(os.open(order, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b"%d:%d " % (*arguments, os.getpid()))
        time.sleep(0.01)
        raise RuntimeError("one that cannot be compiled")

compile_ahead([(Kernel(), (i,)) for i in range(100)], processes=3)
while len(list(Path("/proc/self/task").iterdir())) > 1:  # the thread that waits for them
    time.sleep(0.01)
print(order.read_text())
try:
    print(os.waitpid(-1, 0))
except ChildProcessError:
    print("none is left")
"""
    *pairs, a, b, c = run_python("-c", program, tmp_path).split()
    assert (a, b, c) == ("none", "is", "left")
    numbers, processes = zip(*(pair.split(":") for pair in pairs), strict=True)
    assert sorted(map(int, numbers)) == list(range(100))
    assert int(numbers[0]) > 90
    assert len(set(processes)) == 3


def test_the_processes_end_with_the_one_that_started_them_and_hold_none_of_its_files(tmp_path):
    """Otherwise the end of the output would come with theirs, after a minute."""
    program = """
import os, sys, time
from pathlib import Path
from numbacnn.kernels.ahead import compile_ahead
started = Path(sys.argv[1])

class Kernel:
    def compile_into_cache(self, arguments):
        started.write_text(" ".join([str(os.getpid()), *os.listdir("/proc/self/fd")]))
        time.sleep(60)

compile_ahead([(Kernel(), ())] * 4, processes=1)
while not started.exists() or not started.read_text():
    time.sleep(0.01)
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "child"], capture_output=True, timeout=50)
    assert done.stdout == b"ended\n", done.stderr
    child, *files = (tmp_path / "child").read_text().split()
    assert len(files) <= 6  # three standard ones, the pipe, the file that is written and the listing
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
