"""A small training with everything that a checkpoint must hold, and the content of a checkpoint to compare."""

import numpy as np

import numbacnn as nc
from numbacnn.saving import format as checkpoint

TIMES = {"seconds", "images_per_second"}


def model(seed=1, rate=0.3):
    """A model with running statistics and dropout, which are part of the state."""
    layers = [
        nc.Conv2D(8, 3), nc.BatchNorm(), nc.ReLU(), nc.MaxPool2D(2), nc.SpatialDropout(0.2),
        nc.Flatten(), nc.Dropout(rate), nc.Dense(3),
    ]  # fmt: skip
    return nc.Sequential(layers, (8, 8, 1), seed=seed)


def data(count=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1)).astype(np.uint8), np.arange(count) % 3


def options():
    """Arguments of ``fit`` with everything that keeps state. The 77 images make ten steps and four updates an epoch."""
    return {
        "train": data(77),
        "validation": data(20, seed=1),
        "optimizer": nc.Adam(0.01, clip_norm=1.0),
        "loss": nc.losses.CrossEntropy(label_smoothing=0.1),
        "schedule": nc.schedules.Warmup(nc.schedules.Plateau(factor=0.5, patience=0, threshold=0.5, min_lr=0.0005), 6),
        "batch_size": 8,
        "seed": 3,
        "accumulate": 3,
        "ema": 0.9,
        "augment": "rotate=20, elastic=10:2, noise=0.1, mixup",
    }


def saved(path):
    """The content of a checkpoint, except times: its state, and the bytes of every array."""
    state, arrays = checkpoint.read_checkpoint(path)
    for record in [state["position"], *state["history"]]:
        for name in TIMES:
            record.pop(name, None)
    return state, {name: array.tobytes() for name, array in arrays.items()}
