"""Whole models on device "cuda" against the CPU: outputs, gradients, updates, training, files."""

import copy

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.engine.device import CudaDevice, get_device
from numbacnn.kernels.cuda.runtime import driver, memory

RNG = np.random.default_rng(3)
IMAGES, LABELS = RNG.standard_normal((3, 6, 6, 2)).astype(np.float32), np.array([0, 3, 4])


def model(device):
    x = nc.Input((6, 6, 2))
    y = nc.ReLU()(nc.BatchNorm()(nc.Conv2D(4, 3, padding="same", bias=False, name="first")(x)))
    y = nc.Add()([y, nc.DepthwiseConv2D(3, padding="same")(y)])  # gradients meet at a fork
    y = nc.Dropout(0.25)(nc.Flatten()(nc.MaxPool2D(2)(y)))
    return nc.Model(x, nc.Dense(5, l2=0.01)(y), seed=1, device=device)


def assert_close(found, expected):
    error = np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-20)
    assert error < 1e-4, error


def assert_all_close(found, expected):
    assert list(found) == list(expected)
    for name, array in found.items():
        assert_close(array, expected[name])


@pytest.fixture(scope="module")
def trained():
    """For each device: a model after two steps, their losses, the output before, the input gradient, the optimizer."""
    results = {}
    for device in ("cpu", "cuda"):
        made = model(device)
        optimizer = nc.SGD(0.1, momentum=0.9, clip_norm=1.0)
        y = made.forward(IMAGES)
        made.forward(IMAGES, training=True)
        dx = made.backward(np.ones_like(y))
        losses = [made.train_step(IMAGES, LABELS, optimizer) for _ in range(2)]
        results[device] = made, losses, y, dx, optimizer
    return results


def test_forward_and_backward(trained):
    (_, _, y, dx, _), (_, _, expected_y, expected_dx, _) = trained["cuda"], trained["cpu"]
    assert_close(y, expected_y)
    assert_close(dx, expected_dx)


def test_training_steps(trained):
    (found, losses, *_), (expected, expected_losses, *_) = trained["cuda"], trained["cpu"]
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for what in ("parameters", "gradients", "state"):
        assert_all_close(getattr(found, what), getattr(expected, what))


def test_parameters_are_read_only_copies_on_the_host(trained):
    weight = trained["cuda"][0].parameters["first.weight"]
    assert isinstance(weight, np.ndarray)
    assert not weight.flags.writeable


def test_files_and_copies_move_between_devices(trained, tmp_path):
    made, *_, optimizer = trained["cuda"]
    made.save(tmp_path / "m.safetensors")
    loaded = nc.load(tmp_path / "m.safetensors")
    assert_all_close(loaded.parameters, made.parameters)
    twin, again = copy.deepcopy(made), copy.deepcopy(optimizer)
    twin.set_parameters({"first.weight": np.ones((3, 3, 2, 4))})
    assert (twin.parameters["first.weight"] == 1).all()
    assert not (made.parameters["first.weight"] == 1).all()
    assert all(isinstance(arena, np.ndarray) for arena in again.slots.values())


def test_fit_resume_and_evaluate(tmp_path):
    """Raw images, augmentation, an EMA of the weights, and a checkpoint to resume from."""
    images = RNG.integers(0, 256, (4, 5, 4, 1), np.uint8)
    data = images, np.array([0, 1, 2, 1])
    results = []
    for device in ("cpu", "cuda"):
        made = nc.Sequential([nc.Conv2D(2, 3), nc.ReLU(), nc.Flatten(), nc.Dense(3)], (5, 4, 1), device=device)
        options = {"batch_size": 3, "augment": "hflip", "ema": 0.5, "checkpoint": tmp_path / device, "seed": 2}
        made.fit(data, validation=data, epochs=1, optimizer=nc.Adam(0.01), **options)
        made.fit(data, validation=data, epochs=2, optimizer=nc.Adam(0.01), resume=True, **options)
        measures = made.evaluate(data)
        results.append((made.parameters, made.predict(images), measures["loss"], made.report(data).accuracy))
    (parameters, scores, loss, accuracy), expected = results
    assert_all_close(expected[0], parameters)
    assert_close(expected[1], scores)
    np.testing.assert_allclose(expected[2], loss, rtol=1e-4)
    assert expected[3] == accuracy


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator warns about overflows
def test_an_error_about_nan_names_the_layer():
    made = nc.Sequential([nc.Flatten(), nc.Dense(3, name="one"), nc.Dense(2, name="two")], (1, 4, 1), device="cuda")
    made.set_parameters({"one.bias": np.full(3, 3e38)})
    with pytest.raises(nc.NumbacnnError, match=r'first in the output of Dense "(one|two)"'):
        made.fit((np.ones((4, 1, 4, 1), np.float32), np.array([0, 1, 0, 1])), epochs=1, optimizer=nc.SGD(1e30))


# -- errors -----------------------------------------------------------------------------------------------------------


def test_out_of_memory_says_what_was_requested_and_what_would_fit(monkeypatch):
    device = get_device("cuda")

    def fail(shape, dtype=np.float32):
        raise memory.OutOfMemory(8 << 30, 2 << 30)

    monkeypatch.setattr(device._array, "zeros", fail)
    with pytest.raises(nc.NumbacnnError, match=r"batch of 64: 8,192 MiB asked, 2,048 MiB free; a batch of about 16"):
        device.arena(8 << 30, 64)
    with pytest.raises(nc.NumbacnnError, match="out of GPU memory: 8,192 MiB asked"):
        device.zeros(3)


def test_the_error_of_a_failed_launch_names_the_layer(monkeypatch):
    class Failure(Exception):  # noqa: N818
        """An error of the driver."""

    made = nc.Sequential([nc.Dense(3, name="one"), nc.Dense(2, name="two")], (4,), device="cuda")
    launched = []

    def synchronize():
        launched.append(1)
        if len(launched) == 2:
            raise Failure("an illegal memory access")

    monkeypatch.setattr(driver, "DeviceError", Failure)
    monkeypatch.setattr(driver, "synchronize", synchronize)
    with pytest.raises(nc.NumbacnnError, match='forward pass of Dense "two" failed on the GPU: an illegal memory'):
        made.forward(np.ones((1, 4), np.float32))
    launched.clear()
    launched.append(1)
    with pytest.raises(nc.NumbacnnError, match="set NUMBACNN_CUDA_SYNC=1"):
        made.device.synchronize()


@pytest.mark.parametrize("why", ["the package numba-cuda is not installed", "there is no NVIDIA driver"])
def test_why_there_is_no_device(why, monkeypatch):
    monkeypatch.setattr(driver, "why_not", lambda: why)
    with pytest.raises(nc.NumbacnnError, match=f'device "cuda" cannot run: {why}'):
        CudaDevice()
