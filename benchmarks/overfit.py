"""Overfit every model of the zoo on 32 images: ``python benchmarks/overfit.py [MODEL …]`` prints a table.

The images are noise with random labels, at a small input size. Each model trains with its dropout, with Adam on all 32
images per step, until it classifies 99 % of them in inference, or for ten minutes.
"""

import sys
import time

import numpy as np

import numbacnn as nc

IMAGES, CLASSES = 32, 10
LIMIT = 600.0  # seconds
SKIPPED = ("grid_detector",)  # see benchmarks/tasks.py
EVERY = 5  # steps between evaluations
SHAPES = {
    "lenet5": (28, 28, 1),
    "simple_cnn": (28, 28, 1),
    "deep_cnn": (28, 28, 1),
    "deep_cnn_wide": (28, 28, 1),
    "alexnet": (63, 63, 3),
    "unet": (16, 16, 1),
    "unet_small": (16, 16, 1),
}
SMALL_STEPS = ("alexnet", "vgg")  # their wide dense layers diverge with larger ones


def overfit(name):
    """Return accuracy, steps and seconds, including compilation."""
    rng, shape = np.random.default_rng(0), SHAPES.get(name, (32, 32, 3))
    x = rng.standard_normal((IMAGES, *shape)).astype(np.float32)
    model = nc.models.make(name, input_shape=shape, classes=2 if name.startswith("unet") else CLASSES)
    labels = (x[..., 0] > 0).astype(int) if name.startswith("unet") else rng.integers(0, CLASSES, IMAGES)
    optimizer = nc.Adam(1e-4 if name.startswith(SMALL_STEPS) else 1e-3)
    start, steps, accuracy = time.perf_counter(), 0, 0.0
    while accuracy < 0.99 and time.perf_counter() - start < LIMIT:
        model.train_step(x, labels, optimizer)
        steps += 1
        if steps % EVERY == 0:
            accuracy = float((model.forward(x).argmax(-1) == labels).mean())
    return accuracy, steps, time.perf_counter() - start


def main(names):
    print(f"{'model':<18}{'input':>10}{'accuracy':>10}{'steps':>7}{'seconds':>9}")
    for name in names or [name for name in nc.models.MODELS if name not in SKIPPED]:
        accuracy, steps, seconds = overfit(name)
        shape = "×".join(map(str, SHAPES.get(name, (32, 32, 3))))
        print(f"{name:<18}{shape:>10}{accuracy:>10.1%}{steps:>7}{seconds:>9.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
