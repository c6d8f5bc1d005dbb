"""The threads that run parallel loops, and how they share the work.

Numba compiles a ``prange`` loop to a call of ``numba_parallel_for`` with the loop's body and a schedule: a list of
ranges of iterations. ``start`` lets the package's kernels call ``parallel_for`` instead, where it is available (Linux).
It differs from Numba's threading layers in three ways:

- The schedule has up to 16 chunks a thread. Each thread first takes the chunks of its own contiguous part, half of what
  is left at a time, so that from loop to loop it works on the same part of a batch, and then those that other threads
  have not begun (work stealing, Blumofe and Leiserson 1999). A thread that shares its core with another process delays
  a loop by at most half of its part, and one that sleeps is not waited for. Iterations own their outputs, so results do
  not depend on who computes them.
- Threads wait for work in a loop for at most 0.1 ms, and then sleep, so that they take little from other processes.
- A loop begins and ends with a few atomic operations; it costs less than a microsecond while the threads are awake.

One loop runs at a time. A loop inside another one, or in another Python thread, runs serially in its own thread.

The state is an array of words, ``POOL``: fields of the current loop, then a few lines for each thread.
"""

import atexit
import ctypes
import os

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types

from numbacnn.errors import NumbacnnError
from numbacnn.kernels.jit import c_function, inlined
from numbacnn.kernels.threads import STATE, SYMBOLS, available, ours
from numbacnn.kernels.threads.atomics import (
    FUTEX,
    FUTEX_WAIT_PRIVATE,
    FUTEX_WAKE_PRIVATE,
    WORD,
    WORDS,
    add,
    address_of,
    call,
    futex,
    keep_subnormals,
    load,
    nanoseconds,
    own_value,
    pause,
    replace,
    set_own_value,
    stack_words,
    start_thread,
    store,
    symbol,
    words_at,
)

CHUNKS = 16  # of each thread, at most
AWAKE = 100_000  # nanoseconds that a thread waits for work before it sleeps
PATIENCE = 20_000  # nanoseconds that a loop waits for its last chunks before it sleeps
POLLS = 32  # looks at a word between two looks at the clock
OPEN = 1 << 32  # in GATE: threads may join; below it, the number of those that have joined
CREDIT, MOST = 5_000_000, 20_000_000  # nanoseconds of the balance of time saved: at first, and at most
SHORT, LONG = 4_000_000, 512_000_000  # nanoseconds for which loops run serially when it is spent: at first, and at most
MAX_ARGUMENTS, MAX_COUNTS = 256, 64  # of a loop's body; a loop with more runs serially
STACK = 8 << 20  # bytes of a thread's stack, of which only pages in use take memory; kernels need up to 448 KiB, and
# what the system would give depends on it and on ``ulimit -s``: musl's 128 KiB are too few

# The words of the state. Those that threads write have cache lines of their own.
LINE = 8  # words of a cache line
BUSY, EPOCH, GATE, WAITING = (LINE * i for i in range(4))  # EPOCH: the number of loops so far
WORKER, WORKERS = 4 * LINE, 4 * LINE + 1  # the address of ``worker``, and how many of them run
THREADS, CHUNK_COUNT = 4 * LINE + 2, 4 * LINE + 3  # of the loop
SAVED, ALONE_UNTIL, ALONE_FOR = (4 * LINE + 4 + i for i in range(3))  # of ``_judge``, in nanoseconds
STOPS = 4 * LINE + 7  # whether workers shall end
KEY = 5 * LINE + 7  # of pthread_key_create, under which each thread keeps its number
FUNCTION, ARGUMENTS, COUNTS, STEPS, DATA, COUNT_COUNT, ARGUMENT_COUNT = (5 * LINE + i for i in range(7))  # the loop's
ATTRIBUTES = 6 * LINE  # of new threads, a pthread_attr_t
NEXT, ASLEEP = 8 * LINE, 9 * LINE  # of thread 0: the next of its chunks, and whether it sleeps
IDENTITY = ASLEEP + 1  # for pthread_join
STRIDE = 2 * LINE  # from a thread's words to those of the next one

state = symbol("numbacnn_pool")
argument_space, count_space = stack_words(MAX_ARGUMENTS), stack_words(MAX_COUNTS)


# -- the schedule -----------------------------------------------------------------------------------------------------


@c_function(types.uint64, types.uint64, WORDS, WORDS)
def schedule_size(threads, dimensions, first, last):
    """Return the number of chunks of a loop over [first[0], last[0]]."""
    most = CHUNKS * np.int64(threads) if threads > 1 else 1
    return np.uint64(max(1, min(last[0] - first[0] + 1, most)))


@c_function(types.uint64, WORDS, WORDS, types.uint64, WORDS, types.int64)
def schedule(dimensions, first, last, chunks, ranges, debug):
    """Write the first and the last index in each dimension of every chunk: equal parts of the outermost dimension."""
    d, n = np.int64(dimensions), np.int64(chunks)
    start, count = first[0], max(last[0] - first[0] + 1, 0)
    for i in range(n):
        for j in range(d):
            ranges[2 * d * i + j], ranges[2 * d * i + d + j] = first[j], last[j]
        ranges[2 * d * i] = start + i * count // n
        ranges[2 * d * i + d] = start + (i + 1) * count // n - 1
    return ranges


# -- a loop -----------------------------------------------------------------------------------------------------------


@c_function(types.int64, WORDS, WORDS, WORDS, *[types.int64] * 4)
def parallel_for(function, arguments, counts, steps, data, count_count, argument_count, threads):
    """Call ``function`` for each of ``counts[0]`` chunks, on up to this number of threads.

    The parameters are those of ``numba_parallel_for``; the arguments of chunk i are the addresses ``arguments`` +
    i·``steps``.
    """
    s, chunks, start = state(), counts[0], nanoseconds()
    fits = argument_count <= MAX_ARGUMENTS and count_count < MAX_COUNTS
    alone = threads <= 1 or chunks <= 1 or start < s[ALONE_UNTIL] or load(s, STOPS) != 0
    if alone or not fits or not replace(s, BUSY, 0, 1):
        call(function, arguments, counts, steps, data)
        return
    threads = min(threads, chunks)
    while s[WORKERS] < threads - 1 and _start_worker(s, s[WORKERS] + 1):
        s[WORKERS] += 1
    threads = min(threads, s[WORKERS] + 1)  # the system may have no more
    start = nanoseconds()
    for thread in range(threads):
        s[NEXT + thread * STRIDE] = thread * chunks // threads
    s[THREADS], s[CHUNK_COUNT] = threads, chunks
    s[FUNCTION], s[ARGUMENTS], s[COUNTS] = function, address_of(arguments), address_of(counts)
    s[STEPS], s[DATA] = address_of(steps), data
    s[COUNT_COUNT], s[ARGUMENT_COUNT] = count_count, argument_count
    add(s, GATE, OPEN)
    add(s, EPOCH, 1)
    for thread in range(1, threads):
        asleep = ASLEEP + thread * STRIDE
        if load(s, asleep) == 1:
            store(s, asleep, 0)
            futex(s, asleep, FUTEX_WAKE_PRIVATE, 1)
    begin = nanoseconds()
    own = _work(s, 0)
    end = nanoseconds()
    add(s, GATE, -OPEN)
    _await_others(s, end)
    _judge(s, start, (end - begin) * chunks // max(own, 1))
    store(s, BUSY, 0)


@inlined
def _start_worker(s, thread):
    """Start a thread; return whether the system could."""
    return start_thread(s, IDENTITY + thread * STRIDE, ATTRIBUTES, s[WORKER], thread)


@inlined
def _work(s, thread):
    """Run this thread's chunks, and then what is left of the others'; return how many it ran."""
    own = 0
    first_arguments, steps, first_counts = words_at(s[ARGUMENTS]), words_at(s[STEPS]), words_at(s[COUNTS])
    arguments, counts = argument_space(), count_space()
    for i in range(s[COUNT_COUNT] + 1):
        counts[i] = first_counts[i]
    for turn in range(s[THREADS]):
        owner = (thread + turn) % s[THREADS]
        following, end = NEXT + owner * STRIDE, (owner + 1) * s[CHUNK_COUNT] // s[THREADS]
        left = end - load(s, following)
        while left > 0 and (thread == 0 or load(s, STOPS) == 0):  # half of what is left at a time
            chunk = add(s, following, (left + 1) // 2)
            counts[0] = min((left + 1) // 2, end - chunk)
            if counts[0] > 0:
                for i in range(s[ARGUMENT_COUNT]):
                    arguments[i] = first_arguments[i] + chunk * steps[i]
                call(s[FUNCTION], arguments, counts, steps, s[DATA])
                own += counts[0]
            left = end - load(s, following)
    return own


@inlined
def _await_others(s, start):
    """Wait, from ``start`` on, until the threads that have joined the loop have left it."""
    while load(s, GATE) != 0:
        for _ in range(POLLS):
            pause()
        if nanoseconds() - start > PATIENCE:  # one shares its core with another process: let it have this one
            store(s, WAITING, 1)
            inside = load(s, GATE)
            while inside != 0:
                futex(s, GATE, FUTEX_WAIT_PRIVATE, inside)
                inside = load(s, GATE)
            store(s, WAITING, 0)


@inlined
def _judge(s, start, serial):
    """Keep the balance of what other threads have saved: the loop began at ``start``, and alone it takes ``serial``.

    If a thread loses its core to another process in the middle of a chunk, the loop waits for it for a time slice of
    the system, milliseconds. When such waits have cost more than the threads have saved lately, loops run serially,
    first for SHORT; if parallel ones lose again within LONG, for twice as long as before, at most for LONG.
    """
    now = nanoseconds()
    s[SAVED] = min(s[SAVED] + serial - (now - start), MOST)
    if s[SAVED] < 0:
        s[ALONE_FOR] = min(2 * s[ALONE_FOR], LONG) if now - s[ALONE_UNTIL] < LONG else SHORT
        s[ALONE_UNTIL], s[SAVED] = now + s[ALONE_FOR], CREDIT


# -- the other threads ------------------------------------------------------------------------------------------------


@c_function(types.int64)
def worker(thread):
    """Join every loop that has work for this thread."""
    s = state()
    set_own_value(s[KEY], thread)
    keep_subnormals()  # which the thread that started this one may flush
    seen, idle_since = np.int64(-1), nanoseconds()
    while load(s, STOPS) == 0:
        polls = 0
        while load(s, EPOCH) == seen and polls < POLLS:
            polls += 1
            pause()
        if polls < POLLS:
            seen = load(s, EPOCH)
            if _join(s):
                seen = load(s, EPOCH)
                if thread < s[THREADS]:
                    _work(s, thread)
                    idle_since = nanoseconds()
                add(s, GATE, -1)
                if load(s, WAITING) == 1:
                    futex(s, GATE, FUTEX_WAKE_PRIVATE, 1)
        elif nanoseconds() - idle_since > AWAKE:
            asleep = ASLEEP + thread * STRIDE
            store(s, asleep, 1)
            while load(s, asleep) == 1 and load(s, EPOCH) == seen and load(s, STOPS) == 0:
                futex(s, asleep, FUTEX_WAIT_PRIVATE, 1)
            store(s, asleep, 0)
            idle_since = nanoseconds()
    return 0


@inlined
def _join(s):
    """Count this thread in if the loop is still open; return whether it is."""
    gate = load(s, GATE)
    while gate >= OPEN:
        if replace(s, GATE, gate, gate + 1):
            return True
        gate = load(s, GATE)
    return False


@c_function()
def thread_number():
    """Return the number of the calling thread, for the partial sums of a custom kernel's loop; 0 except in workers."""
    return np.int64(own_value(state()[KEY]))


# -- start and end ----------------------------------------------------------------------------------------------------

_state = np.zeros(0, np.int64)


def start() -> None:
    """Let kernels use these threads, or Numba's where these are not available.

    Raises NumbacnnError if the system rejects the size of their stacks.
    """
    global _state
    if not available():
        for name in SYMBOLS:
            llvm.add_symbol(ours(name), llvm.address_of_symbol(name))
        return
    memory = np.zeros(NEXT + numba.config.NUMBA_NUM_THREADS * STRIDE + LINE, np.int64)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))  # daemon threads may use it after Python's end
    _state = memory[-memory.ctypes.data % (LINE * WORD) // WORD :]
    llvm.add_symbol(STATE, _state.ctypes.data)
    for name, function in zip(SYMBOLS, (parallel_for, schedule_size, schedule, schedule, thread_number), strict=True):
        llvm.add_symbol(ours(name), function.address)
    _state[WORKER], _state[SAVED] = worker.address, CREDIT
    process, key = ctypes.CDLL(None), ctypes.c_uint()
    process.pthread_key_create(ctypes.byref(key), None)
    _state[KEY] = key.value
    attributes = ctypes.c_void_p(_state[ATTRIBUTES:].ctypes.data)
    error = process.pthread_attr_init(attributes) or process.pthread_attr_setstacksize(
        attributes, ctypes.c_size_t(STACK)
    )
    if error:
        raise NumbacnnError(f"threads cannot have a stack of {STACK >> 20} MiB: {os.strerror(error)}")
    atexit.register(end)
    os.register_at_fork(after_in_child=_after_fork)


def end() -> None:
    """End the threads before Python frees what they use; loops are serial from now on."""
    _state[STOPS] = 1
    process = ctypes.CDLL(None)
    for thread in range(1, _state[WORKERS] + 1):
        _state[ASLEEP + thread * STRIDE] = 0
        address = ctypes.c_void_p(_state[ASLEEP + thread * STRIDE :].ctypes.data)
        process.syscall(FUTEX, address, FUTEX_WAKE_PRIVATE, 1, None, None, 0)
        process.pthread_join(ctypes.c_uint64(_state[IDENTITY + thread * STRIDE]), None)
    _state[WORKERS] = 0


def _after_fork() -> None:
    """Forget the threads, which a forked child does not have."""
    lasting = [WORKER, KEY, *range(ATTRIBUTES, NEXT)]
    kept = _state[lasting]
    _state[:] = 0
    _state[lasting], _state[SAVED] = kept, CREDIT
