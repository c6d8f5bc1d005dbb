"""Track kernels of representative shapes, other layers and training steps: python -m pytest benchmarks"""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.bench import cases
from numbacnn.bench.work import kernel_job
from numbacnn.engine.device import get_device

KERNELS = cases.in_directions(cases.select(patterns=["lenet-5", "two convolutions", "resnet", "mobilenet"]))
LAYERS = {
    "max pool 28² 32": (64, (28, 28, 32), lambda: nc.MaxPool2D(2)),
    "max pool 28² 64 overlapping": (8, (28, 28, 64), lambda: nc.MaxPool2D(3, 2, padding=1)),
    "average pool 28² 32": (64, (28, 28, 32), lambda: nc.AvgPool2D(2)),
    "relu 28² 32": (64, (28, 28, 32), lambda: nc.ReLU()),
    "batch norm 28² 32": (64, (28, 28, 32), lambda: nc.BatchNorm()),
    "group norm 28² 32": (64, (28, 28, 32), lambda: nc.GroupNorm(8)),
    "local response norm 28² 32": (64, (28, 28, 32), lambda: nc.LocalResponseNorm()),
    "dropout 3136": (64, (3136,), lambda: nc.Dropout(0.5)),
}


@pytest.mark.parametrize(("case", "direction"), KERNELS, ids=[f"{case} {direction}" for case, direction in KERNELS])
def test_kernel(benchmark, case, direction):
    benchmark(kernel_job(case, direction, get_device("cpu")).work)


@pytest.fixture(params=LAYERS, ids=LAYERS.keys())
def layer_model(request):
    batch, shape, layer = LAYERS[request.param]
    x = nc.Input(shape)
    images = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    return nc.Model(x, layer()(x)), images


def test_forward(benchmark, layer_model):
    model, images = layer_model
    assert np.isfinite(benchmark(model.forward, images)).all()


def test_forward_and_backward(benchmark, layer_model):
    model, images = layer_model
    dy = np.ones_like(model.forward(images))

    def both():
        model.forward(images, training=True)
        return model.backward(dy)

    assert benchmark(both).shape == images.shape


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("name", ["lenet5", "simple_cnn"])
def test_training_step(benchmark, name, batch):
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch, 28, 28, 1)).astype(np.float32)
    labels = generator.integers(0, 10, batch)
    model, optimizer = nc.models.make(name), nc.SGD(0.001, momentum=0.9)
    assert np.isfinite(benchmark(model.train_step, images, labels, optimizer))
