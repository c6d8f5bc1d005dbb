"""Print hashes of short trainings of the zoo, one JSON object per run: a refactoring must not change one bit.

Run once on each revision, for each vector width, and compare the outputs:

    NUMBACNN_VECTOR_WIDTH=8 python tools/training_bits.py > after.json

Each entry hashes the losses of 20 steps and the final weights, state and outputs. Trainings that go through ``fit``
also cover the loader, augmentation, averaging and checkpoint-free training loop.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable

import numpy as np

import numbacnn as nc
from numbacnn.tasks.detection import DetectionLoss

STEPS = 20


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of shapes, dtypes and bytes."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()[:16]


def random_boxes(draw: np.random.Generator, images: int, size: int, classes: int) -> np.ndarray:
    """Two boxes in each image: (images, 2, 5) of left, top, right, bottom, class."""
    corner = draw.integers(0, size // 2, (images, 2, 2))
    side = draw.integers(8, size // 2, (images, 2, 2))
    label = draw.integers(0, classes, (images, 2, 1))
    return np.concatenate([corner, corner + side, label], axis=-1).astype(np.float32)


def steps(model: nc.Model, draw: np.random.Generator, batch: int, labels: str, optimizer: object) -> str:
    """Hash of ``STEPS`` training steps on noise, and of an inference after them."""
    h, w, c = model.input_shape
    losses = []
    options = {"loss": DetectionLoss((h, w))} if labels == "boxes" else {}
    for _ in range(STEPS):
        x = draw.standard_normal((batch, h, w, c)).astype(np.float32)
        target = {
            "classes": lambda: draw.integers(0, model.output_shape[-1], batch),
            "masks": lambda: draw.integers(0, model.output_shape[-1], (batch, h, w)),
            "boxes": lambda: random_boxes(draw, batch, h, model.output_shape[-1] - 5),
        }[labels]()
        losses.append(model.train_step(x, target, optimizer, **options))
    y = model.forward(draw.standard_normal((batch, h, w, c)).astype(np.float32))
    return digest([np.array(losses), *model.parameters.values(), *model.state.values(), y])


def fitted() -> str:
    """Hash of the weights after two epochs of ``fit`` with augmentation, accumulation and averaged weights."""
    train, validation = nc.data.load("digits")
    model = nc.models.lenet5(seed=4)
    chain = "rotate=10, translate=2, elastic=20:3, noise=0.05, mixup@0.3"
    history = model.fit(
        train,
        validation=validation,
        optimizer=nc.AdamW(0.001),
        epochs=2,
        batch_size=48,
        augment=chain,
        accumulate=2,
        ema=0.9,
    )
    losses = [[record.loss, record.validation_loss] for record in history.epochs]
    return digest([np.array(losses), *model.parameters.values()])


def hashes() -> dict[str, str]:
    """Every training's hash, by name."""
    draw = np.random.default_rng(11)
    models, sgd = nc.models, lambda: nc.SGD(0.01, momentum=0.9, weight_decay=1e-4)
    resnet18 = models.resnet18((32, 32, 3), 10, seed=1, stem="cifar")
    return {
        "lenet5": steps(models.lenet5(seed=1), draw, 64, "classes", sgd()),
        "lenet5, batch 7, Adam": steps(models.lenet5(seed=1), draw, 7, "classes", nc.Adam(0.001)),
        "simple_cnn, batch 16": steps(models.simple_cnn(seed=1), draw, 16, "classes", sgd()),
        "resnet18": steps(resnet18, draw, 8, "classes", sgd()),
        "unet_small": steps(models.unet_small(seed=1), draw, 4, "masks", nc.Adam(0.001)),
        "mobilenet_v2": steps(models.mobilenet_v2((64, 64, 3), 10, seed=1), draw, 4, "classes", nc.RMSprop(0.001)),
        "grid_detector": steps(models.grid_detector(seed=1), draw, 4, "boxes", nc.AdamW(0.001)),
        "googlenet": steps(models.googlenet((64, 64, 3), 10, seed=1), draw, 2, "classes", nc.SGD(0.01)),
        "fit": fitted(),
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    json.dump(hashes(), sys.stdout, indent=1)
    print()
