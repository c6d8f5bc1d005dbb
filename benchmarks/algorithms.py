"""Compare the convolution algorithms that are chosen with all others, paired, and print a Markdown table.

    python benchmarks/algorithms.py [--batch 1 8 64] [--pairs 5] [--at-least 0.9]

Convolutions of the kernel suite with a window of 3×3 or 5×5 at stride 1 run in each direction by the algorithm of
"auto", or of "latency" on one image, and by each one that can be forced. On one image, up to 64 copies take turns, so
that weights of 2 MB and more are read from memory, as in a network; that takes up to 7 GB. Whole networks run by
"latency", "auto" and "direct" on one image, in inference and in training. The figure of a row is the shortest time of
another algorithm over that of the chosen one; with ``--at-least`` the exit status is 1 if one is below.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import cycle

import numpy as np

import numbacnn as nc
from numbacnn.bench.cases import CASES, Case
from numbacnn.bench.timing import QUICK, Effort, Ratio, Work, paired_ratio, wait_until_idle
from numbacnn.bench.work import kernel_job
from numbacnn.engine.device import get_device
from numbacnn.errors import GeometryError
from numbacnn.layers import Conv2D

FORCED = "direct", "winograd2", "winograd4"
UNCACHED, MAX_COPIES = 1 << 27, 64  # bytes of weights that caches do not hold, and copies of a convolution
NETWORKS: dict[str, Callable[[], nc.Model]] = {
    "LeNet-5": nc.models.lenet5,
    "ResNet-18, 32×32": lambda: nc.models.resnet18((32, 32, 3), classes=10, stem="cifar"),
    "ResNet-50": nc.models.resnet50,
    "VGG-16": nc.models.vgg16,
}


def layers(batch: int, effort: Effort) -> Iterator[tuple[str, dict[str, Ratio]]]:
    """Yield each convolution and direction, with the ratios of the other algorithms to the chosen one."""
    mode = "latency" if batch == 1 else "auto"
    for case in CASES:
        layer = case.layer() if case.op == "conv2d" else None
        if not isinstance(layer, Conv2D) or not (g := layer.geometry([case.shape])).winograd_tiles:
            continue
        copies = min(MAX_COPIES, -(-UNCACHED // (4 * g.r * g.s * g.c * g.k))) if batch == 1 else 1
        for direction in case.directions:
            works = works_of(case._replace(batch=batch), direction, mode, copies)
            chosen, work = works.pop(mode)
            others = {name: other for name, (algorithm, other) in works.items() if algorithm != chosen}
            yield f"{case}, {direction}, batch {batch}: {chosen}", compared(work, others, effort)


def works_of(case: Case, direction: str, mode: str, copies: int) -> dict[str, tuple[str, Work]]:
    """Return the algorithm that runs, and its work, of ``mode`` and of each algorithm that fits the window."""
    found = {}
    for name in (mode, *FORCED):
        with suppress(GeometryError):  # tiles of 4×4 are for 3×3 windows
            forced = case._replace(algorithm=name)
            jobs = [kernel_job(forced, direction, get_device("cpu")) for _ in range(copies)]
            (algorithm,) = jobs[0].algorithms.values()
            found[name] = algorithm.name, in_turn(job.work for job in jobs)
    return found


def in_turn(works: Iterable[Work]) -> Work:
    """Return a function that calls one after another, after a first call of each, which touches its memory."""
    every = list(works)
    for work in every:
        work()
    turns = cycle(every)
    return lambda: next(turns)()


def networks(effort: Effort) -> Iterator[tuple[str, dict[str, Ratio]]]:
    """Yield each network on one image, in inference and in training, with the ratios of the others to "latency"."""
    for name, make in NETWORKS.items():
        models = {algorithm: make().use_algorithm(algorithm) for algorithm in ("latency", "auto", "direct")}
        image = np.random.default_rng(0).standard_normal((1, *models["auto"].input_shape), np.float32)
        steps = {
            "inference": {algorithm: partial(model.forward, image) for algorithm, model in models.items()},
            "training": {
                algorithm: partial(model.train_step, image, [0], nc.SGD(1e-5)) for algorithm, model in models.items()
            },
        }
        for step, works in steps.items():
            yield f"{name}, {step}, one image: latency", compared(works.pop("latency"), works, effort)


def compared(chosen: Work, others: Mapping[str, Work], effort: Effort) -> dict[str, Ratio]:
    """Return the time of each other one over that of the chosen one."""
    return {name: paired_ratio(chosen, other, effort) for name, other in others.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--at-least", type=float, default=0.0, metavar="RATIO")
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    options = parser.parse_args()
    nc.set_num_threads(options.threads)
    effort = QUICK if options.quick else Effort(options.pairs)
    wait_until_idle()
    print("| convolution | the others' time over its | the best of them |\n|---|---|---|")
    lowest = 1.0
    rows = [layers(batch, effort) for batch in options.batch]
    for found in (*rows, networks(effort)):
        for name, ratios in found:
            best = min((ratio.ratio for ratio in ratios.values()), default=1.0)
            lowest = min(lowest, best)
            print(f"| {name} | {', '.join(f'{other} {r.ratio:.2f}' for other, r in ratios.items())} | {best:.2f} |")
            sys.stdout.flush()
    print(f"\nthe lowest: {lowest:.2f}")
    return int(lowest < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
