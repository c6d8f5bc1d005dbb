"""A kernel is compiled as one module: its callees become no machine code, but a user's functions stay callable."""

import numba
import numpy as np
import pytest
from numba import prange
from numba.core.codegen import JITCodeLibrary

import numbacnn as nc
from numbacnn.kernels.deferred import compiled_as_one
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined, start_threads


@pytest.fixture
def finished(monkeypatch):
    """The names of the functions that become machine code, without those of the threads."""
    start_threads()
    names, finish = [], JITCodeLibrary._finalize_specific

    def note(library):
        names.append(library.name)
        finish(library)

    monkeypatch.setattr(JITCodeLibrary, "_finalize_specific", note)
    return names


@pytest.fixture
def no_cache(monkeypatch):
    monkeypatch.setattr("numbacnn.kernels.jit.cache_folder", lambda: None)


def test_only_the_kernel_itself_becomes_machine_code(finished, no_cache):
    @inlined
    def square(x):
        return x * x

    def sums_of_squares(y, x):
        for i in prange(len(y)):
            y[i] = square(x[i]) + square(np.float32(min(i, 2)))

    y = np.empty(4, np.float32)
    cpu_kernel(float32_1d, float32_1d)(sums_of_squares)(y, np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(y, [0, 2, 8, 13])
    assert finished == [sums_of_squares.__qualname__]


def test_other_functions_are_compiled_as_usual_afterwards(finished):
    with pytest.raises(ZeroDivisionError), compiled_as_one("nothing"):
        raise ZeroDivisionError

    @numba.njit
    def twice(x):
        return 2 * x

    assert twice(21) == 42
    assert finished


def test_a_users_compiled_function_that_a_custom_kernel_calls_can_still_be_called_from_python(no_cache):
    @numba.njit
    def half(x):
        return x * np.float32(0.5)

    def halve(y, x):
        for n in prange(len(x)):
            for w in range(x.shape[2]):
                y[n, 0, w, 0] = half(x[n, 0, w, 0])

    y, x = np.empty((2, 1, 3, 1), np.float32), np.arange(6, dtype=np.float32).reshape(2, 1, 3, 1)
    nc.kernel(halve)(y, x)
    np.testing.assert_array_equal(y, x / 2)
    assert half(np.float32(3)) == 1.5
