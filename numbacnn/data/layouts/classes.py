"""Layouts with a class for each image: folders of classes, and names of files. Tables of labels are in ``tables``."""

import re
from collections import Counter

from numbacnn.data.labels import CLASSES
from numbacnn.data.layouts.base import IMAGE_FOLDERS, Layout, split_folders
from numbacnn.data.layouts.masks import MASK_FOLDERS
from numbacnn.data.layouts.tables import is_table_of_labels
from numbacnn.data.listing import Listing, Sample
from numbacnn.data.tree import TRAIN, Tree, split_of
from numbacnn.errors import DataError

RESERVED = {*IMAGE_FOLDERS, *MASK_FOLDERS, "segmentationobject"}  # folders in other layouts, which are not classes
_NAMED = re.compile(r"([^\W\d]\w*)\.\d+")  # cat.12, as in Dogs vs. Cats


class SplitsOfClasses(Layout):
    """Folders ``train/CLASS``, ``val/CLASS`` and ``test/CLASS``, as in ImageNet, torchvision, fastai and Roboflow."""

    name, kind = "train/CLASS/…", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if a split has a folder of images that is not reserved."""
        return any(_has_classes(split) for split in folder.splits.values())

    def read(self, folder: Tree) -> Listing:
        """List the splits that have classes, which are those of the training set."""
        splits = {split: child for split, child in folder.splits.items() if _has_classes(child)}
        listing = Listing({split: _by_class(child) for split, child in splits.items()})
        listing.classes = _in_order(listing.splits.get(TRAIN) or next(iter(listing.splits.values())))
        known = {sample.label for sample in listing.splits.get(TRAIN, ())}
        for split, child in splits.items():
            present = {sample.label for sample in listing.splits[split]}
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
        """Match if a folder of images has a name that has no meaning in other layouts."""
        found = [child for child in folder.folders if child.all_images]
        if not _has_classes(folder) or SplitsOfClasses().matches(folder):
            return False
        if any(child.name.lower() in RESERVED for child in found) and len(found) == 2:
            return False  # a reserved folder and one more, such as images/ and masks/: neither is a class
        return len(found) > 1

    def read(self, folder: Tree) -> Listing:
        """List all images, as a training set."""
        samples = _by_class(folder)
        listing = Listing({TRAIN: samples}, _in_order(samples))
        for child in folder.folders:
            if child.all_images and (split_of(child.name) or child.name.lower() in RESERVED):
                listing.notes.append(f"{child.name}/ is taken for a class, like the folders next to it")
        _note_empty(listing, folder)
        return listing


class NamesOfFiles(Layout):
    """Files called ``CLASS.NUMBER.jpg``, as in Dogs vs. Cats."""

    name, kind = "files named CLASS.NUMBER", CLASSES

    def matches(self, folder: Tree) -> bool:
        """Match if all training images have such names, of at least two classes, and there is no table of labels."""
        images = split_folders(folder).get(TRAIN, folder).images
        counts = Counter(match[1] if (match := _NAMED.fullmatch(image.stem)) else "" for image in images)
        return len(counts) > 1 and "" not in counts and min(counts.values()) > 1 and not is_table_of_labels(folder)

    def read(self, folder: Tree) -> Listing:
        """List the images whose names begin with a class."""
        found = {
            split: [Sample(image, match[1]) for image in child.images if (match := _NAMED.fullmatch(image.stem))]
            for split, child in split_folders(folder).items()
        }
        classes = sorted({sample.label for sample in found[TRAIN]})
        note = "classes are read from names of files, CLASS.NUMBER"
        return Listing({split: samples for split, samples in found.items() if samples}, classes, [note])


def _has_classes(folder: Tree) -> bool:
    """Return whether a folder of images has a name that is not reserved."""
    return any(
        child.all_images and child.name.lower() not in RESERVED and not split_of(child.name) for child in folder.folders
    )


def _by_class(folder: Tree) -> list[Sample]:
    return [Sample(image, child.name) for child in folder.folders for image in child.all_images]


def _in_order(samples: list[Sample]) -> list[str]:
    """Return the classes in the order of the folders, which are sorted by name."""
    return list(dict.fromkeys(sample.label for sample in samples))


def _note_empty(listing: Listing, folder: Tree) -> None:
    if empty := [child.name for child in folder.folders if not child.all_images]:
        listing.notes.append(f"without images, and left out: {', '.join(f'{name}/' for name in empty)}")
