"""Kernels that a training needs are compiled by several processes, into the cache on the disk."""

import os
import subprocess
import sys

import pytest
from processes import run_python

from numbacnn.kernels import ahead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks only on Linux")
TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")

TRAIN = """
import os, sys, zlib
import numpy as np
import numbacnn as nc
from numbacnn.kernels import disk_cache, jit

nc.set_num_threads(int(sys.argv[1]))
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
        [int(number) for number in run_python("-c", TRAIN, threads, NUMBACNN_CACHE_DIR=tmp_path / threads).split()]
        for threads in ("2", "1")
    )
    assert both[0] < alone[0]
    assert both[1:] == alone[1:]  # as many in the cache, and the same bits of the weights


class Kernel:
    def __init__(self, compiling):
        self.compile_into_cache = compiling


def test_one_thread_compiles_alone(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    ahead.compile_ahead([(Kernel(print), ())] * 8, threads=1)


def test_it_compiles_alone_where_no_process_may_be_started(monkeypatch):
    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    ahead.compile_ahead([(Kernel(print), ())] * 8, threads=8)


@TWO_CORES
def test_each_kernel_is_compiled_by_one_process_from_the_last_on(tmp_path):
    program = """
import os, sys, time
from pathlib import Path
from numbacnn.kernels.ahead import compile_ahead
folder = Path(sys.argv[1])

class Kernel:
    def compile_into_cache(self, arguments):
        os.write(os.open(folder / "order", os.O_WRONLY | os.O_APPEND | os.O_CREAT), b"%d " % arguments)

compile_ahead([(Kernel(), (i,)) for i in range(9)], threads=2)
while not (folder / "order").exists() or not (folder / "order").read_text().endswith(" 0 "):
    time.sleep(0.01)
print((folder / "order").read_text())
"""
    assert run_python("-c", program, tmp_path).split() == list("876543210")


@TWO_CORES
def test_the_processes_hold_no_file_of_the_one_that_started_them():
    """Otherwise the end of the output would come with theirs, after a minute."""
    program = """
import time
from numbacnn.kernels.ahead import compile_ahead

class Kernel:
    def compile_into_cache(self, arguments):
        time.sleep(60)

compile_ahead([(Kernel(), ())] * 4, threads=2)
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50)
    assert done.stdout == b"ended\n", done.stderr
