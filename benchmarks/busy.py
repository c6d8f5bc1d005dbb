"""Training steps next to busy processes: their mean time in multiples of the mean on a quiet machine.

    python benchmarks/busy.py [--model lenet5] [--batch 16 64] [--busy 1] [--seconds 3] [--rounds 3]

Each round measures quiet steps, then steps next to processes that only loop: on all threads of the package, of OpenMP
(``NUMBA_THREADING_LAYER=omp``), and on one thread, each in a process of its own. Printed are medians over the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

STEPS = """
import sys, time
import numpy as np
import numbacnn as nc
name, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
shapes = {"lenet5": (28, 28, 1), "resnet18": (32, 32, 3)}
options = {"stem": "cifar"} if name == "resnet18" else {}
model = nc.models.make(name, input_shape=shapes[name], classes=10, **options)
rng = np.random.default_rng(0)
x, y = rng.random((batch, *shapes[name]), dtype=np.float32), rng.integers(0, 10, batch)
optimizer = nc.SGD(0.01, momentum=0.9)
for _ in range(3):
    model.train_step(x, y, optimizer)
steps, start = 0, time.perf_counter()
while time.perf_counter() - start < seconds:
    model.train_step(x, y, optimizer)
    steps += 1
print((time.perf_counter() - start) / steps * 1e3)
"""
WAYS = {
    "package": {},
    "OpenMP": {"NUMBA_THREADING_LAYER": "omp"},
    "one thread": {"NUMBA_NUM_THREADS": "1"},
}


def mean_step(model: str, batch: int, seconds: float, variables: dict[str, str]) -> float:
    """Return the mean time of a step in ms."""
    command = [sys.executable, "-c", STEPS, model, str(batch), str(seconds)]
    return float(subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, text=True).stdout)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run processes that loop."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["lenet5", "resnet18"], default="lenet5")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--busy", type=int, default=1, help="busy processes")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.model}, mean step in ms, quiet and next to {arguments.busy} busy process(es)\n")
    print("| batch | threads | quiet | busy | busy / quiet of the package |\n|---|---|---|---|---|")
    for batch in arguments.batch:
        found = defaultdict[tuple[str, int], list[float]](list)
        for _ in range(arguments.rounds):
            for count in (0, arguments.busy):
                with busy(count):
                    for way, variables in WAYS.items():
                        found[way, count].append(mean_step(arguments.model, batch, arguments.seconds, variables))
        medians = {key: statistics.median(times) for key, times in found.items()}
        for way in WAYS:
            quiet, loaded = medians[way, 0], medians[way, arguments.busy]
            print(f"| {batch} | {way} | {quiet:.2f} | {loaded:.2f} | {loaded / medians['package', 0]:.2f} |")


if __name__ == "__main__":
    main()
