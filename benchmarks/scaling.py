"""Simulate data-parallel training of ResNet-18 on up to 1,000 ranks, from a measured step and a model of the link.

    python benchmarks/scaling.py                               measure one rank here, simulate, and draw the picture
    python benchmarks/scaling.py --step-ms 700 --shard-ms 350  simulate from given times
    python benchmarks/scaling.py --check results.json          compare with `numbacnn bench train --mpi --json` files

The weak scaling keeps the images of each rank. A message of n bytes takes α + n / bandwidth. A step is: the shards of
the rank with most of them; the buckets of the gradient become ready evenly over the backward pass; each travels to its
owners (one message to each rank, of which α is paid once and OVERHEAD by each), for as many sums as the rank has, and
returns in ⌈log₂ ranks⌉ rounds; transfers of a rank share its link. What ends after the backward pass is exposed.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from numbacnn.distributed import Shards, subtrees

OVERHEAD = 1e-6  # seconds that a rank needs for one more message
BACKWARD = 2 / 3  # of a rank's time
BUCKET = 4 << 20
RANKS = (1, 2, 3, 4, 8, 16, 32, 64, 100, 128, 256, 500, 512, 1000, 1024)
LINKS = {
    "10 Gbit/s, 50 µs": (50e-6, 1.25e9),
    "10 Gbit/s, 1 ms": (1e-3, 1.25e9),
    "1 Gbit/s, 50 µs": (50e-6, 1.25e8),
}


def step(ranks, shards, shard_seconds, gradient_bytes, link):
    """Seconds of a step of ``shards`` shards on ``ranks`` ranks, and those of them that are exposed communication."""
    latency, bandwidth = link
    shares = [Shards(shards).share(rank, ranks) for rank in range(ranks)]
    slowest = max(map(len, shares)) * shard_seconds
    if ranks == 1:
        return slowest, 0.0
    sums = max(len(subtrees(share)) for share in shares)
    buckets = max(1, round(gradient_bytes / BUCKET))
    size = gradient_bytes / buckets * (ranks - 1) / ranks
    free = 0.0
    for bucket in range(buckets):
        ready = slowest - slowest * BACKWARD * (1 - (bucket + 1) / buckets)
        scatter = latency + OVERHEAD * (ranks - 1) + sums * size / bandwidth
        gather = latency * math.ceil(math.log2(ranks)) + size / bandwidth
        free = max(free, ready) + scatter + gather
    return max(free, slowest), max(free - slowest, 0.0)


def power_of_two(shards):
    """The next power of two, as an example of a number that the ranks do not divide."""
    return 1 << math.ceil(math.log2(shards))


def efficiency(ranks, shards, rank_seconds, gradient_bytes, link):
    """Images per second of each rank, as a share of those of one rank that computes alone."""
    seconds, exposed = step(ranks, shards, rank_seconds * ranks / shards, gradient_bytes, link)
    return rank_seconds / seconds, exposed / seconds


def measured_step(batch, steps):
    """Seconds of a training step of ResNet-18 (cifar) on this machine, and the bytes of its gradient."""
    from numbacnn import models
    from numbacnn.bench.ranks import measure_ranks
    from numbacnn.distributed import Group

    model = models.resnet18((32, 32, 3), 10, stem="cifar")
    times = measure_ranks(model, batch, 1, Group(), 0, steps)
    return times.step_ms / 1e3, 4 * model.store.size


def check(files, link):
    """Print measured steps of several ranks, and what the simulation says for them from their own compute time."""
    for file in files:
        content = json.loads(Path(file).read_text("utf-8"))
        for found in content.get("results", [content]):  # one for each batch size
            if "compute_ms" not in found:
                sys.exit(f"{file}: no measured ranks; pass the output of `numbacnn bench train --mpi --json`")
            share = math.ceil(found["shards"] / found["ranks"])
            shard = found["compute_ms"] / 1e3 / share
            seconds, _ = step(found["ranks"], found["shards"], shard, found["gradient_bytes"], link)
            print(f"{file}: measured {found['step_ms']:.1f} ms, simulated {1e3 * seconds:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--step-ms", type=float, help="a step of one rank; measured if left out")
    parser.add_argument("--gradient-mb", type=float, default=44.7, help="megabytes of the gradient, with --step-ms")
    parser.add_argument("--batch-size", type=int, default=64, help="images of each rank")
    parser.add_argument("--per-rank", type=int, default=1, help="shards of each rank")
    parser.add_argument("--steps", type=int, default=5, help="steps to measure")
    parser.add_argument("--check", nargs="*", default=[], metavar="FILE", help="results of bench train --mpi --json")
    parser.add_argument("--picture", type=Path, help="write the efficiencies as a picture")
    given = parser.parse_args()
    if given.check:
        check(given.check, (5e-6, 5e9))  # processes of one machine
        return
    seconds, size = given.step_ms and given.step_ms / 1e3, 1e6 * given.gradient_mb
    if not seconds:
        seconds, size = measured_step(given.batch_size, given.steps)
    print(f"one rank: {1e3 * seconds:.1f} ms for {given.batch_size} images, gradient {size / 1e6:.1f} MB")
    lines = {}
    for name, link in LINKS.items():
        lines[name] = []
        for ranks in RANKS:
            for shards in dict.fromkeys((ranks * given.per_rank, power_of_two(ranks * given.per_rank))):
                share, exposed = efficiency(ranks, shards, seconds, size, link)
                print(f"{name}  {ranks:5} ranks  {shards:6} shards  {share:6.1%} of one rank, {exposed:5.1%} exposed")
                if shards == ranks * given.per_rank:
                    lines[name].append((ranks, share))
    if given.picture:
        draw(lines, given.picture)


def draw(lines, path):
    """Draw the efficiency by the number of ranks, a line for each link."""
    from numbacnn.plots.figures import new_figure

    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.set(xscale="log", ylim=(0, 1.05), xlabel="ranks", ylabel="images per second and rank, relative to one rank")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
