"""Recorded launches, argument checks, and views of device arrays."""

import numpy as np
import pytest

from numbacnn.kernels.cuda import launchers as cuda
from numbacnn.kernels.cuda.runtime.array import to_device, zeros
from numbacnn.kernels.recording import record


def test_a_recording_runs_nothing_until_it_is_called():
    y, x = zeros((1, 1, 1, 3)), to_device(np.full((1, 1, 1, 3), 2, np.float32))
    recorded = record(lambda: cuda.relu_forward(y, x))
    assert not y.read().any()
    for launch, arguments in recorded.launches * 2:
        launch(*arguments)
    np.testing.assert_array_equal(y.read(), x.read())


def test_an_argument_of_a_wrong_type_is_named():
    x = to_device(np.zeros((1, 1, 1, 3)))
    with pytest.raises(TypeError, match=r"relu_forward.* takes .*float32.*, not .*a device array of float64"):
        cuda.relu_forward(x, x)


@pytest.mark.parametrize(
    "index", [np.s_[1:], np.s_[:, 1:3], np.s_[..., 2:], np.s_[:2, 1:3, 0:4, 1], np.s_[0], np.s_[3:]], ids=str
)
def test_slices_are_those_of_numpy(index):
    whole = np.arange(3 * 4 * 5 * 6, dtype=np.float32).reshape(3, 4, 5, 6)
    view, expected = to_device(whole)[index], whole[index]
    assert (view.shape, view.strides) == (expected.shape, expected.strides)
    assert view.contiguous == expected.flags.c_contiguous
    if expected.size:
        assert view.flat().read()[view.offset] == expected.flat[0]


def test_slices_and_reshapes_that_would_copy_are_rejected():
    x = zeros((2, 3, 4))
    for index in (np.s_[::2], np.s_[::-1], np.s_[5]):
        with pytest.raises(IndexError, match="axis of"):
            x[index]
    with pytest.raises(ValueError, match="cannot be viewed as"):
        x[:, 1:].reshape(-1)
