"""The interface of a layout, and how images and annotations are paired in folders."""

from collections.abc import Sequence
from typing import ClassVar

from numbacnn.data.listing import Listing
from numbacnn.data.tree import TRAIN, Tree


class Layout:
    """A way in which people arrange images and labels in a folder.

    Attributes:
        name: a phrase for messages.
        kind: the kind of labels, as in ``Dataset.kind``.
        if_required: whether it is used only if that kind is required.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    if_required: ClassVar[bool] = False

    def matches(self, folder: Tree) -> bool:
        """Return whether the folder has this layout, from names of folders and files alone if possible."""
        raise NotImplementedError

    def read(self, folder: Tree) -> Listing:
        """List the samples of a folder that matches. Raises DataError if files contradict each other."""
        raise NotImplementedError


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "input", "inputs")


def paired(folder: Tree, images: Sequence[str], others: Sequence[str]) -> dict[str, tuple[Tree, Tree]]:
    """Map each split to its folder of images and its folder of annotations, which have the names given.

    They are next to each other in the folder or in the folder of each split, or contain a folder for each split.
    """
    first, second = folder.find(*images), folder.find(*others)
    if first is None or second is None or not first.all_images:
        found = {split: paired(child, images, others) for split, child in folder.splits.items()}
        return {split: pairs[TRAIN] for split, pairs in found.items() if TRAIN in pairs}
    inner = {split: (child, second.splits[split]) for split, child in first.splits.items() if split in second.splits}
    return inner or {TRAIN: (first, second)}


def split_folders(folder: Tree) -> dict[str, Tree]:
    """Return the folders of the splits (training, validation and test set); without any, all is the training set."""
    return folder.splits or {TRAIN: folder}
