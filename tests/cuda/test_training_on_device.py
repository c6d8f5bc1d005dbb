"""The losses of training steps on device "cuda" against the CPU; on a GPU, of LeNet-5 and ResNet-18."""

import numpy as np
import pytest
from emulation import EMULATED, PTX

import numbacnn as nc

CLASSES = 10


def tiny(**options):
    layers = [nc.Conv2D(3, 3, padding=1), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(CLASSES)]
    return nc.Sequential(layers, (4, 4, 1), **options)


def resnet18(**options):
    return nc.models.resnet18((32, 32, 3), CLASSES, stem="cifar", **options)


# model, batch, steps, and tolerance: rounding errors grow with every step, faster through more layers
TRAININGS = [(nc.models.lenet5, 64, 50, 1e-3), (resnet18, 32, 50, 1e-2)]
if EMULATED:
    TRAININGS = [(tiny, 2, 3, 1e-5), *([(nc.models.lenet5, 5, 2, 1e-5)] if PTX else [])]


@pytest.mark.parametrize(
    ("make", "batch", "steps", "tolerance"), TRAININGS, ids=lambda value: getattr(value, "__name__", "")
)
def test_losses_are_those_of_the_cpu(make, batch, steps, tolerance):
    models = [make(seed=3, device=device) for device in ("cpu", "cuda")]
    optimizers = [nc.SGD(0.01, momentum=0.9) for _ in models]
    draw, losses = np.random.default_rng(0), []
    for _ in range(steps):
        images = draw.standard_normal((batch, *models[0].input_shape)).astype(np.float32)
        labels = draw.integers(0, CLASSES, batch)
        given = zip(models, optimizers, strict=True)
        losses.append([model.train_step(images, labels, optimizer) for model, optimizer in given])
    expected, found = np.transpose(losses)
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=tolerance)
