"""One training step against PyTorch's, paired in one process: forward, loss, backward and SGD with momentum.

    python benchmarks/training_step.py [--batch 64] [--threads 2] [--pairs 40] [--at-least lenet5=4 simple_cnn=1.5]

PyTorch runs in both memory formats, contiguous and channels-last; the faster one counts. ``--at-least`` makes the exit
status 1 where the lower end of the 95 % interval falls below a figure.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
from paired import Ratio, paired
from torch import nn

import numbacnn as nc


def lenet5() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def simple_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


TWINS: dict[str, Callable[[], nn.Module]] = {"lenet5": lenet5, "simple_cnn": simple_cnn}


def our_step(name: str, images: np.ndarray, labels: np.ndarray) -> Callable[[], object]:
    model, optimizer = nc.models.make(name), nc.SGD(0.01, momentum=0.9)
    return lambda: model.train_step(images, labels, optimizer)


def torch_step(name: str, images: np.ndarray, labels: np.ndarray, layout: torch.memory_format) -> Callable[[], object]:
    model = TWINS[name]().to(memory_format=layout)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return float(value.item())

    return step


def compare(name: str, batch: int, pairs: int) -> Ratio:
    """Against PyTorch's better memory format: the one with the smaller ratio."""
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch, 28, 28, 1)).astype(np.float32)
    labels = generator.integers(0, 10, batch)
    ours = our_step(name, images, labels)
    layouts = (torch.contiguous_format, torch.channels_last)
    return min(
        (paired(ours, torch_step(name, images, labels, layout), pairs) for layout in layouts), key=lambda r: r.ratio
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--at-least", nargs="*", default=[], metavar="MODEL=RATIO")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nc.set_num_threads(options.threads)
    wanted = {name: float(figure) for name, figure in (item.split("=") for item in options.at_least)}
    missed = False
    print(f"training step, {options.threads} threads, PyTorch {torch.__version__} in its better memory format")
    for name in TWINS:
        for batch in options.batch:
            result = compare(name, batch, options.pairs)
            short = result.low < wanted.get(name, 0)
            missed |= short
            print(f"{name:12s} batch {batch:4d}: {result}{'  BELOW ' + str(wanted[name]) if short else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
