"""Interrupt forward, predict and fit at random instants, with a second thread waiting for the engine.

    python tests/long/interrupts.py [--count 6000] [--minutes M] [--seed 0]

Each of the three gets a third of the interrupts. After each interrupt the second thread must get the engine; a hang
ends the script with a traceback of all threads.
Trainings are resumed until they end, and then have the same weights, bit for bit, as one that was not interrupted.
Not on Windows: it needs interval timers.
"""

import argparse
import faulthandler
import json
import math
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

import numbacnn as nc

TIMEOUT = 120  # seconds until a thread that waits hangs


def model():
    layers = [nc.Conv2D(4, 3), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dropout(0.2), nc.Dense(10)]
    return nc.Sequential(layers, (28, 28, 1), seed=1)


def interrupted(action, seconds):
    """Run an action, interrupted after a time; return whether that happened."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            action()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    return False


def seconds(action):
    """Return the mean time of an action that other threads may delay."""
    start = time.perf_counter()
    for _ in range(20):
        action()
    return (time.perf_counter() - start) / 20


class Waiter:
    """A second thread that uses the engine all the time, and counts its turns."""

    def __init__(self, images):
        self.turns, self._stop, self._images = 0, threading.Event(), images
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        other = model()
        while not self._stop.is_set():
            other.predict(self._images)
            self.turns += 1

    def has_its_turn(self):
        """Wait for a whole turn after now."""
        goal = self.turns + 2
        faulthandler.dump_traceback_later(TIMEOUT, exit=True)
        while self.turns < goal:
            time.sleep(0.0005)
        faulthandler.cancel_dump_traceback_later()

    def stop(self):
        self._stop.set()
        self._thread.join()


def trained(data, checkpoint, random=None, longest=0.0):
    """Train to the end, interrupted at random instants; return the weights and the number of interrupts."""
    count = 0
    while True:
        trainee = model()
        options = {"optimizer": nc.Adam(0.01), "epochs": 2, "batch_size": 16, "progress": False}

        def fit(trainee=trainee, options=options):
            trainee.fit(data, validation=data, checkpoint=checkpoint, checkpoint_every=1, resume=True, **options)

        if random is None:
            fit()
        elif interrupted(fit, random.uniform(0, longest)):
            count += 1
            yield None
            continue
        yield {name: np.array(array) for name, array in trainee.parameters.items()}
        return


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="the longest time")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    random, counts = Random(given.seed), Counter()
    train, _ = nc.data.load("digits")
    data, images = train.subset(np.arange(96)), train.images[:8]
    mine = model()
    x = mine.normalized(images) if mine.normalization else np.zeros((8, 28, 28, 1), np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (expected,) = trained(data, folder / "whole.safetensors")
        start = time.perf_counter()
        (again,) = trained(data, folder / "timed.safetensors")
        longest = 0.8 * (time.perf_counter() - start)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        waiter = Waiter(images)
        actions = {
            "forward": lambda: [mine.forward(x) for _ in range(20)],
            "predict": lambda: [mine.predict(images) for _ in range(20)],
        }
        spans = {kind: seconds(action) for kind, action in actions.items()}
        while time.monotonic() < end:
            kinds = [kind for kind in ("forward", "predict", "fit") if counts[kind] < given.count / 3]
            if not kinds:
                break
            kind = random.choice(kinds)
            if kind != "fit":
                counts[kind] += interrupted(actions[kind], random.uniform(0, spans[kind]))
                waiter.has_its_turn()
                continue
            number = counts["whole trainings"]
            for weights in trained(data, folder / f"{number}.safetensors", random, longest):
                waiter.has_its_turn()
                counts["fit"] += weights is None
            for key, array in expected.items():
                np.testing.assert_array_equal(weights[key], array)
                np.testing.assert_array_equal(again[key], array)
            counts["whole trainings"] += 1
            for file in folder.glob(f"{number}*"):
                file.unlink()
            if counts["whole trainings"] % 20 == 0:
                print(json.dumps(counts), flush=True)
        waiter.stop()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
