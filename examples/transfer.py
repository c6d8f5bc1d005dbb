"""Transfer learning: LeNet-5 learns the digits 0 to 4, then 5 to 9 from a hundred images; compared with from scratch.

python examples/transfer.py [FOLDER]     MNIST from a folder with its files, or from $NUMBACNN_TEST_DATA/mnist,
                                         or downloaded once
python examples/transfer.py --fast       the bundled digits and two seeds: a few seconds
"""

import argparse
import os
from pathlib import Path

import numpy as np

import numbacnn as nc

IMAGES = 100  # of the digits 5 to 9


def digits_of(data, low, high):
    """Return the images of the digits low to high, as a data set whose classes are these digits."""
    chosen = (low <= data.labels) & (data.labels <= high)
    names = [str(digit) for digit in range(low, high + 1)]
    return nc.data.Dataset.from_arrays(data.images[chosen], data.labels[chosen] - low, names)


def learn(model, data, rate, epochs, batch_size, seed, groups=()):
    """Train with Adam and a cosine schedule."""
    optimizer = nc.Adam(rate, groups=groups)
    model.fit(data, optimizer=optimizer, schedule="cosine", epochs=epochs, batch_size=batch_size, seed=seed)
    return model


def compare(train, test, epochs, seed):
    """Return the test accuracy on 5 to 9 after transfer, and from scratch, trained on the same hundred images.

    Both use the learning rate that is best from scratch, chosen with other seeds on held-out images.
    """
    five_to_nine = digits_of(train, 5, 9)
    few = five_to_nine.subset(np.random.default_rng(seed).permutation(len(five_to_nine))[:IMAGES])

    source = learn(nc.models.lenet5(classes=5, seed=seed), digits_of(train, 0, 4), 0.002, epochs, 64, seed)
    transferred = source.replace_head(5, seed=seed + 1)
    transferred.freeze("conv2d_1.*")  # all digits have the same edges and strokes
    slowly = [nc.ParamGroup("conv2d_2.*", learning_rate=0.001)]
    learn(transferred, few, 0.003, 40, 20, seed, slowly)

    scratch = learn(nc.models.lenet5(classes=5, seed=seed), few, 0.003, 40, 20, seed)
    held_out = digits_of(test, 5, 9)
    return transferred.evaluate(held_out)["accuracy"], scratch.evaluate(held_out)["accuracy"]


def main():
    """Print mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    shared = os.environ.get("NUMBACNN_TEST_DATA")
    named = options.folder or (Path(shared) / "mnist" if shared else "mnist")
    train, test = nc.data.load("digits" if options.fast else named)
    seeds, epochs = (2, 8) if options.fast else (5, 3)

    found = np.array([compare(train, test, epochs, seed) for seed in range(seeds)])
    for name, accuracies in zip(("transferred", "from scratch"), found.T, strict=True):
        print(f"{name:>12}: {accuracies.mean():.2%} ± {accuracies.std(ddof=1):.2%} over {seeds} seeds")
    gain = found[:, 0] - found[:, 1]
    print(f"{'gain':>12}: {gain.mean():.2%} ± {gain.std(ddof=1):.2%}")


if __name__ == "__main__":
    main()
