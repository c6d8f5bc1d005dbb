import numpy as np
import pytest
from arrays import both, inside, normal

from numbacnn.geometry import Halo
from numbacnn.kernels import cpu, cuda
from numbacnn.kernels.cuda.array import to_device
from numbacnn.kernels.recording import record

SHAPES = ((1, 1, 1, 1), (2, 3, 2, 5), (1, 2, 40, 3))
HALOS = ((0, 0, 0, 0), (1, 0, 2, 1))


@pytest.mark.parametrize("halo", HALOS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["relu_forward", "relu_gradient_in_place", "copy", "add_in_place"])
def test_kernels_of_two_arrays(name, shape, halo):
    y, device_y, whole = both(normal(*shape), halo)
    x, device_x, _ = both(normal(*shape), halo[::-1])
    getattr(cpu, name)(y, x)
    getattr(cuda, name)(device_y, device_x)
    np.testing.assert_allclose(inside(whole, halo), y, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_clear_halo(shape):
    x, halo = np.pad(normal(*shape), ((0, 0), (1, 2), (3, 4), (0, 0)), constant_values=5), Halo(1, 2, 3, 4)
    device = to_device(x)
    cuda.clear_halo(device, halo)
    cpu.clear_halo(x, halo)
    np.testing.assert_array_equal(device.read(), x)


def test_a_recording_runs_nothing_until_it_is_called():
    y, x = to_device(np.zeros((1, 1, 1, 3), np.float32)), to_device(np.full((1, 1, 1, 3), 2, np.float32))
    recorded = record(lambda: cuda.relu_forward(y, x))
    assert not y.read().any()
    for launch, arguments in recorded.launches * 2:
        launch(*arguments)
    np.testing.assert_array_equal(y.read(), x.read())


def test_a_wrong_argument_is_named():
    x = to_device(np.zeros((1, 1, 1, 3)))
    with pytest.raises(TypeError, match=r"relu_forward takes .*float32.*, not a device array of float64"):
        cuda.relu_forward(x, x)
