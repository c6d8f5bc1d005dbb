"""Data sets from a folder of images with masks, or with boxes in a CSV file."""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief, choose
from numbacnn.data.dataset import Dataset
from numbacnn.data.images import image_size, is_grey, read_image, read_mask, resize_nearest
from numbacnn.data.labels import MASKS
from numbacnn.detection import pack
from numbacnn.errors import ArgumentError, DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
COLUMNS = ("image", "x0", "y0", "x1", "y1", "class")
LAYOUTS = {
    True: "give images/NAME.png (or .jpg) and masks/NAME.png, the number of its class in each pixel",
    False: f"give images/*.png|jpg|jpeg and boxes.csv, its first line {','.join(COLUMNS)}",
}
ELSEWHERE = "; or such in train/ and test/; names of the classes in classes.txt, a line each, if you like"
MOST_NAMES = 1 << 16  # bytes of classes.txt

Size = tuple[int, int]
Mask = NDArray[np.uint8 | np.int64]


@dataclass
class _SplitFiles:
    """The training or the test part: image files, and what lies beside them."""

    folder: Path
    files: list[Path]
    masks: list[Mask] = field(default_factory=list)
    boxes: list[list[tuple[list[float], str, str]]] = field(default_factory=list)  # edges, class, and where it stands


def load_annotated(
    path: str | os.PathLike[str], labels: str, size: Size | None = None
) -> tuple[Dataset, Dataset | None]:
    """The training part of a folder and its test part, or None if it has none. labels: "masks" or "boxes".

    ``images/NAME.png`` (or jpg) with ``masks/NAME.png``, 8-bit or 16-bit grey or with a palette, the number of its
    class in each pixel; or with ``boxes.csv``, a line ``image,x0,y0,x1,y1,class`` for each box. All in the folder
    itself, or in its ``train`` and ``test`` (else ``val``). ``classes.txt`` has the names of the classes, a line each;
    without it, masks have the numbers up to the largest (255 beside nothing but 0 is class 1), boxes the names that
    occur. All images are brought to ``size``, height and width, by default that of the first, masks and boxes too.

    Raises:
        DataError: the layout is another, a file is damaged, or what lies beside an image does not fit it.
    """
    root, with_masks = Path(path), labels == MASKS
    parts = [_part(folder, with_masks) for folder in _part_folders(root, with_masks)]
    names = _class_names(root)
    files = [file for part in parts for file in part.files]
    shape = (*(size or image_size(files[0])), 1 if all(map(is_grey, files)) else 3)
    if with_masks:
        for part in parts:
            part.masks = [_mask(part, file, shape[:2]) for file in part.files]
        names, note = _mask_classes([mask for part in parts for mask in part.masks], names)
    else:
        for part in parts:
            part.boxes = _read_boxes(part)
        occurring = {name for part in parts for rows in part.boxes for _, name, _ in rows}
        names, note = names or sorted(occurring, key=_by_number), None
    sets = [_dataset(part, names, shape, with_masks, [note] if note else []) for part in parts]
    return sets[0], sets[1] if len(sets) > 1 else None


def _part_folders(root: Path, with_masks: bool) -> list[Path]:
    for train in (root / "train", root):
        if (train / "images").is_dir():
            test = [root / name for name in ("test", "val") if train != root and (root / name / "images").is_dir()]
            return [train, *test[:1]]
    problem = "no images/ in this folder" if root.is_dir() else "no such folder"
    raise DataError(f"{root}: {problem}; {LAYOUTS[with_masks]}{ELSEWHERE}")


def _part(folder: Path, with_masks: bool) -> _SplitFiles:
    beside = folder / ("masks" if with_masks else "boxes.csv")
    if not beside.exists():
        raise DataError(f"{folder}: no {beside.name} beside images/; {LAYOUTS[with_masks]}")
    images = sorted((folder / "images").iterdir())
    files = [file for file in images if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    if not files:
        raise DataError(f"{folder / 'images'}: holds no image; {LAYOUTS[with_masks]}")
    return _SplitFiles(folder, files)


def _class_names(root: Path) -> list[str]:
    file = root / "classes.txt"
    if not file.is_file():
        return []
    try:
        with file.open("rb") as stream:
            names = [line.strip() for line in stream.read(MOST_NAMES).decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{file}: not text in UTF-8") from None
    names = [name for name in names if name]
    if not names or len(set(names)) != len(names):
        raise DataError(f"{file}: give the name of each class once, a line each")
    return names


# -- masks ------------------------------------------------------------------------------------------------------------


def _mask(part: _SplitFiles, image: Path, size: Size) -> Mask:
    """The mask of an image, brought to ``size`` at once: the files may be far larger."""
    file = part.folder / "masks" / f"{image.stem}.png"
    if not file.is_file():
        raise DataError(f"{image}: has no mask; give {file}")
    mask = read_mask(file)
    own = image_size(image)
    if mask.shape != own:
        raise DataError(f"{file}: {_by(mask.shape)}, but its image {image} is {_by(own)}; give both one size")
    return resize_nearest(mask, size)


def _mask_classes(masks: Sequence[Mask], names: list[str]) -> tuple[list[str], str | None]:
    """Names of the classes; in masks of 0 and 255 alone, 255 becomes 1, and a note says so."""
    two = all(np.isin(mask, (0, 255)).all() for mask in masks)
    if two and any(mask.any() for mask in masks) and len(names) < 256:
        for mask in masks:
            mask[mask == 255] = 1
        return names or ["0", "1"], "masks hold 0 and 255 alone: 255 is taken as class 1"
    if names:
        return names, None
    largest = max(int(mask.max()) for mask in masks)
    return [str(number) for number in range(largest + 1)], None


# -- boxes ------------------------------------------------------------------------------------------------------------


def _read_boxes(part: _SplitFiles) -> list[list[tuple[list[float], str, str]]]:
    """Of each image file the edges of its boxes, in its own pixels, their classes, and where they stand."""
    file = part.folder / "boxes.csv"
    places = {image.name: number for number, image in enumerate(part.files)}
    sizes: dict[str, Size] = {}
    found: list[list[tuple[list[float], str, str]]] = [[] for _ in part.files]
    for number, (name, *texts, label) in _rows(file):
        where = f"{file}, line {number}"
        if name not in places:
            raise DataError(f"{where}: there is no image {name!r} in {file.parent / 'images'}")
        if name not in sizes:
            sizes[name] = image_size(part.files[places[name]])
        if not label:
            raise DataError(f"{where}: the class is empty")
        found[places[name]].append((_edges(texts, sizes[name], where), label, where))
    return found


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, in the order of ``COLUMNS``."""
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


def _edges(texts: Sequence[str], size: Size, where: str) -> list[float]:
    try:
        x0, y0, x1, y1 = edges = list(map(float, texts))
    except ValueError:
        raise DataError(f"{where}: {', '.join(map(repr, texts))} are not four numbers") from None
    height, width = size
    told = ", ".join(texts)
    if not all(map(math.isfinite, edges)):
        raise DataError(f"{where}: box ({told}) is not finite")
    if not (0 <= x0 <= width and 0 <= y0 <= height and 0 <= x1 <= width and 0 <= y1 <= height):
        raise DataError(f"{where}: box ({told}) reaches outside its image of {height}×{width}")
    if x0 >= x1 or y0 >= y1:
        raise DataError(f"{where}: box ({told}) is empty; give x0 < x1 and y0 < y1")
    return edges


def _by_number(name: str) -> tuple[bool, int, str]:
    """Numbers in their order, then other names in theirs."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


# -- both -------------------------------------------------------------------------------------------------------------


def _dataset(
    part: _SplitFiles, names: Sequence[str], shape: tuple[int, int, int], with_masks: bool, notes: list[str]
) -> Dataset:
    height, width, _ = shape
    try:
        images = np.empty((len(part.files), *shape), np.uint8)
    except MemoryError:
        raise DataError(f"{len(part.files)} images of {_by(shape)} do not fit in memory; give a smaller size") from None
    dtype = np.uint8 if len(names) <= 256 else np.int64
    rows, masks = [], np.zeros((len(part.files), height, width) if with_masks else 0, dtype)
    numbers, scaled = {name: number for number, name in enumerate(names)}, 0
    for i, file in enumerate(part.files):
        images[i], note = read_image(file, *shape)
        scaled += note is not None
        if with_masks:
            _check_classes(part, file, part.masks[i], names)
            masks[i] = part.masks[i]
        else:
            rows.append(_scaled(part.boxes[i], image_size(file), (height, width), numbers))
    if scaled:
        what = "masks" if with_masks else "boxes"
        notes.append(f"{scaled} of {len(images)} images scaled to {height}×{width}, and their {what}")
    return Dataset.from_arrays(images, masks if with_masks else pack(rows), names, notes)


def _check_classes(part: _SplitFiles, image: Path, mask: Mask, names: Sequence[str]) -> None:
    if mask.max() >= len(names):
        file = part.folder / "masks" / f"{image.stem}.png"
        raise DataError(f"{file}: holds class {mask.max()}; the {len(names)} classes go from 0 to {len(names) - 1}")


def _scaled(
    boxes: Sequence[tuple[list[float], str, str]], old: Size, new: Size, numbers: dict[str, int]
) -> NDArray[np.float32]:
    """Boxes (k, 5) in an image of another size."""
    rows = []
    for edges, name, where in boxes:
        try:
            label = choose("class", name, numbers)
        except ArgumentError as error:
            raise DataError(f"{where}: {brief(error)}") from None
        factors = (new[1] / old[1], new[0] / old[0]) * 2
        rows.append([*(edge * factor for edge, factor in zip(edges, factors, strict=True)), label])
    return np.array(rows, np.float32).reshape(-1, 5)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
