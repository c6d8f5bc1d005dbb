"""Forward and backward of representative layers, for tracking: python -m pytest benchmarks"""

import numpy as np
import pytest

import numbacnn as nc

CASES = {
    "conv 28² 1→6 5×5": (64, (28, 28, 1), lambda: nc.Conv2D(6, 5, padding=2)),
    "conv 14² 6→16 5×5": (64, (14, 14, 6), lambda: nc.Conv2D(16, 5)),
    "conv 28² 1→32 3×3": (64, (28, 28, 1), lambda: nc.Conv2D(32, 3, padding=1)),
    "conv 14² 32→64 3×3": (64, (14, 14, 32), lambda: nc.Conv2D(64, 3, padding=1)),
    "conv 28² 128→128 3×3": (8, (28, 28, 128), lambda: nc.Conv2D(128, 3, padding=1)),
    "conv 56² 64→256 1×1": (8, (56, 56, 64), lambda: nc.Conv2D(256, 1)),
    "dense 3136→128": (64, (3136,), lambda: nc.Dense(128)),
    "max pool 28² 32": (64, (28, 28, 32), lambda: nc.MaxPool2D(2)),
    "max pool 28² 64 overlapping": (8, (28, 28, 64), lambda: nc.MaxPool2D(3, 2, padding=1)),
    "average pool 28² 32": (64, (28, 28, 32), lambda: nc.AveragePool2D(2)),
    "relu 28² 32": (64, (28, 28, 32), lambda: nc.ReLU()),
    "batch norm 28² 32": (64, (28, 28, 32), lambda: nc.BatchNorm()),
    "group norm 28² 32": (64, (28, 28, 32), lambda: nc.GroupNorm(8)),
    "local response norm 28² 32": (64, (28, 28, 32), lambda: nc.LocalResponseNorm()),
    "dropout 3136": (64, (3136,), lambda: nc.Dropout(0.5)),
}


@pytest.fixture(params=CASES, ids=CASES.keys())
def layer_model(request):
    batch, shape, layer = CASES[request.param]
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
