"""Augmentation: random changes of training images, determined by the seed, the epoch and the index of the image.

A chain is a list of transforms, or text: ``"rotate=10, translate=2, elastic=34:4, hflip"``. Consecutive geometric
transforms are composed and resampled once. ``apply`` augments a batch, and ``Model.fit(augment=…)`` every batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import whole
from numbacnn._checks.names import checks_call
from numbacnn.data.augmenter import Augmenter
from numbacnn.data.chain import Augmentation, Compose, get_augmentation
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.mixing import CutMix, Mixup
from numbacnn.data.transforms import (
    ColorJitter,
    Crop,
    Cutout,
    Elastic,
    Float32,
    HorizontalFlip,
    Integers,
    Noise,
    Rotate,
    Scale,
    Shear,
    Transform,
    Translate,
    VerticalFlip,
)
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError

__all__ = [
    "Augmentation",
    "Augmented",
    "Augmenter",
    "ColorJitter",
    "Compose",
    "Crop",
    "CutMix",
    "Cutout",
    "Elastic",
    "HorizontalFlip",
    "Mixup",
    "Noise",
    "Rotate",
    "Scale",
    "Shear",
    "Transform",
    "Translate",
    "VerticalFlip",
    "apply",
    "get_augmentation",
]


class Augmented(NamedTuple):
    """The result of ``apply``.

    Attributes:
        images: in the shape and the type of the argument, uint8 or float32.
        labels: as given, or probabilities (n, classes) if the chain mixes images.
        masks: moved by the geometric transforms, if given.
        boxes: moved in the same way, an array (k, 4) for each image.
    """

    images: Images
    labels: NDArray[Any] | None
    masks: NDArray[Any] | None = None
    boxes: list[Float32] | None = None


@checks_call
def apply(
    augment: Augmentation,
    images: NDArray[Any],
    labels: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    indices: ArrayLike | None = None,
    *,
    source: Dataset | None = None,
    masks: NDArray[Any] | None = None,
    boxes: Sequence[ArrayLike] | None = None,
) -> Augmented:
    """Augment a batch in the same way as ``Model.fit``.

    Args:
        augment: a ``Compose``, a sequence of transforms, or a string such as "crop=4, hflip".
        images: (n, H, W, C) or (n, H, W), uint8 or float.
        labels: (n,) class numbers; required by mixup and CutMix.
        seed: the ``seed`` of ``fit``, from 0 to 2**64 − 1.
        epoch: the number of the epoch, from 0.
        indices: (n,) positions of the images in the data set, by default 0 to n − 1. Random numbers depend on them.
        source: the data set from which mixup and CutMix draw the second image; by default the batch. They require it if
            ``indices`` are given.
        masks: (n, H, W) class numbers. Pixels that come from outside the image become 0.
        boxes: for each image, an array (k, 4) of edges x₀, y₀, x₁, y₁ in pixels. A box is replaced by the bounding box
            of all pixels that come from inside it, or by zeros if there are none.

    Raises:
        ArgumentError: a shape, type or number is invalid, or masks or boxes are passed with mixup or CutMix.
    """
    chain = get_augmentation(augment) or Compose([])
    whole(seed, "seed", 0)
    whole(epoch, "epoch", 0)
    given = np.zeros(len(images), np.int64) if labels is None else labels
    batch = Dataset.from_arrays(images, given, None if source is None else source.classes)
    numbers = _checked_indices(indices, len(batch))
    if chain.mixes:
        if labels is None or (source is None and indices is not None):
            raise ArgumentError("augment: mixup and cutmix need labels, and the whole data set with indices: source=…")
        if masks is not None or boxes is not None:
            raise ArgumentError("augment: mixup and cutmix cannot mix masks and boxes; remove them")
        source = source or batch
        if source.images.shape[1:] != batch.images.shape[1:] or source.images.dtype != batch.images.dtype:
            raise ArgumentError(
                f"augment: images are {batch.images.dtype} {batch.images.shape[1:]}, "
                f"those of source {source.images.dtype} {source.images.shape[1:]}"
            )
    augmenter = Augmenter(chain, source, len(batch.classes))
    with engine_lock:
        pixels, new_labels = augmenter(batch.images, batch.labels, numbers, seed=seed, epoch=epoch)
        moved = None if masks is None else augmenter.move_masks(_checked_masks(masks, batch.images.shape))
        edges = None if boxes is None else augmenter.move_box_lists(_checked_boxes(boxes, len(batch)))
    return Augmented(pixels.reshape(np.shape(images)), None if labels is None else new_labels, moved, edges)


def _checked_indices(indices: ArrayLike | None, n: int) -> Integers:
    numbers = np.arange(n) if indices is None else np.asarray(indices)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise ArgumentError(f"augment: indices are {numbers.dtype} of shape {numbers.shape}; pass {n} integers")
    return numbers.astype(np.int64)


def _checked_masks(masks: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if np.shape(masks) != shape[:3] or not np.issubdtype(masks.dtype, np.integer):
        raise ArgumentError(f"augment: masks are {masks.dtype} of shape {np.shape(masks)}; pass integers {shape[:3]}")
    return masks


def _checked_boxes(boxes: Sequence[ArrayLike], count: int) -> list[Float32]:
    found = [np.array(part, np.float32) for part in boxes]
    if len(found) != count:
        raise ArgumentError(f"augment: boxes of {len(found)} images for {count} images")
    for n, part in enumerate(found):
        if part.ndim != 2 or part.shape[1] != 4:
            raise ArgumentError(f"augment: boxes of image {n} have shape {part.shape}; pass (k, 4)")
    return found
