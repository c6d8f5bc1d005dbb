"""The stacks of threads: how large those of the package are, and that kernels need less than any thread has."""

import platform
import re

import pytest
from processes import run_python

from numbacnn.kernels.cpu.conv.winograd.blocks import block_gradient_kernel, block_kernel
from numbacnn.kernels.cpu.conv.winograd.gradient import CHANNELS, sharded_kernel
from numbacnn.kernels.cpu.conv.winograd.transforms import Filtering
from numbacnn.kernels.cpu.gemm.gemm import NR
from numbacnn.kernels.cpu.gemm.sharded import sharded_gradient
from numbacnn.kernels.disk_cache import cache_folder
from numbacnn.kernels.jit import start_threads
from numbacnn.kernels.threads import available

MOST = 448 << 10  # bytes; threads that macOS starts for other libraries have 512 KiB
FILTERINGS = [Filtering(m, r) for m, r in [(2, 3), (4, 3), (2, 5)]]
MAKERS = [block_kernel, block_gradient_kernel, sharded_kernel]  # of kernels with large arrays on the stack
GROW = re.compile(rb"\x48\x81\xec(..[\x00-\x7f]\x00)", re.DOTALL)  # sub rsp, an int32

WORKER = """
import ctypes, os, resource, sys
import numba
import numpy as np

limits = resource.getrlimit(resource.RLIMIT_STACK)
if len(sys.argv) == 1:  # glibc reads the limit when a process starts
    resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, limits[1]))
    os.execv(sys.executable, [sys.executable, __file__, "limited"])
assert limits[0] == 2 << 20

from numbacnn.kernels.jit import cpu_kernel, float32_1d
from numbacnn.kernels.threads import pool


@cpu_kernel(float32_1d)
def increment(x):
    for i in numba.prange(x.size):
        x[i] += 1


def size():
    pool._state[pool.ALONE_UNTIL] = 0
    increment(np.zeros(1000, np.float32))
    assert pool._state[pool.WORKERS] == 1
    attributes, bytes = ctypes.create_string_buffer(64), ctypes.c_size_t()
    process, thread = ctypes.CDLL(None), int(pool._state[pool.IDENTITY + pool.STRIDE])
    assert process.pthread_getattr_np(ctypes.c_ulong(thread), attributes) == 0
    assert process.pthread_attr_getstacksize(attributes, ctypes.byref(bytes)) == 0
    return bytes.value


increment(np.zeros(1, np.float32))
print(size())
sys.stdout.flush()
if os.fork() == 0:
    print(size())
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not available(), reason="Numba's threads run the kernels here")
def test_threads_have_stacks_of_8_mib_whatever_the_limit(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    sizes = run_python(tmp_path / "worker.py", NUMBA_NUM_THREADS="2").split()
    assert sizes == [str(8 << 20)] * 2  # of the process, and of a forked child


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the machine code of x86-64")
def test_no_kernel_needs_more_stack_than_the_smallest_thread_has():
    """The largest ones, and whatever else is in the cache. All arrays on the stack have constant sizes."""
    start_threads()  # of which kernels have symbols
    for kernel in [sharded_gradient, *(make(f) for make in MAKERS for f in FILTERINGS)]:
        kernel.compile_into_cache(())
    used, folder = {}, cache_folder()
    assert folder is not None, "the tests need a cache of kernels on the disk"
    for path in folder.glob("*.nbc"):
        name = path.name.rpartition("-")[0]
        sizes = [int.from_bytes(size, "little") for size in GROW.findall(path.read_bytes())]
        used[name] = max([used.get(name, 0), *sizes])
    products = 4 * 36 * CHANNELS[3] * NR  # bytes: a block of the 36 components of F(4×4, 3×3)
    assert used["gradient.winograd_shards_4x3"] > products  # the large ones are there, and are measured
    assert {name: size for name, size in used.items() if size > MOST} == {}
