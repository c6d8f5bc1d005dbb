"""Layouts of COCO's JSON files: boxes, and outlines of objects as masks."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numbacnn._checks import brief
from numbacnn.data.labels import BOXES, MASKS
from numbacnn.data.layouts.base import IMAGE_FOLDERS, Layout
from numbacnn.data.listing import Box, Listing, Sample
from numbacnn.data.outlines import Outline, OutlinedMask, RunLengths, decompressed
from numbacnn.data.text import decode, read_bytes
from numbacnn.data.tree import TRAIN, Tree, split_of
from numbacnn.errors import DataError

BACKGROUND = "background"
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*\[\s*\[|"counts"')


class Coco(Layout):
    """JSON files with "images", "annotations" and "categories", as of COCO, Roboflow and CVAT."""

    name, kind = "images and COCO's JSON files", BOXES

    def matches(self, folder: Tree) -> bool:
        """Match if a JSON file has these keys."""
        return bool(_files(folder))

    def read(self, folder: Tree) -> Listing:
        """List the images of each JSON file. Crowds, whose boxes hold several objects, are left out."""
        return _listing(folder, _with_boxes, lambda names: names)


class CocoOutlines(Layout):
    """The same files, if they have outlines: polygons or run lengths, which become masks when masks are required."""

    name, kind, if_required = "images and outlines in COCO's JSON files", MASKS, True

    def matches(self, folder: Tree) -> bool:
        """Match if a JSON file has these keys, and an outline that is not empty."""
        return any(_OUTLINE.search(read_bytes(file)) for file, _ in _files(folder))

    def read(self, folder: Tree) -> Listing:
        """List the images of each JSON file; pixels without an object are background."""
        return _listing(folder, _with_outlines, lambda names: [BACKGROUND, *names])


class _File(NamedTuple):
    """A JSON file: its content, and the images that it lists by id, None for those that are not in the folder."""

    path: Path
    content: Any
    images: dict[Any, Path | None]
    classes: dict[Any, str]
    """Names of the categories by id, without the background."""


Samples = Callable[[_File, list[str]], list[Sample]]


def _listing(folder: Tree, samples: Samples, classes: Callable[[list[str]], list[str]]) -> Listing:
    """Read all JSON files; ``classes`` are those of the labels, from the names of all categories."""
    listing, names = Listing({}), list[str]()
    files = []
    for path, split in _files(folder):
        try:
            file = _read(path, folder, split)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: not COCO's format ({brief(repr(error))})") from None
        names += [file.classes[key] for key in sorted(file.classes) if file.classes[key] not in names]
        files.append((file, split))
    for file, split in files:
        missing = [item["file_name"] for item in file.content["images"] if file.images[item["id"]] is None]
        if missing:
            count = f"{len(missing):,} of {len(file.images):,} images are not in the folder"
            listing.notes.append(f"{file.path.name}: {count}, as {missing[0]!r}")
        try:
            found = samples(file, names)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{file.path}: not COCO's format ({brief(repr(error))})") from None
        listing.splits.setdefault(split, []).extend(found)
        crowds = sum(bool(item.get("iscrowd")) for item in file.content["annotations"])
        if crowds and samples is _with_boxes:
            listing.notes.append(f"{file.path.name}: {crowds:,} boxes around crowds left out")
    listing.classes = classes(names)
    return listing


def _files(folder: Tree) -> list[tuple[Path, str]]:
    """Return the JSON files of COCO's format, each with its split: that of its folder, or in its name."""
    folders = [folder, folder.find("annotations"), *folder.splits.values()]
    files = [file for child in folders if child for file in child.ending(".json")]
    found = []
    for file in files:
        content = read_bytes(file)
        if all(f'"{key}"'.encode() in content for key in ("images", "annotations", "categories")):
            words = [file.parent.name, *file.stem.replace("-", "_").replace(".", "_").split("_")]
            found.append((file, next(filter(None, map(split_of, words)), TRAIN)))
    return found


def _read(path: Path, folder: Tree, split: str) -> _File:
    content = json.loads(decode(read_bytes(path)))
    images = folder.find(*IMAGE_FOLDERS)
    folders = [folder.splits.get(split), images and images.splits.get(split), images, folder]
    known = [child.named for child in folders if child]
    paths = {}
    for item in content["images"]:
        name = str(item["file_name"]).removeprefix("./")
        end = name.rpartition("/")[2]
        paths[item["id"]] = next((names[key] for names in known for key in (name, end) if key in names), None)
    return _File(path, content, paths, {item["id"]: str(item["name"]) for item in content["categories"]})


def _with_boxes(file: _File, names: list[str]) -> list[Sample]:
    boxes = {key: list[Box]() for key in file.images}
    for index, item in enumerate(file.content["annotations"]):
        if item.get("iscrowd"):
            continue
        where = f"{file.path}, annotation {index}"
        x, y, width, height = map(float, item["bbox"])
        if not all(map(math.isfinite, (x, y, width, height))):
            raise DataError(f"{where}: bbox {item['bbox']} is not finite")
        boxes[item["image_id"]].append(Box((x, y, x + width, y + height), file.classes[item["category_id"]], where))
    return [Sample(path, boxes=boxes[key]) for key, path in file.images.items() if path is not None]


def _with_outlines(file: _File, names: list[str]) -> list[Sample]:
    numbers = {name: number for number, name in enumerate(names, start=1)}
    outlines = {key: list[Outline]() for key in file.images}
    for index, item in enumerate(file.content["annotations"]):
        shape, number = item["segmentation"], numbers[file.classes[item["category_id"]]]
        if isinstance(shape, dict):
            counts, (height, width) = shape["counts"], shape["size"]
            shape = RunLengths(decompressed(counts) if isinstance(counts, str) else counts, (height, width))
        outlines[item["image_id"]].append(Outline(shape, number, f"{file.path}, annotation {index}"))
    sizes = {item["id"]: (int(item["height"]), int(item["width"])) for item in file.content["images"]}
    return [
        Sample(path, mask=OutlinedMask(sizes[key], outlines[key], len(names) + 1, f"{file.path}, image {key}"))
        for key, path in file.images.items()
        if path is not None
    ]
