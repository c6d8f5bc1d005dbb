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
    """

    name: ClassVar[str]
    kind: ClassVar[str]

    def matches(self, folder: Tree) -> bool:
        """Return whether the folder has this layout, from names of folders and files alone if possible."""
        raise NotImplementedError

    def read(self, folder: Tree) -> Listing:
        """List the samples of a folder that matches. Raises DataError if files contradict each other."""
        raise NotImplementedError


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "photos", "input", "inputs")


def paired(folder: Tree, images: Sequence[str], others: Sequence[str]) -> dict[str, tuple[Tree, Tree]]:
    """Map each part to its folder of images and its folder of annotations, which have the names given.

    They are next to each other in the folder or in the folder of each part, or have folders for the parts inside.
    """
    first, second = folder.find(*images), folder.find(*others)
    if first is None or second is None or not first.all_images:
        found = {part: paired(child, images, others) for part, child in folder.parts.items()}
        return {part: pairs[TRAIN] for part, pairs in found.items() if TRAIN in pairs}
    inner = {part: (child, second.parts[part]) for part, child in first.parts.items() if part in second.parts}
    return inner or {TRAIN: (first, second)}


def part_folders(folder: Tree) -> dict[str, Tree]:
    """Return the folders of the splits (training, validation and test set); without any, all is the training set."""
    return folder.parts or {TRAIN: folder}
