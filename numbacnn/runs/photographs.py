"""Defaults of a training on a folder of photographs: image size, network, batch size and epochs."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from numbacnn import data as data_sets
from numbacnn.data.folder import Survey, fingerprint, survey
from numbacnn.tasks import TASKS, Classification, Regression, Tagging

LARGEST_SIDE = 64
"""Longer side of the largest images that are not photographs; for them, LeNet-5 and the size of the first do."""
WHOLE = (Classification.name, Tagging.name, Regression.name)  # tasks with a label for a whole image
SIZES = dict.fromkeys(WHOLE, (224, 8))  # longer side that photographs are scaled to, and what sides are multiples of
OTHER_SIZE = (128, 16)  # networks with an output for each position take more memory, and halve the image four times
SAME_ASPECT = 1.1  # largest ratio of aspect ratios that stretching may even out
STEPS, MIN_EPOCHS, MAX_EPOCHS = 100, 10, 20
MIN_BATCH, MAX_BATCH, BATCHES = 4, 16, 5  # at least as many batches to an epoch, if there are enough images


def photograph_defaults(data: str, task: str) -> Mapping[str, Any]:
    """Return the settings that a folder of photographs has by default; none for other data."""
    if data in data_sets.NAMES or not Path(data).is_dir():
        return {}
    return _defaults(str(Path(data).resolve()), task, fingerprint(data))


def describe_defaults(options: Mapping[str, Any], data: str, task: str) -> str | None:
    """Return one line on the defaults of photographs that were used, unlike ``options``; None if there are none."""
    found = photograph_defaults(data, task)
    used = [f"--{name.replace('_', '-')} {value}" for name, value in found.items() if options.get(name) is None]
    return f"for photographs, the defaults are {' '.join(used)}" if used else None


@lru_cache(maxsize=8)
def _defaults(data: str, task: str, content: int) -> Mapping[str, Any]:
    """Return the defaults for a folder. ``content``, a fingerprint of its files, is part of the key of the cache."""
    found = survey(data, TASKS[task].labels)
    if found is None or median(map(max, found.sizes)) <= LARGEST_SIDE:
        return {}
    chosen = _input_size(found, *SIZES.get(task, OTHER_SIZE), task)
    if task in WHOLE:
        batch = MIN_BATCH
        while batch < MAX_BATCH and found.training_images >= 2 * batch * BATCHES:
            batch *= 2
        epochs = min(max(-(-STEPS * batch // found.training_images), MIN_EPOCHS), MAX_EPOCHS)
        chosen |= {"model": "resnet18_small", "batch_size": batch, "epochs": epochs}
    return chosen


def _input_size(found: Survey, side: int, multiple: int, task: str) -> dict[str, Any]:
    """Return the size, the common one if it is small enough, and how images of other aspect ratios are fitted."""
    if len(set(found.sizes)) == 1 and max(found.sizes[0]) <= side:
        return {}
    aspects = sorted(width / height for height, width in found.sizes)
    side = min(side, int(median(map(max, found.sizes))))
    if aspects[-1] <= SAME_ASPECT * aspects[0]:
        aspect = median(aspects)
        sides = (side / max(aspect, 1), side * min(aspect, 1))
        height, width = (max(1, round(each / multiple)) * multiple for each in sides)
        return {"size": f"{height}x{width}"}
    side = max(1, round(side / multiple)) * multiple
    return {"size": f"{side}x{side}", "fit": "crop" if task in WHOLE else "letterbox"}
