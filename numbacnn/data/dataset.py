"""A labeled set of images in memory."""

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import format_shape, shown
from numbacnn._checks.names import AnswersAttributes, checks_arguments, checks_call
from numbacnn._checks.text import for_output
from numbacnn.data.arrays import as_array, as_features, by_input, collected
from numbacnn.data.labels import (
    CLASSES,
    VALUES,
    ClassNames,
    Labels,
    check_range,
    checked_labels,
    class_names,
    class_numbers,
    kind_of,
    numbered,
)
from numbacnn.data.store import like
from numbacnn.detection import in_blocks
from numbacnn.errors import ArgumentError, DataError

Images: TypeAlias = NDArray[np.uint8 | np.float32]

_MAX_UNNAMED_CLASSES = 1 << 16  # a larger label is a damaged number rather than a class
_SHOWN_CLASSES = 10
_ROWS = 256  # images that a subset copies at a time, as they may be on disk
_CHUNK = 1 << 20  # pixels that the statistics convert at a time


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(AnswersAttributes):
    """Images, their labels and the class names. ``Dataset.from_arrays`` makes and checks one.

    Attributes:
        images: (N, H, W, C) uint8 or float32, C-contiguous.
        labels: indices into ``classes``: one for each image, (N,) int64; or masks with one for each pixel, (N, H, W)
            uint8 or int64; or boxes (N, max_boxes, 5) float32, edges x₀, y₀, x₁, y₁ in pixels and class, with class −1
            in unused rows. Boxes that were not given as such an array are ``detection.RaggedBoxes``, which have its
            form, without memory for the unused rows.
        classes: class names.
        notes: what reading the files changed or left out, one line each, for the user.
        strokes: whether the images are light strokes on a dark background, like MNIST's digits.
        white: the pixel value that means white in gray image files of more than 8 bits; None if there were none.
        fit: how image files were resized to a common size, one of ``fitting.FITS``.
        ignore_index: the label of images or pixels that the loss and all metrics ignore; None if there is none.
        others: the further inputs of a model with several, in its order, each like ``images``, which are the first.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    strokes: bool = False
    white: float | None = None
    fit: str = "stretch"
    ignore_index: int | None = None
    others: tuple[Images, ...] = ()

    @classmethod
    @checks_arguments
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike | Sequence[ArrayLike | None],
        classes: ClassNames | None = None,
        notes: Sequence[str] = (),
        ignore_index: int | None = None,
        others: Sequence[ArrayLike] = (),
    ) -> "Dataset":
        """Check arrays and make a data set from them. Arrays of the required type and layout are not copied.

        Args:
            images: (N, H, W, C) or (N, H, W), uint8 or float, or features (N, C), any numbers; all but uint8 become
                float32.
            labels: one of
                classes: integers (N,) or (N, 1), booleans, one-hot rows (N, C), or class names as strings (N,);
                masks: integers (N, H, W);
                boxes: an array (k, 5) for each image, None or [] if it has none; or one array as in ``Dataset.labels``;
                tags: rows (N, C) of 0 and 1, one column for each class;
                targets of a regression: floats (N,) or (N, k).
            classes: class names in order, or a mapping from number to name, or from name to number; by default the
                numbers from 0 to the largest label.
            notes: remarks to keep with the data, one line each, such as files that were left out.
            ignore_index: a label that the loss and all metrics ignore, such as 255 for void pixels, or −100.
            others: the further inputs of a model with several, in its order, in the forms of ``images``.

        Raises:
            ArgumentError: a shape or type is wrong, or the numbers of images and labels differ.
            DataError: there are no images, a pixel is NaN or infinite, a label is not a class number, or a box is empty
                or outside its image.
        """
        pixels = _checked_images(as_array(images, "images"))
        labels, classes = numbered(labels, classes)
        checked = checked_labels(labels, pixels)
        if classes is None:
            largest = int(class_numbers(checked, ignore_index).max(initial=0))
            classes = [str(number) for number in range(min(max(largest + 1, 1), _MAX_UNNAMED_CLASSES))]
        names = () if kind_of(checked) == VALUES else class_names(classes)
        check_range(checked, len(names), ignore_index)
        rest = tuple(_checked_images(as_array(other, f"input {i}")) for i, other in enumerate(others, 2))
        for i, other in enumerate(rest, 2):
            if len(other) != len(pixels):
                raise ArgumentError(f"{len(pixels)} images, but {len(other)} of input {i}; pass the same number")
        return cls(pixels, checked, names, tuple(notes), ignore_index=ignore_index, others=rest)

    @classmethod
    def of(
        cls,
        data: object,
        classes: ClassNames | None = None,
        ignore_index: int | None = None,
        inputs: Sequence[str] = ("images",),
    ) -> "Dataset":
        """Return a data set as it is, or make one with ``from_arrays`` of (images, labels) or of batches of these.

        ``inputs`` are the names of a model's inputs. For several, the images are a tuple, or a mapping by name.
        """
        if isinstance(data, Dataset):
            return data
        if isinstance(data, Iterable) and not isinstance(data, tuple | str | Mapping) and not hasattr(data, "dtype"):
            data = collected(data, inputs)
        if not isinstance(data, tuple) or len(data) != 2:
            raise ArgumentError(
                f"pass a Dataset, images and labels, or batches of (images, labels), not {type(data).__name__}"
            )
        first, *others = by_input(data[0], inputs)
        return cls.from_arrays(first, data[1], classes, ignore_index=ignore_index, others=others)

    def __post_init__(self) -> None:
        if not self.classes and (isinstance(self.labels, list) or kind_of(np.asarray(self.labels)) != VALUES):
            raise ArgumentError("Dataset: use nc.data.Dataset.from_arrays(images, labels), which checks the arrays")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        images = f"{len(self):,} images {format_shape(self.images.shape[1:])} ({self.images.dtype})"
        kind = "" if self.kind == CLASSES else f"{self.kind} of " if self.classes else self.kind
        more = " …" if len(self.classes) > _SHOWN_CLASSES else ""
        names = f"{len(self.classes)} classes: {', '.join(self.classes[:_SHOWN_CLASSES])}{more}" * bool(self.classes)
        return for_output(f"Dataset of {images}, {kind}{names}")

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> tuple[Any, Any]: ...
    @overload
    def __getitem__(self, index: slice | ArrayLike) -> "Dataset": ...
    def __getitem__(self, index: int | np.integer[Any] | slice | ArrayLike) -> "tuple[Any, Any] | Dataset":
        """Return the image and the label at an index; for a slice, indices or a mask (N,), a data set of these images.

        Of several inputs, the image is a tuple.

        Raises:
            IndexError: the index is not below N.
            ArgumentError: no image is left.
        """
        if isinstance(index, int | np.integer):
            inputs = tuple(part[index] for part in self.inputs)
            return inputs if self.others else inputs[0], self.labels[index]
        chosen = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(chosen, slice) and chosen.dtype.kind not in "iub":
            raise ArgumentError(
                f"a data set has no [{shown(index)}]: pass an index, a slice, a few indices or a mask; "
                "dataset.images and dataset.labels are arrays"
            )
        return self.subset(np.arange(len(self))[chosen])

    @property
    def inputs(self) -> tuple[Images, ...]:
        """The images, and the further inputs if there are any."""
        return self.images, *self.others

    @property
    def kind(self) -> str:
        """The kind of labels: "classes", "masks", "boxes", "tags" or "values"."""
        return kind_of(self.labels)

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of each channel, (C,) float32; of uint8 images divided by 255, of float images as they are."""
        return self._moments[0]

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of each channel, (C,) float32, in the units of ``mean``; 1 for a constant channel."""
        return self._moments[1]

    @checks_arguments
    def split(self, fraction: float, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Split off a random fraction; returns (rest, held out), both in their original order.

        If the labels are classes, the fraction applies to each class. The split depends only on ``seed``.

        Raises:
            ArgumentError: ``fraction`` is not between 0 and 1 or leaves a split empty, or ``seed`` is negative.
        """
        if not isinstance(fraction, Real) or not 0 < fraction < 1 or seed < 0:
            raise ArgumentError(
                f"split: fraction {fraction}, seed {seed}; pass a fraction between 0 and 1, both excluded, "
                "and a seed of at least 0"
            )
        strata = self.labels if self.kind == CLASSES else np.zeros(len(self), np.int64)
        if self.ignore_index is not None and self.kind == CLASSES:  # images that do not count are a class of their own
            strata = np.where(strata == self.ignore_index, len(self.classes), strata)
        held_out = _stratified(strata, max(len(self.classes), int(strata.max()) + 1), fraction, seed)
        splits = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        if not all(split.size for split in splits):
            raise ArgumentError(f"split: a fraction of {fraction} of {len(self)} images leaves one split empty")
        return self.subset(splits[0]), self.subset(splits[1])

    @checks_call
    def subset(self, indices: ArrayLike) -> "Dataset":
        """Copy the images at ``indices``, in this order, to a data set with statistics of its own and no notes.

        Raises:
            ArgumentError: the indices are not a row of integers from 0 to N − 1, or there are none.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise ArgumentError(f"subset: indices are {chosen.dtype} of shape {chosen.shape}; pass a row of integers")
        if not chosen.size or chosen.min() < 0 or chosen.max() >= len(self):
            raise ArgumentError(f"subset: pass at least one index, all of them from 0 to {len(self) - 1}")
        images, *others = (_rows_of(part, chosen) for part in self.inputs)
        return replace(self, images=images, labels=self.labels[chosen], notes=(), others=tuple(others))

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        moments = _uint8_moments if self.images.dtype == np.uint8 else _float_moments
        mean, variance = moments(self.images.reshape(-1, self.images.shape[3]))
        std = np.sqrt(variance).astype(np.float32)
        std[std == 0] = 1
        return mean.astype(np.float32), std


def _rows_of(images: Images, chosen: NDArray[Any]) -> Images:
    """Copy the chosen images to an array in the same store."""
    found = like(images, len(chosen))
    for first in range(0, len(chosen), _ROWS):
        found[first : first + _ROWS] = images[chosen[first : first + _ROWS]]
    return found


def _checked_images(images: NDArray[Any]) -> Images:
    if images.ndim == 2:
        images = as_features(images)[:, np.newaxis, np.newaxis]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4:
        raise ArgumentError(f"images have shape {images.shape}; pass (N, H, W, C) or (N, H, W), or features (N, C)")
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise ArgumentError(
            f"images are {images.dtype}; pass uint8 from 0 to 255, images.astype(np.uint8), "
            "or floats, images.astype(np.float32)"
        )
    if not images.size:
        raise DataError(f"images have shape {images.shape}: they are empty")
    if images.dtype != np.uint8:
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and are rejected below
            images = images.astype(np.float32, copy=False)
        broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if broken.size:
            raise DataError(
                f"{broken.size} of {len(images)} images hold values that are NaN or infinite in float32, "
                f"the first of them image {broken[0]}; repair or drop them"
            )
    return np.ascontiguousarray(images)


def _stratified(labels: NDArray[np.int64], classes: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark ``fraction`` of the labels and, rounded, of each class: the largest remainders are rounded up."""
    shares = np.bincount(labels, minlength=classes) * fraction
    counts = np.floor(shares).astype(np.int64)
    missing = round(len(labels) * fraction) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    generator = np.random.Generator(np.random.Philox(seed))
    marked = np.zeros(len(labels), dtype=np.bool_)
    for number, count in enumerate(counts):
        marked[generator.permutation(np.flatnonzero(labels == number))[:count]] = True
    return marked


def _uint8_moments(pixels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and variance of each column of (pixels, C) uint8 / 255, from exact integer sums of a histogram."""
    histograms = np.zeros((pixels.shape[1], 256), dtype=np.int64)
    for first in range(0, len(pixels), _CHUNK):
        for channel, histogram in enumerate(histograms):
            histogram += np.bincount(pixels[first : first + _CHUNK, channel], minlength=256)
    values = np.arange(256)
    total, squares, n = histograms @ values, histograms @ values**2, len(pixels)
    # In Python's integers, as n·Σx² − (Σx)² exceeds 64 bits at about 10⁷ pixels.
    variance = [(n * int(q) - int(t) ** 2) / n**2 for t, q in zip(total, squares, strict=True)]
    return total / (255 * n), np.array(variance) / 255**2


def _float_moments(pixels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and variance of each column of (pixels, C) float32, in two passes with float64 sums."""
    chunks = [pixels[first : first + _CHUNK] for first in range(0, len(pixels), _CHUNK)]
    origin = pixels[0].astype(np.float64)  # sums of differences from it are exactly 0 in a constant channel
    mean = origin + sum((chunk - origin).sum(axis=0) for chunk in chunks) / len(pixels)
    variance = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks) / len(pixels)
    return mean, variance


def checksum(data: Dataset) -> int:
    """Return the CRC-32 of labels and inputs."""
    found = 0
    for part in itertools.chain(in_blocks(data.labels), data.inputs):
        found = zlib.crc32(np.ascontiguousarray(part).data, found)
    return found
