"""Measure how LeNet-5 trains for long: whole epochs on MNIST, and late steps of a training over early ones.

    python benchmarks/long_training.py [--steps 20000] [--data mnist] [--epochs 5]

Momentum of units without gradient decays into subnormal numbers, unless they are flushed to zero. Many processors need
a hundred cycles for each, so that a training slows down as it succeeds. Prints the mean time of the last thousand of
many steps on the digits at batch 16 over that of the first thousand, after 200 others, for three optimizers; then the
seconds of epochs at batch 64, with the loader. The first epoch also loads or compiles the kernels.
"""

import argparse
import time

import numpy as np

import numbacnn as nc
from numbacnn.training.events import Event, StepEnd

WARM, WINDOW = 200, 1000  # steps
OPTIMIZERS = {
    "SGD, momentum 0.9": nc.optimizers.SGD(0.05, momentum=0.9),
    "SGD, momentum 0.9, weight decay": nc.optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-4),
    "Adam": nc.optimizers.Adam(0.001),
}


def step_times(train: nc.data.Dataset, optimizer: nc.optimizers.Optimizer, steps: int) -> np.ndarray:
    """Return the seconds of each of ``steps`` warm steps of one training at batch 16."""
    ends: list[float] = []

    def note(event: Event) -> bool:
        if isinstance(event, StepEnd):
            ends.append(time.perf_counter())
        return len(ends) > WARM + steps

    epochs = -(-(WARM + steps + 1) // -(-len(train) // 16))
    model = nc.models.lenet5(seed=0)
    model.fit(train, optimizer=optimizer, epochs=epochs, batch_size=16, callbacks=note, progress=False)
    return np.diff(ends)[WARM:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    if options.steps < 2 * WINDOW:
        parser.error(f"--steps {options.steps}: at least {2 * WINDOW}")
    digits, _ = nc.data.load("digits")
    for name, optimizer in OPTIMIZERS.items():
        times = step_times(digits, optimizer, options.steps)
        first, last = times[:WINDOW].mean(), times[-WINDOW:].mean()
        print(f"{name}: {1e3 * first:.3f} ms at first, {1e3 * last:.3f} ms at last: {last / first:.3f}", flush=True)
    train, _ = nc.data.load(options.data)
    model, seconds = nc.models.lenet5(seed=0), []
    for _ in range(options.epochs):
        start = time.perf_counter()
        model.fit(train, epochs=1, batch_size=64, progress=False)
        seconds.append(time.perf_counter() - start)
    print("an epoch, s:", ", ".join(f"{each:.3f}" for each in seconds))


if __name__ == "__main__":
    main()
