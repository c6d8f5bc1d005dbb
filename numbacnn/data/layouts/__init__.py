"""The layouts of folders with images: how each is recognized and read. A new layout is a class and an entry here."""

from collections.abc import Iterable
from pathlib import Path

from numbacnn.data.labels import BOXES, CLASSES, MASKS, TAGS, VALUES
from numbacnn.data.layouts.base import Layout
from numbacnn.data.layouts.boxes import BoxTable, VocBoxes, Yolo
from numbacnn.data.layouts.classes import FoldersOfClasses, NamesOfFiles, SplitsOfClasses
from numbacnn.data.layouts.coco import Coco, CocoOutlines
from numbacnn.data.layouts.masks import FoldersOfMasks, MasksAmongImages
from numbacnn.data.layouts.tables import AnyNumbers, AnyTags, TableOfLabels, TableOfNumbers, TableOfTags
from numbacnn.data.listing import Listing
from numbacnn.data.tree import Tree, count_by_folder
from numbacnn.errors import DataError

LAYOUTS: tuple[Layout, ...] = (
    FoldersOfMasks(),
    MasksAmongImages(),
    BoxTable(),
    Yolo(),
    VocBoxes(),
    Coco(),
    CocoOutlines(),
    SplitsOfClasses(),
    FoldersOfClasses(),
    TableOfLabels(),
    TableOfTags(),
    TableOfNumbers(),
    AnyTags(),
    AnyNumbers(),
    NamesOfFiles(),
)
"""In order of preference: the first that matches, with the required kind of labels, is used."""

HINT = "use CLASS/*, train/CLASS/* and test/CLASS/*, or another layout of docs/data.md"
TASKS = {CLASSES: "classify", MASKS: "segment", BOXES: "detect", TAGS: "tag", VALUES: "regress"}
_TEXT = (
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".names", ".data", ".cfg", ".labels", ".html"),
    *(".pdf", ".py", ".ipynb", ".log"),
)


def recognize(folder: Tree, kind: str | None) -> tuple[Layout, Tree]:
    """Return the layout of a data set, and the folder that has it: ``folder``, or a folder nested in it.

    Args:
        folder: the folder that the user chose.
        kind: the required kind of labels, or None to accept any.

    Raises:
        DataError: no layout matches, or the labels are of another kind, or of several kinds if ``kind`` is None.
    """
    outer, (found, folder) = folder, _matching(folder)
    found = [layout for layout in found if layout.kind == kind or not layout.if_required]
    if not found:
        files = count_by_folder(outer.path, outer.all_files)
        raise DataError(f"{outer.path}: no data set in this folder; it holds {files or 'no files'}; {HINT}")
    annotated = [layout for layout in found if layout.kind != CLASSES] or found
    kinds = list(dict.fromkeys(layout.kind for layout in annotated))
    if kind is None and len(kinds) > 1:
        both = " and ".join(f"{layout.kind} ({layout.name})" for layout in annotated)
        raise DataError(f"{folder.path}: holds {both}; choose with --task {TASKS[kinds[0]]} or labels={kinds[0]!r}")
    chosen = [layout for layout in annotated if kind in (None, layout.kind)]
    if not chosen:
        by_table = kind in (TAGS, VALUES)
        remedy = f"put a CSV file of {kind} next to the images" if by_table else f"is the task to {TASKS[kinds[0]]}?"
        raise DataError(f"{folder.path}: holds {kinds[0]} ({annotated[0].name}), not {kind}; {remedy}")
    return chosen[0], folder


def _matching(folder: Tree) -> tuple[list[Layout], Tree]:
    """Return the layouts of a folder, or of the only folder with images in it, and that folder."""
    found = [layout for layout in LAYOUTS if layout.matches(folder)]
    inner = [child for child in folder.folders if child.all_images]
    return _matching(inner[0]) if not found and len(inner) == 1 and not folder.images else (found, folder)


def read_layout(folder: Tree, layout: Layout) -> Listing:
    """Read a folder, and add a note on the files that the listing leaves out."""
    listing = layout.read(folder)
    samples = [sample for split in listing.splits.values() for sample in split]
    used = {path for sample in samples for path in (sample.image, sample.mask)}
    unused = [file for file in folder.all_files if file not in used and file.suffix.lower() not in _TEXT]
    if unused and samples:
        listing.notes.append(f"left out: {_with_reason(folder, unused)}")
    return listing


def _with_reason(folder: Tree, files: Iterable[Path]) -> str:
    """Describe files that are not used: images without labels, and other files."""
    images = set(folder.all_images)
    unlabeled, others = [file for file in files if file in images], [file for file in files if file not in images]
    phrases = [f"{count_by_folder(folder.path, unlabeled)} (no label)"] if unlabeled else []
    return "; ".join([*phrases, *([f"{count_by_folder(folder.path, others)} (not images)"] if others else [])])
