"""Launches are recorded once for each batch size, except those of layers that do more than launch kernels."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.kernels import recording
from numbacnn.kernels.cpu import launchers as cpu


class Noisy(nc.ReLU):
    """A custom layer derived from one of the package, whose forward does more than launch kernels."""

    calls = 0

    def forward(self, kernels, t, g):
        type(self).calls += 1
        np.multiply(t.x, self.calls, out=t.y)


def test_a_custom_layer_runs_in_every_step():
    model = nc.Sequential([Noisy()], (2, 2, 1))
    x = np.ones((1, 2, 2, 1), np.float32)
    assert [model.forward(x).max() for _ in range(3)] == [1, 2, 3]


def test_a_recording_runs_nothing_until_its_launches_are_called():
    x, y = np.full((1, 1, 1, 3), 2.0, np.float32), np.zeros((1, 1, 1, 3), np.float32)
    recorded = recording.record(lambda: cpu.relu_forward(y, x))
    assert not y.any()
    assert not recorded.preparations
    for launch, arguments in recorded.launches:
        launch(*arguments)
    np.testing.assert_array_equal(y, x)


def test_recording_checks_types_and_ends_with_its_block():
    """Without the check, compiled code would read float64 as float32."""
    x = np.zeros((1, 1, 1, 3))
    with pytest.raises(TypeError, match="relu_forward"):
        recording.record(lambda: cpu.relu_forward(x, x))
    y = np.ones((1, 1, 1, 3), np.float32)
    cpu.relu_forward(y, y - 1)
    assert not y.any()
