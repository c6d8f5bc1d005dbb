"""Train a segmentation model or a detector, and its twin in PyTorch, on the same scenes from the same weights.

    python benchmarks/tasks.py segment|detect [--data digits] [--scenes N] [--epochs N] [--no-twin] [--smoke]

Trains as ``numbacnn train --task …`` does, and prints the scores of each side on the test scenes and its seconds of
training, including compilation. The exit status is 1 if ours misses ``TARGETS``, unless ``--smoke`` is given.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

import numbacnn as nc
from numbacnn.data import DataLoader, Dataset
from numbacnn.engine.device import get_device
from numbacnn.runs.settings import Settings
from numbacnn.tasks import Task, task_of
from numbacnn.tasks.detection import BOX_NUMBERS, DetectionLoss, encode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))
from zoo_twins import GridDetector, UNet


class Target(NamedTuple):
    """Minimum score, maximum seconds, and how far the score may be below the twin's."""

    score: float
    seconds: float
    margin: float


TARGETS = {"segment": Target(0.85, 300, 0.01), "detect": Target(0.85, 600, 0.02)}
BATCH = 100  # to evaluate the twin


def ours(settings: Settings, model: nc.Model, train: Dataset, test: Dataset) -> tuple[dict[str, float], float]:
    start = time.perf_counter()
    model.fit(
        train,
        optimizer=settings.make_optimizer(),
        schedule=settings.make_schedule(),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    return model.evaluate(test), time.perf_counter() - start


def twin(
    settings: Settings, weights: dict[str, np.ndarray], train: Dataset, test: Dataset
) -> tuple[dict[str, float], float]:
    classes, task = len(train.classes), task_of(settings.task, train.images.shape[1:])
    network = UNet(3, 16, classes) if settings.task == "segment" else GridDetector(outputs=task.outputs(classes))
    arrays = {name: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array for name, array in weights.items()}
    state = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}
    missing = network.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all("running" in name or "num_batches" in name for name in missing.missing_keys)
    start = time.perf_counter()
    _train(settings, network, train, task)
    return _evaluate(network, train, test, task), time.perf_counter() - start


def _train(settings: Settings, network: torch.nn.Module, train: Dataset, task: Task) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule, batches = settings.make_schedule(), DataLoader(train, settings.batch_size, seed=settings.seed)
    steps, step = settings.epochs * len(batches), 0
    for epoch in range(settings.epochs):
        for batch in batches.epoch(epoch):
            optimizer.param_groups[0]["lr"] = settings.lr * schedule(step, steps)
            optimizer.zero_grad()
            _loss(network(_channels_first(batch.images, train)), batch.labels, task).backward()
            optimizer.step()
            step += 1


def _channels_first(images: np.ndarray, train: Dataset) -> torch.Tensor:
    x = (images.astype(np.float32) / 255 - train.mean) / train.std
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 3, 1)))


def _loss(y: torch.Tensor, labels: np.ndarray, task: Task) -> torch.Tensor:
    if task.name == "segment":
        return F.cross_entropy(y, torch.from_numpy(labels.astype(np.int64)))
    loss = task.loss(y.shape[1], None)
    assert isinstance(loss, DetectionLoss)
    target = torch.from_numpy(encode(labels, tuple(y.shape[2:]), loss.size))
    y, present = y.permute(0, 2, 3, 1), target[..., 0] > 0
    cells, wanted = y[present], target[present]
    total = F.binary_cross_entropy_with_logits(y[..., 0], target[..., 0], reduction="sum")
    box = F.smooth_l1_loss(cells[:, 1:BOX_NUMBERS], wanted[:, 1:BOX_NUMBERS], reduction="sum", beta=loss.beta)
    named = F.cross_entropy(cells[:, BOX_NUMBERS:], wanted[:, BOX_NUMBERS].long(), reduction="sum")
    return (total + loss.box_weight * box + named) / len(y)


@torch.no_grad()
def _evaluate(network: torch.nn.Module, train: Dataset, test: Dataset, task: Task) -> dict[str, float]:
    network.eval()
    metrics = None
    for first in range(0, len(test), BATCH):
        y = network(_channels_first(test.images[first : first + BATCH], train)).permute(0, 2, 3, 1)
        metrics = metrics or task.metrics(task.loss(y.shape[-1], None), get_device("cpu"))
        metrics.add(np.ascontiguousarray(y.numpy()), test.labels[first : first + BATCH])
    assert metrics is not None
    return metrics.results()


def formatted(found: dict[str, float], seconds: float) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items()) + f", {seconds:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TARGETS))
    parser.add_argument("--data", default="digits")
    parser.add_argument("--scenes", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-twin", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    nc.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    settings = Settings.resolve({name: getattr(options, name) for name in ("task", "data", "scenes", "epochs")})
    train, _, test = settings.load_data()
    print(
        f"{settings.task}: {len(train):,} scenes of {options.data}, {settings.epochs} epochs, {options.threads} threads"
    )
    model = nc.models.make(settings.model, input_shape=train.images.shape[1:], classes=len(train.classes), seed=0)
    weights = {name: np.array(array) for name, array in model.parameters.items()}
    target, score = TARGETS[settings.task], task_of(settings.task, model.input_shape).score
    found, seconds = ours(settings, model, train, test)
    print(f"ours     {formatted(found, seconds)}", flush=True)
    missed = found[score] < target.score or seconds > target.seconds
    if not options.no_twin:
        theirs, their_seconds = twin(settings, weights, train, test)
        print(f"PyTorch  {formatted(theirs, their_seconds)}")
        missed |= found[score] < theirs[score] - target.margin
    print(f"{'MISSED' if missed else 'reached'}: {score} ≥ {target.score}, ≤ {target.seconds:.0f} s", end="")
    print("" if options.no_twin else f", at most {target.margin} below PyTorch's")
    return int(missed and not options.smoke)


if __name__ == "__main__":
    sys.exit(main())
