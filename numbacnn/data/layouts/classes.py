"""Layouts with a class for each image: folders of classes, a table of labels, names of files."""

import re
from collections import Counter
from pathlib import Path

from numbacnn.data.labels import CLASSES
from numbacnn.data.layouts.base import IMAGE_FOLDERS, Layout, part_folders
from numbacnn.data.layouts.boxes import box_columns
from numbacnn.data.layouts.masks import MASK_FOLDERS
from numbacnn.data.listing import Listing, Sample, by_number
from numbacnn.data.text import read_rows
from numbacnn.data.tree import TRAIN, Tree, part_of
from numbacnn.errors import DataError

RESERVED = {*IMAGE_FOLDERS, *MASK_FOLDERS, "segmentationobject"}  # folders in other layouts, which are not classes
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed", "diagnosis", "y")
_NAMED = re.compile(r"([^\W\d]\w*)\.\d+")  # cat.12, as in Dogs vs. Cats


class PartsOfClasses(Layout):
    """Folders ``train/CLASS``, ``val/CLASS`` and ``test/CLASS``, as in ImageNet, torchvision, fastai and Roboflow."""

    name, kind = "train/CLASS/…", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if a part has a folder of images that is not reserved."""
        return any(_has_classes(part) for part in folder.parts.values())

    def read(self, folder: Tree) -> Listing:
        """List the parts that have classes, which are those of the training set."""
        parts = {part: child for part, child in folder.parts.items() if _has_classes(child)}
        listing = Listing({part: _by_class(child) for part, child in parts.items()})
        listing.classes = _in_order(listing.parts.get(TRAIN) or next(iter(listing.parts.values())))
        known = {sample.label for sample in listing.parts.get(TRAIN, ())}
        for part, child in parts.items():
            present = {sample.label for sample in listing.parts[part]}
            if known and (unknown := sorted(present - known)):
                extra = child.path / unknown[0]
                raise DataError(f"{extra}: no class {unknown[0]!r} among the training images; add it or drop it here")
            if lacking := sorted(known - present):
                listing.notes.append(f"{child.name}/ has no images of {', '.join(lacking)}")
            _note_empty(listing, child)
        return listing


class FoldersOfClasses(Layout):
    """A folder for each class, ``CLASS/*``, with images in it or in its subfolders."""

    name, kind = "CLASS/…", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if a folder of images has a name that means nothing in another layout."""
        found = [child for child in folder.folders if child.all_images]
        if not _has_classes(folder) or PartsOfClasses().matches(folder):
            return False
        if any(child.name.lower() in RESERVED for child in found) and len(found) == 2:
            return False  # of a pair, the other is not a class either
        return len(found) > 1

    def read(self, folder: Tree) -> Listing:
        """List all images, as a training set."""
        samples = _by_class(folder)
        listing = Listing({TRAIN: samples}, _in_order(samples))
        for child in folder.folders:
            if child.all_images and (part_of(child.name) or child.name.lower() in RESERVED):
                listing.notes.append(f"{child.name}/ is taken for a class, like the folders next to it")
        _note_empty(listing, folder)
        return listing


class TableOfLabels(Layout):
    """A CSV file with the names of images, with suffix or without, and their labels, as in many Kaggle contests."""

    name, kind = "images and a CSV file of labels", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if a CSV file has a column with names of images, a column of labels, and no boxes."""
        return any(_names_column(file, folder) is not None for file in _tables(folder))

    def read(self, folder: Tree) -> Listing:
        """List the labeled images; the part follows from the folder or the name of the CSV file, or from the image."""
        listing = Listing({})
        for file in _tables(folder):
            labels = _labels(file, folder)
            found = {name: image for name in labels if (image := _image(name, file, folder))}
            for name, image in found.items():
                part = part_of(image.relative_to(folder.path).parts[0]) or _part_of_table(file, folder) or TRAIN
                listing.parts.setdefault(part, []).append(Sample(image, labels[name]))
            if missing := [name for name in labels if name not in found]:
                note = f"{len(missing):,} of {len(labels):,} lines name no image, the first of them {missing[0]!r}"
                listing.notes.append(f"{file.name}: {note}")
        for samples in listing.parts.values():
            samples.sort()
        found_labels = {sample.label for samples in listing.parts.values() for sample in samples}
        listing.classes = sorted(found_labels, key=by_number)
        return listing


class NamesOfFiles(Layout):
    """Files called ``CLASS.NUMBER.jpg``, as in Dogs vs. Cats."""

    name, kind = "files named CLASS.NUMBER", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if all training images have such names, of at least two classes, and there is no table of labels."""
        images = part_folders(folder).get(TRAIN, folder).images
        counts = Counter(match[1] if (match := _NAMED.fullmatch(image.stem)) else "" for image in images)
        return len(counts) > 1 and "" not in counts and min(counts.values()) > 1 and not TableOfLabels().matches(folder)

    def read(self, folder: Tree) -> Listing:
        """List the images whose names begin with a class."""
        found = {
            part: [Sample(image, match[1]) for image in child.images if (match := _NAMED.fullmatch(image.stem))]
            for part, child in part_folders(folder).items()
        }
        classes = sorted({sample.label for sample in found[TRAIN]})
        note = "classes are read from names of files, CLASS.NUMBER"
        return Listing({part: samples for part, samples in found.items() if samples}, classes, [note])


def _has_classes(folder: Tree) -> bool:
    """Return whether a folder of images has a name that is not reserved."""
    return any(
        child.all_images and child.name.lower() not in RESERVED and not part_of(child.name) for child in folder.folders
    )


def _by_class(folder: Tree) -> list[Sample]:
    return [Sample(image, child.name) for child in folder.folders for image in child.all_images]


def _in_order(samples: list[Sample]) -> list[str]:
    """Return the classes in the order of the folders, which are sorted by name."""
    return list(dict.fromkeys(sample.label for sample in samples))


def _note_empty(listing: Listing, folder: Tree) -> None:
    if empty := [child.name for child in folder.folders if not child.all_images]:
        listing.notes.append(f"without images, and left out: {', '.join(f'{name}/' for name in empty)}")


# -- tables -----------------------------------------------------------------------------------------------------------


def _tables(folder: Tree) -> list[Path]:
    """Return the CSV files that may hold labels, in the folder and in those of its parts."""
    found = [file for child in (folder, *folder.parts.values()) for file in child.ending(".csv")]
    return [file for file in found if "submission" not in file.name.lower()]


def _names_column(file: Path, folder: Tree) -> int | None:
    """Return the index of the column with names of images, or None if the file is not a table of labels.

    At least half of the cells of that column name images of the folder, and the table has other columns.
    """
    try:
        rows = [cells for _, cells in read_rows(file)]
    except DataError:  # some other file
        return None
    if len(rows) < 2 or len(rows[0]) < 2 or box_columns(rows[0]):
        return None
    body = [row for row in rows[1:] if len(row) == len(rows[0])]
    matches = [sum(row[column] in folder.named for row in body) for column in range(len(rows[0]))]
    best = max(matches)
    return matches.index(best) if best and 2 * best >= len(body) else None


def _labels(file: Path, folder: Tree) -> dict[str, str]:
    """Map names of images to labels; none if the table has no such columns."""
    names = _names_column(file, folder)
    if names is None:
        return {}
    (_, head), *body = read_rows(file)
    for number, row in body:
        if len(row) != len(head):
            raise DataError(f"{file}, line {number}: {len(row)} cells; give {','.join(head)}")
    others = [column for column in range(len(head)) if column != names]
    labeled = [column for column in others if head[column].lower() in _LABEL_COLUMNS]
    if labeled or len(others) == 1:
        column = (labeled or others)[0]
        return {row[names]: row[column] for _, row in body}
    if all(row[column] in ("0", "1") for _, row in body for column in others):
        return {row[names]: _one_hot(f"{file}, line {number}", head, row, others) for number, row in body}
    raise DataError(f"{file}: its columns are {', '.join(head[:8])}; call the one with the classes 'label'")


def _one_hot(where: str, head: list[str], row: list[str], columns: list[int]) -> str:
    """Return the class whose column holds 1."""
    present = [head[column] for column in columns if row[column] == "1"]
    if len(present) != 1:
        raise DataError(f"{where}: {len(present)} classes ({', '.join(present)}); give one class for each image")
    return present[0]


def _image(name: str, table: Path, folder: Tree) -> Path | None:
    """Return the image of a name: by its path, or in the part that the table is for, or in the training set."""
    part = _part_of_table(table, folder)
    child = folder.parts.get(part or TRAIN, folder)
    return folder.named.get(name) if "/" in name else child.named.get(name)


def _part_of_table(file: Path, folder: Tree) -> str | None:
    """Return the part that a table is in or is named after: train/x.csv, train.csv, test_labels.csv."""
    if file.parent != folder.path:
        return part_of(file.parent.name)
    return part_of(re.split(r"[\W_]", file.stem)[0])
