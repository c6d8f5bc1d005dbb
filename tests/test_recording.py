"""Launches are recorded once for each batch size, but only of layers that do nothing else."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.kernels import recording
from numbacnn.kernels.cpu import launchers as cpu


class Noisy(nc.ReLU):
    """A layer of a user's own, derived from one of the package: its forward does more than launch kernels."""

    calls = 0

    def forward(self, kernels, t, g):
        type(self).calls += 1
        np.multiply(t.x, self.calls, out=t.y)


def test_a_layer_of_one_s_own_runs_in_every_step():
    model = nc.Sequential([Noisy()], (2, 2, 1))
    x = np.ones((1, 2, 2, 1), np.float32)
    assert [model.forward(x).max() for _ in range(3)] == [1, 2, 3]


def test_recording_runs_nothing_and_calling_the_record_does():
    x, y = np.full((1, 1, 1, 3), 2.0, np.float32), np.zeros((1, 1, 1, 3), np.float32)
    record = recording.record(lambda: cpu.relu_forward(y, x))
    assert not y.any()
    assert not record.preparations
    for launch, arguments in record.launches:
        launch(*arguments)
    np.testing.assert_array_equal(y, x)


def test_a_record_refuses_arguments_of_another_type_and_ends_with_its_block():
    """The code behind the dispatcher would read float64 as float32."""
    x = np.zeros((1, 1, 1, 3))
    with pytest.raises(TypeError, match="relu_forward"):
        recording.record(lambda: cpu.relu_forward(x, x))
    y = np.ones((1, 1, 1, 3), np.float32)
    cpu.relu_forward(y, y - 1)
    assert not y.any()
