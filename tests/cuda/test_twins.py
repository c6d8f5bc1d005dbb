"""Every launcher against its twin on the CPU: the same arrays, with what lies around them, after the same calls."""

import convolutions
import numpy as np
import pytest
import twins
from engine import assert_close
from twins import Image, ScratchSpec

from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.cpu import sizes as cpu_sizes
from numbacnn.kernels.cuda import launchers as cuda
from numbacnn.kernels.cuda import sizes as cuda_sizes
from numbacnn.kernels.cuda.runtime.array import to_device as on_device

CALLS = [*twins.CALLS, *convolutions.CALLS]
TOLERANCE = 1e-5  # relative norm; the promise is 1e-4


class Arrays:
    """The arrays of a call on one device, each placed there once however many of its steps share it."""

    def __init__(self, sizes, place):
        self.sizes, self.place, self.placed = sizes, place, {}

    def argument(self, given):
        """What a launcher takes for an argument of the table."""
        if isinstance(given, Image):
            return given.view(self._array(given.whole, given.whole))
        if isinstance(given, ScratchSpec):
            return self._array(given, np.full(given.shape(self.sizes), np.nan, given.dtype))
        if isinstance(given, np.ndarray):
            return self._array(given, given)
        if hasattr(given, "running_var"):
            return type(given)(**{name: self.argument(value) for name, value in vars(given).items()})
        return given

    def _array(self, key, values):
        if id(key) not in self.placed:
            self.placed[id(key)] = key, self.place(values)
        return self.placed[id(key)][1]

    def run(self, kernels, call):
        """All arrays but scratch, once the call has run."""
        for name, arguments in call.steps:
            getattr(kernels, name)(*map(self.argument, arguments))
        return [array for key, array in self.placed.values() if not isinstance(key, ScratchSpec)]


def close(found, expected, what):
    """NaN and infinity in the same places, and elsewhere near in relative norm."""
    known = np.isfinite(expected)
    np.testing.assert_array_equal(found[~known], expected[~known], what)
    assert found.dtype == expected.dtype
    if known.any():
        assert_close(found[known].astype(np.float32), expected[known].astype(np.float64), what, TOLERANCE)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_twins_write_the_same(call):
    expected = Arrays(cpu_sizes, np.array).run(cpu, call)
    found = Arrays(cuda_sizes, on_device).run(cuda, call)
    for theirs, ours in zip(expected, found, strict=True):
        (np.testing.assert_array_equal if call.exact else close)(ours.read(), theirs, str(call))


def test_every_twin_has_a_case():
    assert {call.steps[-1][0] for call in CALLS} >= vars(cpu).keys() - {"activation_kernels"}
