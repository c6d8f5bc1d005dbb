"""Layouts with masks: a folder of masks next to the images, or masks in the same folder under another name."""

from collections import Counter
from pathlib import Path

from numbacnn.data.labels import MASKS
from numbacnn.data.layouts.base import IMAGE_FOLDERS, Layout, paired, split_folders
from numbacnn.data.layouts.boxes import in_image_sets
from numbacnn.data.layouts.class_names import class_names, color_names, value_names
from numbacnn.data.listing import Listing, Sample
from numbacnn.data.tree import Tree
from numbacnn.errors import DataError

MASK_FOLDERS = (
    *("masks", "mask", "segmentationclass", "segmentationclasspng", "segmentationclassraw", "labels", "label"),
    *("annotations/trimaps", "trimaps", "annotations", "annots", "gt", "groundtruth", "ground_truth", "segmentation"),
    *("segmentations", "targets", "target", "label_images", "pixel_labels"),
)
# What the name of a mask adds to that of its image, as a prefix or a suffix.
_ADDITIONS = (
    *("mask", "masks", "seg", "label", "labels", "gt", "l", "lbl", "annotation", "segmentation", "manual1"),
    *("segmask", "groundtruth", "trimap", "p"),
)
_ENDINGS = tuple(f"{mark}{word}" for word in _ADDITIONS for mark in "_-.")
_BEGINNINGS = tuple(f"{word}{mark}" for word in ("mask", "seg", "label", "gt") for mark in "_-")
PARTLY = "segmentationclass"  # in Pascal VOC most images have no mask
_AFTER_SPLIT = ("_labels", "_masks", "_mask", "annot", "_annot", "_label", "_gt", "labels", "masks")


class FoldersOfMasks(Layout):
    """``masks/NAME.png`` for ``images/NAME.jpg``, in the folder or in those of the splits; or ``train_labels/`` for
    ``train/``, as for CamVid; ``SegmentationClass/`` for ``JPEGImages/``, as for Pascal VOC.
    """

    name, kind = "images/ and masks/", MASKS

    def matches(self, folder: Tree) -> bool:
        """Match if the second folder has images."""
        return any(masks.all_images for _, masks in _pairs(folder).values())

    def read(self, folder: Tree) -> Listing:
        """List the images that have a mask; if there are lists in ImageSets/Segmentation, images without are usual."""
        pairs = _pairs(folder)
        names = class_names(folder) or value_names(folder)
        splits = {split: _with_masks(images, masks) for split, (images, masks) in pairs.items()}
        lists = in_image_sets(folder, "Segmentation", splits)
        return Listing(
            {split: samples for split, samples in lists.items() if samples}, names, colors=color_names(folder)
        )


class MasksAmongImages(Layout):
    """``NAME_mask.png`` next to ``NAME.jpg``, as Roboflow writes them."""

    name, kind = "images, and masks called NAME_mask", MASKS

    def matches(self, folder: Tree) -> bool:
        """Match if at least a third of the images in a split are masks of others."""
        return any(3 * len(_masks_among(child)) >= len(child.images) > 1 for child in split_folders(folder).values())

    def read(self, folder: Tree) -> Listing:
        """List the images that have a mask."""
        splits = split_folders(folder)
        names = class_names(folder) or next(filter(None, map(value_names, splits.values())), [])
        found = {
            split: [Sample(image, mask=mask) for image, mask in _masks_among(child).items()]
            for split, child in splits.items()
        }
        listing = Listing({split: samples for split, samples in found.items() if samples}, names)
        listing.colors = color_names(folder)
        return listing


def _pairs(folder: Tree) -> dict[str, tuple[Tree, Tree]]:
    found = paired(folder, IMAGE_FOLDERS, MASK_FOLDERS)
    if found:
        return found
    for split, child in folder.splits.items():
        if masks := folder.find(*(f"{child.path.name}{ending}" for ending in _AFTER_SPLIT)):
            found[split] = child, masks
    return found


def _with_masks(images: Tree, masks: Tree) -> list[Sample]:
    """Pair each image with its mask. Raises DataError if one has none, unless that is usual, as in Pascal VOC."""
    counts = Counter(image.stem for image in images.all_images)
    if double := next((stem for stem, count in counts.items() if count > 1), None):
        names = " and ".join(image.name for image in images.all_images if image.stem == double)
        raise DataError(f"{images.path}: {names} would have the same mask; each image needs a unique name")
    by_stem = {file.stem.lower(): file for file in masks.all_images}
    found = {image: _mask_of(image, by_stem) for image in images.all_images}
    without = [image for image, mask in found.items() if mask is None]
    if without and (len(without) == len(found) or not masks.name.lower().startswith(PARTLY)):
        missing = masks.path / f"{without[0].stem}.png"
        raise DataError(f"{without[0]}: has no mask, like {len(without):,} of {len(found):,} images; add {missing}")
    return [Sample(image, mask=mask) for image, mask in found.items() if mask]


def _mask_of(image: Path, by_stem: dict[str, Path]) -> Path | None:
    stem = image.stem.lower()
    names = (stem, *(stem + end for end in _ENDINGS), *(begin + stem for begin in _BEGINNINGS))
    return next((by_stem[name] for name in names if name in by_stem), None)


def _masks_among(folder: Tree) -> dict[Path, Path]:
    """Map images to the masks in the same folder."""
    by_stem = {file.stem.lower(): file for file in folder.images}
    found = {}
    for image in folder.images:
        stem = image.stem.lower()
        if mask := next((by_stem[stem + end] for end in _ENDINGS if stem + end in by_stem), None):
            found[image] = mask
    return found
