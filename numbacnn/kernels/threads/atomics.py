"""Atomic operations on arrays of int64 words, and the system's calls to start threads and to sleep, for ``pool``.

All are sequentially consistent. Numba has none of them, so they are LLVM IR.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd.llvm import INT32, INT64

WORD = 8  # bytes
POINTER = ir.IntType(8).as_pointer()
ARM = platform.machine().lower() in ("arm64", "aarch64")
FUTEX = 98 if ARM else 202  # numbers of Linux's system call
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
CLOCK_MONOTONIC = 1

WORDS = types.CPointer(types.int64)


def _word(builder, words, index):
    return builder.gep(words, [index])


@intrinsic
def words_at(typing, address):
    """The words at an address."""

    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], INT64.as_pointer())

    return WORDS(types.int64), emit


@intrinsic
def address_of(typing, words):
    """The address of words."""

    def emit(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], INT64)

    return types.int64(WORDS), emit


@intrinsic
def load(typing, words, index):
    """words[index], atomically."""

    def emit(context, builder, signature, arguments):
        return builder.load_atomic(_word(builder, *arguments), "seq_cst", WORD)

    return types.int64(WORDS, types.int64), emit


@intrinsic
def store(typing, words, index, value):
    """words[index] = value, atomically."""

    def emit(context, builder, signature, arguments):
        words, index, value = arguments
        builder.store_atomic(value, _word(builder, words, index), "seq_cst", WORD)
        return context.get_dummy_value()

    return types.void(WORDS, types.int64, types.int64), emit


@intrinsic
def add(typing, words, index, value):
    """words[index] += value, atomically; return what it was."""

    def emit(context, builder, signature, arguments):
        words, index, value = arguments
        return builder.atomic_rmw("add", _word(builder, words, index), value, "seq_cst")

    return types.int64(WORDS, types.int64, types.int64), emit


@intrinsic
def replace(typing, words, index, old, new):
    """words[index] = new if it is old, atomically; return whether it was."""

    def emit(context, builder, signature, arguments):
        words, index, old, new = arguments
        found = builder.cmpxchg(_word(builder, words, index), old, new, "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(WORDS, types.int64, types.int64, types.int64), emit


@intrinsic
def pause(typing):
    """Let the processor save power, and time of the other hardware thread, in a loop that waits."""

    def emit(context, builder, signature, arguments):
        name, values = ("llvm.aarch64.hint", [INT32(1)]) if ARM else ("llvm.x86.sse2.pause", [])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def nanoseconds(typing):
    """The time since some instant in the past."""

    def emit(context, builder, signature, arguments):
        with builder.goto_entry_block():
            time = builder.alloca(ir.ArrayType(INT64, 2))
        kind = ir.FunctionType(INT32, [INT32, POINTER])
        clock = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(clock, [INT32(CLOCK_MONOTONIC), builder.bitcast(time, POINTER)])
        seconds, rest = (builder.load(builder.gep(time, [INT32(0), INT32(i)])) for i in range(2))
        return builder.add(builder.mul(seconds, INT64(10**9)), rest)

    return types.int64(), emit


@intrinsic
def futex(typing, words, index, operation, value):
    """Linux's futex(2) on the low half of words[index], without a time limit."""

    def emit(context, builder, signature, arguments):
        words, index, operation, value = arguments
        kind = ir.FunctionType(INT64, [INT64], var_arg=True)
        call = cgutils.get_or_insert_function(builder.module, kind, "syscall")
        address = builder.ptrtoint(_word(builder, words, index), INT64)
        return builder.call(call, [INT64(FUTEX), address, operation, value, INT64(0), INT64(0), INT64(0)])

    return types.int64(WORDS, types.int64, types.int64, types.int64), emit


@intrinsic
def start_thread(typing, words, identity, attributes, function, argument):
    """Start a thread that runs the C function at address ``function``; return whether the system could.

    words[identity] becomes what pthread_join needs; words[attributes] and those after it are a pthread_attr_t.
    """

    def emit(context, builder, signature, arguments):
        words, identity, attributes, function, argument = arguments
        kind = ir.FunctionType(INT32, [POINTER] * 4)
        create = cgutils.get_or_insert_function(builder.module, kind, "pthread_create")
        fields = (builder.bitcast(_word(builder, words, index), POINTER) for index in (identity, attributes))
        code = (builder.inttoptr(value, POINTER) for value in (function, argument))
        error = builder.call(create, [*fields, *code])
        return builder.icmp_signed("==", error, INT32(0))

    return types.boolean(WORDS, types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def own_value(typing, key):
    """The calling thread's value under a key of pthread_key_create, 0 at first."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(POINTER, [INT32])
        get = cgutils.get_or_insert_function(builder.module, kind, "pthread_getspecific")
        return builder.ptrtoint(builder.call(get, [builder.trunc(arguments[0], INT32)]), INT64)

    return types.int64(types.int64), emit


@intrinsic
def set_own_value(typing, key, value):
    """Set the calling thread's value under a key of pthread_key_create."""

    def emit(context, builder, signature, arguments):
        key, value = arguments
        kind = ir.FunctionType(INT32, [INT32, POINTER])
        put = cgutils.get_or_insert_function(builder.module, kind, "pthread_setspecific")
        builder.call(put, [builder.trunc(key, INT32), builder.inttoptr(value, POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def keep_subnormals(typing):
    """Give the calling thread C's default floating-point environment, which keeps subnormal numbers."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(INT32, [POINTER])
        put = cgutils.get_or_insert_function(builder.module, kind, "fesetenv")
        builder.call(put, [builder.inttoptr(INT64(-1), POINTER)])  # FE_DFL_ENV of Linux's libraries
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def call(typing, function, arguments, counts, steps, data):
    """Call the body of a parallel loop, at address ``function``, which has the signature of a NumPy ufunc's loop."""

    def emit(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values[1:]])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, WORDS, WORDS, WORDS, types.int64), emit


def symbol(name):
    """Return a Numba intrinsic for the words at the address that the process has registered as ``name``."""

    @intrinsic
    def words(typing):
        def emit(context, builder, signature, arguments):
            return builder.module.globals.get(name) or ir.GlobalVariable(builder.module, INT64, name)

        return WORDS(), emit

    return words


def stack_words(count):
    """Return a Numba intrinsic that allocates ``count`` words on its caller's stack."""

    @intrinsic
    def reserve(typing):
        def emit(context, builder, signature, arguments):
            with builder.goto_entry_block():
                memory = builder.alloca(ir.ArrayType(INT64, count))
            return builder.gep(memory, [INT32(0), INT32(0)])

        return WORDS(), emit

    return reserve
