"""Hashes of everything the engine computes, to compare processes and numbers of threads. As a script, prints them.

python tests/fingerprints.py 1,2,8        {"1": {name: hash}, "2": …}, by number of threads
"""

import hashlib
import json
import sys

import cases
import loss_cases
import numpy as np
from engine import case_arrays, one_layer, run

import numbacnn as nc

STEPS = 50


def digest(arrays):
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array))
    return sha.hexdigest()[:16]


def picked_cases():
    """Every case chosen by hand, and every tenth of the random ones."""
    found = {}
    for case in [*cases.PICKED, *cases.CASES[len(cases.PICKED) :: 10]]:
        model = one_layer(case)
        found[str(case)] = digest(run(model, *case_arrays(case, model)).named().values())
    return found


def picked_losses():
    """Every fifth case of the table of losses."""
    found = {}
    for case in loss_cases.CASES[::5]:
        loss, dy = case.ours()
        found[str(case)] = digest([np.array(loss), dy])
    return found


def penalized(steps=10):
    """Weights after a few steps with an auxiliary head and penalties, one of them large enough for several blocks."""
    x = nc.Input((9, 9, 3))
    h = nc.ReLU()(nc.Conv2D(24, 3, l1=0.001)(x))
    flat = nc.Flatten()(h)
    model = nc.Model(x, nc.Dense(10, l1=0.001, l2=0.01)(flat), auxiliary=[nc.Dense(10, l2=0.01)(flat)], seed=3)
    draw, optimizer = np.random.default_rng(4), nc.SGD(0.01)
    losses = [
        model.train_step(draw.standard_normal((8, 9, 9, 3)), draw.integers(0, 10, 8), optimizer) for _ in range(steps)
    ]
    return {"penalties and an auxiliary head": digest([np.array(losses), *model.parameters.values()])}


def normalizing():
    """A model with every layer that normalizes or draws random numbers."""
    layers = [
        nc.Conv2D(12, 3, stride=2), nc.BatchNorm(), nc.ReLU(), nc.SpatialDropout(0.2),
        nc.Conv2D(20, 3), nc.GroupNorm(5), nc.ReLU(), nc.LocalResponseNorm(alpha=0.1), nc.MaxPool2D(2),
        nc.Flatten(), nc.Dense(50), nc.BatchNorm(), nc.ReLU(), nc.Dropout(0.5), nc.Dense(10),
    ]  # fmt: skip
    return nc.Sequential(layers, (28, 28, 1), seed=1)


def training(name, batch, steps, optimizer):
    """A forward pass, its gradients, and weights and state after training steps on batches of noise."""
    model = normalizing() if name == "normalizing" else nc.models.make(name, seed=1)
    draw = np.random.default_rng(2)
    x = draw.standard_normal((batch, 28, 28, 1)).astype(np.float32)
    y = model.forward(x, training=True)
    dx = model.backward(draw.standard_normal(y.shape))
    first = digest([y, dx, *model.gradients.values()])
    losses = []
    for _ in range(steps):
        x = draw.standard_normal((batch, 28, 28, 1)).astype(np.float32)
        losses.append(model.train_step(x, draw.integers(0, 10, batch), optimizer))
    key = f"{name}, batch {batch}, {optimizer.name}"
    assert np.isfinite(losses).all(), f"{key}: losses {losses}"
    return {key: first, f"{key}, {steps} steps": digest([np.array(losses), *model.store.arrays().values()])}


def fingerprints():
    found = picked_cases() | picked_losses() | penalized()
    found |= training("lenet5", 64, STEPS, nc.SGD(0.05, momentum=0.9))
    found |= training("lenet5", 7, STEPS, nc.Adam(0.001))
    found |= training("normalizing", 33, STEPS, nc.SGD(0.05, momentum=0.9))
    found |= training("simple_cnn", 16, 3, nc.SGD(0.05, momentum=0.9, weight_decay=0.01, clip_norm=0.5))
    found |= training(
        "lenet5", 9, 3, nc.Muon(0.02, clip_norm=1.0, groups=[nc.ParamGroup("*.bias", learning_rate=0.001)])
    )
    found |= training("lenet5", 9, 3, nc.LAMB(0.01))
    found |= training("lenet5", 9, 3, nc.RMSprop(0.001, momentum=0.9, centered=True))
    found |= training("lenet5", 9, 3, nc.Adagrad(0.01, clip_value=0.1))
    found |= averaged()
    found |= augmented()
    return found


def augmented():
    """A batch through every transform, and the weights after a training on such batches."""
    draw = np.random.default_rng(5)
    data = nc.data.Dataset.from_arrays(draw.integers(0, 256, (50, 13, 11, 3), np.uint8), draw.integers(0, 4, 50))
    chain = (
        "rotate=20, translate=2, scale=0.1, shear=5, elastic=20:3, crop=1, hflip, vflip, noise=0.05, "
        "color=0.2:0.2:0.2, cutout=3, mixup@0.5, cutmix@0.5"
    )
    images, labels, *_ = nc.augment.apply(chain, data.images, data.labels, 7, 1)
    model = nc.Sequential([nc.Conv2D(8, 3), nc.ReLU(), nc.Flatten(), nc.Dense(4)], (13, 11, 3), seed=2)
    model.fit(data, epochs=2, batch_size=16, augment=chain)
    return {"augmented batch": digest([images, labels]), "augmented": digest(model.parameters.values())}


def averaged():
    """Weights after a training with gradient accumulation and averaged weights."""
    draw, model = np.random.default_rng(3), nc.models.lenet5(seed=1)
    data = draw.integers(0, 256, (70, 28, 28, 1)).astype(np.uint8), draw.integers(0, 10, 70)
    model.fit(data, optimizer=nc.AdamW(0.001), epochs=2, batch_size=16, accumulate=2, ema=0.9)
    return {"averaged": digest(model.parameters.values())}


if __name__ == "__main__":
    results = {}
    for threads in map(int, sys.argv[1].split(",")):
        nc.set_num_threads(threads)
        results[threads] = fingerprints()
    print(json.dumps(results))
