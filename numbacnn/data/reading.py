"""Data sets from the files that a layout lists: their pixels in one size, with classes, masks or boxes."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief, choose, format_shape
from numbacnn.data.dataset import Dataset
from numbacnn.data.depth import DEEP_MODES, FLOAT_MODE, Levels
from numbacnn.data.fitting import Placement
from numbacnn.data.images import (
    MaskFile,
    image_levels,
    image_mode,
    image_size,
    is_gray,
    read_image,
    read_mask_file,
)
from numbacnn.data.labels import BOXES, CLASSES, MASKS, TAGS, VALUES, Labels, may_exceed
from numbacnn.data.listing import Box, Listing, Sample, by_number
from numbacnn.data.masks import Encoded, encode
from numbacnn.data.outlines import OutlinedMask
from numbacnn.data.store import empty_images
from numbacnn.detection import RaggedBoxes
from numbacnn.errors import ArgumentError, DataError

T = TypeVar("T")
F = TypeVar("F", bound="Path | OutlinedMask")
Mask: TypeAlias = Path | OutlinedMask
Size = tuple[int, int]
_NAMED = 10  # damaged files that an error names
_VISIBLE = 0.25  # of a box's area, which a crop has to leave


class Splits(NamedTuple):
    """The splits of a data set; None if a folder has no such split."""

    train: Dataset | None
    validation: Dataset | None
    test: Dataset | None


class ReadOptions(NamedTuple):
    """Options for reading image files.

    Attributes:
        size: height and width, by default those of the first image.
        channels: 1 or 3, by default 1 if all images are gray.
        skip_damaged: whether damaged files are left out, with a note.
        white: the number that is white in gray images of more than 8 bits, by default that of all of them together.
        ignore_index: the value in masks that does not count, by default 255 next to class numbers.
        fit: one of ``fitting.FITS``, for images of another aspect ratio.
        cache: one of ``store.CACHES``: where decoded images are kept.
    """

    size: Size | None = None
    channels: int | None = None
    skip_damaged: bool = False
    white: float | None = None
    ignore_index: int | None = None
    fit: str = "stretch"
    cache: str = "auto"


class Reader:
    """Reads the files of a listing with the same options, and collects those that are damaged."""

    def __init__(self, listing: Listing, kind: str, options: ReadOptions) -> None:
        self.listing, self.kind, self.options = listing, kind, options
        self.damaged: dict[Mask, str] = {}
        self.notes = list(listing.notes)

    def read(self) -> Splits:
        """Return the data sets.

        Raises:
            DataError: files are damaged, unless ``skip_damaged``, or labels do not fit the images.
        """
        splits = {split: self.listing.splits[split] for split in Splits._fields if split in self.listing.splits}
        files = [sample.image for samples in splits.values() for sample in samples]
        self.sizes = self._each(image_size, files)
        modes = self._each(image_mode, [file for file in files if file in self.sizes])
        self.shape = self._common_shape(files, list(modes.values()))
        self.white = self._white({file: mode for file, mode in modes.items() if mode in DEEP_MODES})
        pixels = {split: self._read_images(samples) for split, samples in splits.items()}
        masks = self._read_masks([sample for samples in splits.values() for sample in samples])
        self._check_damaged(len(files))
        encoded = self._encode(masks)
        found = {}
        for split, samples in splits.items():
            images, scaled = pixels[split]
            kept = [index for index, sample in enumerate(samples) if self._is_intact(sample)]
            if not kept:
                raise DataError(f"every image of the {split} set is damaged, such as {samples[0].image}")
            labels = self._labels([samples[index] for index in kept], encoded, masks)
            images = images if len(kept) == len(samples) else images[kept]
            notes = [*self.notes, *self._scaled(scaled, len(kept))]
            if self.kind in (TAGS, VALUES):  # rows that are tags even if each has one, with names also for numbers
                dataset = Dataset(images, labels, tuple(encoded.classes), tuple(notes))
            else:
                dataset = Dataset.from_arrays(images, labels, encoded.classes, notes, encoded.ignore_index)
            found[split] = replace(dataset, white=self.white, fit=self.options.fit)
            self.notes = []
        return Splits(*map(found.get, Splits._fields))

    def _each(self, read: Callable[[F], T], files: Sequence[F]) -> dict[F, T]:
        """Map files to what ``read`` returns; files for which it raises DataError are damaged."""

        def attempt(file: F) -> tuple[F, T | DataError]:
            try:
                return file, read(file)
            except DataError as error:
                return file, error

        found = {}
        with ThreadPoolExecutor() as threads:  # decoding releases the interpreter's lock
            for file, result in threads.map(attempt, [file for file in files if file not in self.damaged]):
                if isinstance(result, DataError):
                    self.damaged[file] = str(result).removeprefix(f"{file}: ")
                else:
                    found[file] = result
        return found

    def _common_shape(self, files: Sequence[Path], modes: Sequence[str]) -> tuple[int, int, int]:
        """Return the shape to read images in: by default the first one's size, and 1 channel if all are gray."""
        intact = [file for file in files if file in self.sizes]
        if not intact:
            self._check_damaged(len(files), may_skip=False)
        channels = self.options.channels or (1 if all(map(is_gray, modes)) else 3)
        return *(self.options.size or self.sizes[intact[0]]), channels

    def _white(self, deep: dict[Path, str]) -> float | None:
        """Return the number that is white in gray images of more than 8 bits; None if there are none."""
        if self.options.white is not None or not deep:
            return self.options.white
        first = f"{next(iter(deep))} and {len(deep) - 1:,} other images of more than 8 bits"
        if len({mode == FLOAT_MODE for mode in deep.values()}) > 1:
            raise DataError(f"{first}: some hold floats, some integers; convert them to one of these")
        levels = Levels.union(self._each(image_levels, list(deep)).values() or [Levels(0, 1, False)])
        try:
            white = levels.white
        except DataError as error:
            raise DataError(f"{first}: {error}") from None
        scale = f"reach {levels.high:g}: read as 0 to {white:g}, and reduced to 8 bits"
        self.notes.append(f"{len(deep):,} gray images of more than 8 bits {scale}")
        return white

    def _is_intact(self, sample: Sample) -> bool:
        return sample.image not in self.damaged and sample.mask not in self.damaged

    def _check_damaged(self, count: int, may_skip: bool = True) -> None:
        """Raise DataError that names the damaged files, or note them with ``skip_damaged``."""
        if not self.damaged:
            return
        shown = [f"{file}: {problem}" for file, problem in list(self.damaged.items())[:_NAMED]]
        if len(self.damaged) > _NAMED:
            shown.append(f"and {len(self.damaged) - _NAMED:,} more")
        files = f"{len(self.damaged):,} damaged {'file' if len(self.damaged) == 1 else 'files'} for {count:,} images"
        if not (self.options.skip_damaged and may_skip):
            raise DataError(f"{files}: {'; '.join(shown)}; repair or delete them, or add --skip-damaged (skip_damaged)")
        self.notes.append(f"{files}, skipped: {'; '.join(shown)}")

    def _read_images(self, samples: Sequence[Sample]) -> tuple[NDArray[np.uint8], int]:
        """Read images as one array, and count how many had to be scaled."""
        images = empty_images((len(samples), *self.shape), self.options.cache)
        rows: dict[Path, list[int]] = {}  # several if annotations list an image again
        for index, sample in enumerate(samples):
            rows.setdefault(sample.image, []).append(index)

        def read(file: Path) -> bool:
            pixels, note = read_image(file, *self.shape, white=self.white, fit=self.options.fit)
            for row in rows[file]:
                images[row] = pixels
            return note is not None

        return images, sum(self._each(read, list(rows)).values())

    def _scaled(self, scaled: int, count: int) -> list[str]:
        if not scaled:
            return []
        size = format_shape(self.shape[:2])
        whose = "" if self.options.size else ", the size of the first"
        if self.kind in (MASKS, BOXES):
            whose = f", and their {self.kind}"
        return [f"{scaled} of {count} images scaled to {size}{whose}"]

    def _encode(self, masks: dict[Mask, MaskFile]) -> Encoded:
        """Return the names of the classes in the order of their numbers; of masks, also these as numbers."""
        if self.kind == MASKS:
            encoded = encode(masks, self.listing.classes, self.listing.colors, self.options.ignore_index)
            self.notes += encoded.notes
            return encoded
        samples = [sample for split in self.listing.splits.values() for sample in split]
        labels = {box.label for sample in samples for box in sample.boxes} - {""}
        return Encoded([], list(self.listing.classes) or sorted(labels, key=by_number))

    def _labels(self, samples: Sequence[Sample], encoded: Encoded, masks: dict[Mask, MaskFile]) -> Labels:
        """Return the labels of samples as a data set has them."""
        if self.kind == MASKS:
            rows = {file: row for row, file in enumerate(masks)}
            dtype = np.uint8 if len(encoded.classes) <= 256 and encoded.ignore_index != -1 else np.int64
            return np.stack([encoded.masks[rows[one.mask]] for one in samples if one.mask]).astype(dtype, copy=False)
        numbers = {name: number for number, name in enumerate(encoded.classes)}
        if self.kind == CLASSES:
            return np.array([numbers[sample.label] for sample in samples], np.int64)
        if self.kind in (TAGS, VALUES):
            rows_of = [sample.numbers for sample in samples]
            return np.array(rows_of, np.uint8 if self.kind == TAGS else np.float32)
        return RaggedBoxes.of([_placed_boxes(one.boxes, self._placement(one.image), numbers) for one in samples])

    def _placement(self, image: Path) -> Placement:
        size = self.shape[:2]
        return Placement.of(self.sizes.get(image, size), size, self.options.fit)

    def _read_masks(self, samples: Sequence[Sample]) -> dict[Mask, MaskFile]:
        """Read masks, each scaled immediately: the files may be much larger."""
        images = {sample.mask: sample.image for sample in samples if sample.mask}

        def check(file: Mask, size: tuple[int, ...]) -> None:
            expected = self.sizes.get(images[file])
            if expected and size != expected:
                raise ArgumentError(
                    f"{file}: {format_shape(size)}, but its image {images[file]} is {format_shape(expected)}; "
                    "both must have the same size"
                )

        def read(file: Mask) -> MaskFile:
            if isinstance(file, OutlinedMask):
                check(file, file.size)  # before memory of this size is allocated
                mask = MaskFile(file.pixels(), "L", "PNG", None)
            else:
                mask = read_mask_file(file)
                check(file, mask.pixels.shape[:2])
            return mask._replace(pixels=self._placement(images[file]).mask(mask.pixels))

        try:
            return self._each(read, list(images))
        except ArgumentError as error:  # not damage
            raise DataError(str(error)) from None


# -- boxes ------------------------------------------------------------------------------------------------------------


def _placed_boxes(boxes: Sequence[Box], placement: Placement, numbers: dict[str, int]) -> NDArray[np.float32]:
    """Return boxes (k, 5), checked and placed; those of which a crop leaves less than a quarter are left out."""
    edges, labels = np.empty((len(boxes), 4)), np.empty(len(boxes))
    for i, box in enumerate(boxes):
        try:
            labels[i] = choose("class", box.label, numbers)
        except ArgumentError as error:
            raise DataError(f"{box.where}: {brief(error)}") from None
        edges[i] = _checked_edges(box, placement.old)
    placed = placement.boxes(edges)
    scale = np.prod(placement.inner) / np.prod(placement.old)
    visible = np.prod(placed[:, 2:] - placed[:, :2], axis=1)
    full = scale * np.prod(edges[:, 2:] - edges[:, :2], axis=1)
    kept = np.column_stack([placed, labels])[visible >= _VISIBLE * full]
    return np.asarray(kept, np.float32)


def _checked_edges(box: Box, size: Size) -> tuple[float, ...]:
    """Return the edges in pixels, cut off at the image if they exceed it by no more than rounding does."""
    height, width = size
    sides = (width, height) * 2
    edges = tuple(edge * side if box.relative else edge for edge, side in zip(box.edges, sides, strict=True))
    shown = f"{box.where}: box ({', '.join(f'{edge:.6g}' for edge in edges)})"
    if not all(map(math.isfinite, edges)):
        raise DataError(f"{shown} is not finite")
    room = may_exceed(sides)
    if any(not -most <= edge <= side + most for edge, side, most in zip(edges, sides, room, strict=True)):
        raise DataError(f"{shown} exceeds its image of {height}×{width}")
    x0, y0, x1, y1 = (min(max(edge, 0), side) for edge, side in zip(edges, sides, strict=True))
    if x0 >= x1 or y0 >= y1:
        raise DataError(f"{shown} is empty; boxes need x0 < x1 and y0 < y1")
    return x0, y0, x1, y1
