"""Every CUDA launcher against its CPU twin: the same calls give the same arrays, and do not write around them."""

import numpy as np
import pytest
from convolutions import CALLS as CONVOLUTIONS
from twins import CALLS, Arrays, assert_same

from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.cpu import sizes as cpu_sizes
from numbacnn.kernels.cuda import launchers as cuda
from numbacnn.kernels.cuda import sizes as cuda_sizes
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.array import to_device as on_device

ALL = [*CALLS, *CONVOLUTIONS]


@pytest.mark.parametrize("call", ALL, ids=str)
def test_twins_write_the_same(call):
    expected = Arrays(cpu_sizes, np.array).run(cpu, call)
    found = Arrays(cuda_sizes, on_device, DeviceArray.read).run(cuda, call)
    for theirs, ours in zip(expected, found, strict=True):
        assert_same(ours, theirs, call)


def test_every_twin_has_a_case():
    assert {call.steps[-1][0] for call in ALL} >= vars(cpu).keys() - {"activation_kernels"}
