"""Data sets from a folder of images with masks, or with boxes in a CSV file."""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief, choose, format_shape
from numbacnn.data.dataset import Dataset
from numbacnn.data.images import Mask, common_shape, image_files, image_size, read_images, read_mask, resize_nearest
from numbacnn.data.labels import MASKS
from numbacnn.detection import pack
from numbacnn.errors import ArgumentError, DataError

COLUMNS = ("image", "x0", "y0", "x1", "y1", "class")
LAYOUTS = {
    True: "give images/NAME.png (or .jpg) and masks/NAME.png, whose pixels are class numbers",
    False: f"give images/*.png|jpg|jpeg and boxes.csv, whose first line is {','.join(COLUMNS)}",
}
ELSEWHERE = "; or the same in train/ and test/; classes.txt may name the classes, one per line"
MAX_NAMES = 1 << 16  # bytes of classes.txt

Size = tuple[int, int]


class _Part(NamedTuple):
    """The training or the test set: its folder and image files."""

    folder: Path
    files: list[Path]


class _Box(NamedTuple):
    """A line of boxes.csv: edges in pixels of the image file, class name, and position for error messages."""

    edges: list[float]
    label: str
    where: str


def load_annotated(
    path: str | os.PathLike[str], labels: str, size: Size | None = None
) -> tuple[Dataset, Dataset | None]:
    """Load the training set of a folder, and its test set or None if it has none.

    For masks, each ``images/NAME.png`` (or jpg) has a ``masks/NAME.png``, 8-bit or 16-bit gray or with a palette, whose
    pixels are class numbers. For boxes, ``boxes.csv`` has a line ``image,x0,y0,x1,y1,class`` for each box. These are
    in the folder itself, or in ``train`` and ``test`` (or ``val``) in it. ``classes.txt`` names the classes, one per
    line. Without it, the classes of masks are the numbers up to the largest (if there are only 0 and 255, 255 is class
    1), those of boxes the names that occur. Images, masks and boxes are scaled to one size.

    Args:
        path: the folder.
        labels: "masks" or "boxes".
        size: height and width, by default those of the first image.

    Raises:
        DataError: the layout is wrong, a file is damaged, or the annotations do not fit the images.
    """
    root, with_masks = Path(path), labels == MASKS
    parts = [_list_part(folder, with_masks) for folder in _part_folders(root, with_masks)]
    names, notes = _class_names(root), list[str]()
    shape = common_shape([file for part in parts for file in part.files], size)
    annotations: list[NDArray[np.generic]]
    if with_masks:
        masks = [[_read_mask(part, file, shape[:2]) for file in part.files] for part in parts]
        names = _mask_classes([mask for part in masks for mask in part], names, notes)
        annotations = [_stack_masks(part, found, names) for part, found in zip(parts, masks, strict=True)]
    else:
        boxes = [_read_boxes(part) for part in parts]
        names = names or sorted({box.label for part in boxes for image in part for box in image}, key=_by_number)
        numbers = {name: number for number, name in enumerate(names)}
        annotations = [
            pack(
                [_scale(box, image_size(file), shape[:2], numbers) for box, file in zip(found, part.files, strict=True)]
            )
            for part, found in zip(parts, boxes, strict=True)
        ]
    sets = [_dataset(part, found, names, shape, notes) for part, found in zip(parts, annotations, strict=True)]
    return sets[0], sets[1] if len(sets) > 1 else None


def _part_folders(root: Path, with_masks: bool) -> list[Path]:
    for train in (root / "train", root):
        if (train / "images").is_dir():
            test = [root / name for name in ("test", "val") if train != root and (root / name / "images").is_dir()]
            return [train, *test[:1]]
    problem = "no images/ in this folder" if root.is_dir() else "no such folder"
    raise DataError(f"{root}: {problem}; {LAYOUTS[with_masks]}{ELSEWHERE}")


def _list_part(folder: Path, with_masks: bool) -> _Part:
    annotations = folder / ("masks" if with_masks else "boxes.csv")
    if not annotations.exists():
        raise DataError(f"{folder}: no {annotations.name} next to images/; {LAYOUTS[with_masks]}")
    files = image_files(folder / "images")
    if not files:
        raise DataError(f"{folder / 'images'}: holds no images; {LAYOUTS[with_masks]}")
    return _Part(folder, files)


def _class_names(root: Path) -> list[str]:
    file = root / "classes.txt"
    if not file.is_file():
        return []
    try:
        with file.open("rb") as stream:
            names = [line.strip() for line in stream.read(MAX_NAMES).decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{file}: not text in UTF-8") from None
    names = [name for name in names if name]
    if not names or len(set(names)) != len(names):
        raise DataError(f"{file}: give the name of each class once, one per line")
    return names


def _dataset(
    part: _Part, labels: NDArray[np.generic], names: Sequence[str], shape: tuple[int, int, int], notes: Sequence[str]
) -> Dataset:
    images, scaled = read_images(part.files, shape)
    what = "boxes" if labels.dtype == np.float32 else "masks"
    note = f"{scaled} of {len(images)} images scaled to {shape[0]}×{shape[1]}, and their {what}"
    return Dataset.from_arrays(images, labels, names, [*notes, *([note] if scaled else [])])


# -- masks ------------------------------------------------------------------------------------------------------------


def _mask_file(part: _Part, image: Path) -> Path:
    return part.folder / "masks" / f"{image.stem}.png"


def _read_mask(part: _Part, image: Path, size: Size) -> Mask:
    """Read the mask of an image, and scale it immediately: the files may be much larger."""
    file = _mask_file(part, image)
    if not file.is_file():
        raise DataError(f"{image}: has no mask; give {file}")
    mask, expected = read_mask(file), image_size(image)
    if mask.shape != expected:
        shapes = format_shape(mask.shape), format_shape(expected)
        raise DataError(f"{file}: {shapes[0]}, but its image {image} is {shapes[1]}; give both the same size")
    return resize_nearest(mask, size)


def _mask_classes(masks: Sequence[Mask], names: list[str], notes: list[str]) -> list[str]:
    """Return the class names. If masks hold only 0 and 255, changes 255 to 1 and adds a note."""
    if all(np.isin(mask, (0, 255)).all() for mask in masks) and any(map(np.any, masks)) and len(names) < 256:
        for mask in masks:
            mask[mask == 255] = 1
        notes.append("masks hold only 0 and 255: 255 is taken as class 1")
        return names or ["0", "1"]
    return names or [str(number) for number in range(max(int(mask.max()) for mask in masks) + 1)]


def _stack_masks(part: _Part, masks: Sequence[Mask], names: Sequence[str]) -> Mask:
    for file, mask in zip(part.files, masks, strict=True):
        if mask.max() >= len(names):
            raise DataError(
                f"{_mask_file(part, file)}: holds class {mask.max()}; "
                f"the {len(names)} classes go from 0 to {len(names) - 1}"
            )
    return np.stack(masks).astype(np.uint8 if len(names) <= 256 else np.int64, copy=False)


# -- boxes ------------------------------------------------------------------------------------------------------------


def _read_boxes(part: _Part) -> list[list[_Box]]:
    """Read the boxes of each image file."""
    file = part.folder / "boxes.csv"
    indices = {image.name: index for index, image in enumerate(part.files)}
    sizes: dict[str, Size] = {}
    found: list[list[_Box]] = [[] for _ in part.files]
    for number, (name, *edges, label) in _rows(file):
        where = f"{file}, line {number}"
        if name not in indices:
            raise DataError(f"{where}: there is no image {name!r} in {file.parent / 'images'}")
        if name not in sizes:
            sizes[name] = image_size(part.files[indices[name]])
        if not label:
            raise DataError(f"{where}: the class is empty")
        found[indices[name]].append(_Box(_parse_edges(edges, sizes[name], where), label, where))
    return found


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Iterate over line numbers and cells, in the order of ``COLUMNS``."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            head = [cell.strip().lower() for cell in next(reader, [])]
            if sorted(head) != sorted(COLUMNS):
                raise DataError(f"{file}, line 1: is {','.join(head)[:60]!r}; give {','.join(COLUMNS)}")
            order = [head.index(column) for column in COLUMNS]
            for row in reader:
                if not any(map(str.strip, row)):
                    continue
                if len(row) != len(COLUMNS):
                    raise DataError(f"{file}, line {reader.line_num}: {len(row)} cells; give {','.join(COLUMNS)}")
                yield reader.line_num, [row[i].strip() for i in order]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({brief(error)})") from None


def _parse_edges(texts: Sequence[str], size: Size, where: str) -> list[float]:
    try:
        x0, y0, x1, y1 = edges = list(map(float, texts))
    except ValueError:
        raise DataError(f"{where}: {', '.join(map(repr, texts))} are not four numbers") from None
    height, width = size
    box = f"{where}: box ({', '.join(texts)})"
    if not all(map(math.isfinite, edges)):
        raise DataError(f"{box} is not finite")
    if not (0 <= x0 <= width and 0 <= y0 <= height and 0 <= x1 <= width and 0 <= y1 <= height):
        raise DataError(f"{box} exceeds its image of {height}×{width}")
    if x0 >= x1 or y0 >= y1:
        raise DataError(f"{box} is empty; give x0 < x1 and y0 < y1")
    return edges


def _by_number(name: str) -> tuple[bool, int, str]:
    """Sort numbers by value, before other names."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _scale(boxes: Sequence[_Box], old: Size, new: Size, numbers: dict[str, int]) -> NDArray[np.float32]:
    """Return boxes (k, 5), scaled to another image size."""
    factors = (new[1] / old[1], new[0] / old[0]) * 2
    rows = []
    for edges, name, where in boxes:
        try:
            label = choose("class", name, numbers)
        except ArgumentError as error:
            raise DataError(f"{where}: {brief(error)}") from None
        rows.append([*(edge * factor for edge, factor in zip(edges, factors, strict=True)), label])
    return np.array(rows, np.float32).reshape(-1, 5)
