"""Train a recipe, and its twin in PyTorch from the same weights, on the same batches, with the same optimizer.

    python benchmarks/recipes.py mnist-fast [--data DIR] [--seeds 10] [--peer-seeds 3] [--model NAME] [--epochs N]

Trains as ``numbacnn train --recipe NAME`` does, with seeds 0, 1, …, and prints for each run the accuracy on the test
set after the last epoch and the seconds of training, which include loading, augmentation and normalization on both
sides. An epoch of one batch on each side comes first, so that compilation is not timed. Both sides use our DataLoader
and augmentation; PyTorch runs in channels-last with its fused optimizer. Recipes that average weights or predictions,
clip gradients, or use another optimizer than SGD, Adam and AdamW have no twin.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

import numbacnn as nc
from numbacnn.bench.torch_twin import FORMATS, Twin
from numbacnn.data import DataLoader, Dataset
from numbacnn.data.augment import Augmenter, get_augmentation
from numbacnn.runs.settings import RECIPES, Settings, read_config
from numbacnn.saving.pretrained import state_dict

Side = Callable[[Settings, Dataset, Dataset, int], tuple[float, float]]
LAYOUT = FORMATS["channels_last"]
BATCH = 500  # to evaluate the twin
TWINS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_model(settings: Settings, train: Dataset, seed: int) -> nc.Model:
    return nc.models.make(settings.model, input_shape=train.images.shape[1:], classes=len(train.classes), seed=seed)


def ours(settings: Settings, train: Dataset, test: Dataset, seed: int) -> tuple[float, float]:
    """Return accuracy and seconds of training."""
    model = make_model(settings, train, seed)
    start = time.perf_counter()
    model.fit(
        train,
        loss=nc.losses.CrossEntropy(settings.label_smoothing or 0.0),
        optimizer=settings.make_optimizer(),
        schedule=settings.make_schedule(),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        augment=settings.augment,
        ema=settings.ema,
        seed=seed,
    )
    seconds = time.perf_counter() - start
    return model.evaluate(test, tta=settings.tta)["accuracy"], seconds


def twin(settings: Settings, train: Dataset, test: Dataset, seed: int) -> tuple[float, float]:
    """Return the same of the twin in PyTorch."""
    model = make_model(settings, train, seed)
    network = Twin(model.graph, state_dict(model.graph, model.store), LAYOUT, training=True)
    optimizer = _optimizer(settings, network.parameters)
    schedule, steps = settings.make_schedule(), settings.epochs * -(-len(train) // settings.batch_size)
    start = time.perf_counter()
    for step, (images, labels) in enumerate(_batches(settings, train, seed)):
        optimizer.param_groups[0]["lr"] = settings.lr * schedule(step, steps)
        optimizer.zero_grad()
        y = network(_channels_first(images, train))[0]
        F.cross_entropy(y, torch.from_numpy(labels), label_smoothing=settings.label_smoothing or 0.0).backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    arrays = {name: tensor.detach().numpy() for name, tensor in network.tensors.items()}
    return _accuracy(Twin(model.graph, arrays, LAYOUT, training=False), train, test), seconds


def _optimizer(settings: Settings, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    options = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=settings.nesterov, **options)
    return TWINS[settings.optimizer](parameters, betas=settings.make_optimizer().betas, **options)


def _batches(settings: Settings, train: Dataset, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Iterate over the augmented batches of a training."""
    chain = get_augmentation(settings.augment)
    augmenter = Augmenter(chain, train, len(train.classes)) if chain else None
    loader = DataLoader(train, settings.batch_size, seed=seed)
    for epoch in range(settings.epochs):
        for batch in loader.epoch(epoch):
            if augmenter is None:
                yield batch.images, batch.labels
            else:
                yield augmenter(batch.images, batch.labels, batch.indices, seed=seed, epoch=epoch)


def _channels_first(images: np.ndarray, train: Dataset) -> torch.Tensor:
    x = (torch.from_numpy(images).float() / 255 - torch.tensor(train.mean)) / torch.tensor(train.std)
    return x.reshape(*images.shape[:3], -1).permute(0, 3, 1, 2).contiguous(memory_format=LAYOUT)


@torch.no_grad()
def _accuracy(network: Twin, train: Dataset, test: Dataset) -> float:
    correct = 0
    for first in range(0, len(test), BATCH):
        y = network(_channels_first(test.images[first : first + BATCH], train))[0]
        correct += int((y.argmax(1).numpy() == test.labels[first : first + BATCH]).sum())
    return correct / len(test)


def summary(name: str, runs: list[tuple[float, float]]) -> str:
    accuracies, seconds = zip(*runs, strict=True)
    spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
    return (
        f"{name}: {statistics.mean(accuracies):.2%} ± {spread:.2%}, "
        f"{statistics.mean(seconds):.2f} s of training, over {len(runs)} seeds"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(RECIPES))
    for name in ("data", "model", "augment"):
        parser.add_argument(f"--{name}")
    for name in ("epochs", "batch-size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peer-seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--held-out", type=int, default=0, help="evaluate on this many images of the training set instead"
    )
    options = parser.parse_args()
    nc.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    changed = {name: getattr(options, name) for name in ("data", "model", "augment", "epochs", "batch_size", "lr")}
    recipe = read_config(RECIPES[options.recipe])
    settings = Settings.resolve(recipe | {name: value for name, value in changed.items() if value is not None})
    train, _, test = settings.load_data()
    part = "the test set"
    if options.held_out:
        part = "images held out of the training set"
        train, test = train.split(options.held_out / len(train), seed=0)
    elif settings.validation:
        train, _ = train.split(settings.validation, seed=0)
    part_of = f"{settings.epochs} epochs, evaluated on {len(test):,} of {part}"
    print(f"{options.recipe}: {settings.model} on {len(train):,} images, {part_of}", flush=True)
    sides: dict[str, Side] = {"numbacnn": ours}
    if options.peer_seeds and settings.optimizer in TWINS and not (settings.ema or settings.clip_norm or settings.tta):
        sides["PyTorch"] = twin
    warm = Dataset(train.images[: settings.batch_size], train.labels[: settings.batch_size], train.classes)
    for run in sides.values():
        run(replace(settings, epochs=1), warm, warm, 0)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for seed in range(options.seeds):
        for name in [*sides][:: 1 if seed % 2 else -1]:  # the sides take turns to be first
            if name == "PyTorch" and seed >= options.peer_seeds:
                continue
            found[name].append(sides[name](settings, train, test, seed))
            accuracy, seconds = found[name][-1]
            print(f"  {name}, seed {seed}: {accuracy:.2%}, {seconds:.2f} s", flush=True)
    for name, runs in found.items():
        print(summary(name, runs))
    if "PyTorch" in found:
        ratios = [theirs[1] / own[1] for own, theirs in zip(found["numbacnn"], found["PyTorch"], strict=False)]
        print(f"PyTorch takes {statistics.geometric_mean(ratios):.2f} times as long (geometric mean over seeds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
