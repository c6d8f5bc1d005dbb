"""Throughput of augmentation in images per second: 28×28×1, 8 bits, batch after batch as in training.

python benchmarks/augmentation.py [--threads 2] [--batch 256] [--augment SPEC] [--at-least 50000]

Prints the median of 15 turns of 60 batches. With ``--at-least`` the exit status is 1 if it is below that.
"""

import argparse
import statistics
import sys
import time

import numpy as np

import numbacnn as nc

BATCHES, TURNS = 60, 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--augment", default="rotate=10, translate=2, elastic=34:4")
    parser.add_argument("--at-least", type=float, default=0, metavar="RATE")
    options = parser.parse_args()
    nc.set_num_threads(options.threads)
    images = np.random.default_rng(0).integers(0, 256, (options.batch, 28, 28, 1), np.uint8)
    data = nc.data.Dataset.from_arrays(images, np.arange(options.batch) % 10)
    augmenter = nc.augment.Augmenter(nc.augment.Compose.parse(options.augment), data, 10)
    rates = []
    for turn in range(-1, TURNS):  # the first one compiles
        start = time.perf_counter()
        for batch in range(BATCHES):
            indices = np.arange(batch * options.batch, (batch + 1) * options.batch)
            augmenter(data.images, data.labels, indices, seed=0, epoch=turn + 1)
        rates.append(BATCHES * options.batch / (time.perf_counter() - start))
    rate = statistics.median(rates[1:])
    print(f"{options.augment}: {rate:,.0f} images/s on {options.threads} threads, batch size {options.batch}")
    return int(rate < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
