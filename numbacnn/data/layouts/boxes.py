"""Layouts with boxes: a CSV file, YOLO's text files, Pascal VOC's XML files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from numbacnn._checks import brief
from numbacnn.data.labels import BOXES
from numbacnn.data.layouts.base import IMAGE_FOLDERS, Layout, paired, split_folders
from numbacnn.data.layouts.class_names import class_names
from numbacnn.data.listing import Box, Listing, Sample
from numbacnn.data.text import FileTooLargeError, read_bytes, read_rows, read_text
from numbacnn.data.tree import TRAIN, Tree, split_of
from numbacnn.errors import DataError

COLUMNS = ("image", "x0", "y0", "x1", "y1", "class")
_ALIASES = {
    "image": ("image", "filename", "file", "file_name", "image_id", "image_name", "imageid", "path", "image_path"),
    "x0": ("x0", "xmin", "x_min", "x1", "left"),
    "y0": ("y0", "ymin", "y_min", "y1", "top"),
    "x1": ("x1", "xmax", "x_max", "x2", "right"),
    "y1": ("y1", "ymax", "y_max", "y2", "bottom"),
    "class": ("class", "label", "class_name", "name", "category", "labelname"),
}


class BoxTable(Layout):
    """``boxes.csv``, or a CSV file under another name, with a line for each box: image, edges and class."""

    name, kind = "images and a CSV file of boxes", BOXES

    def matches(self, folder: Tree) -> bool:
        """Match if a split has boxes.csv, or a CSV file with columns for boxes."""
        return bool(_box_tables(folder))

    def read(self, folder: Tree) -> Listing:
        """List all images of each split with their boxes; images without a line have none."""
        splits = {}
        for split, (child, file) in _box_tables(folder).items():
            images = child.find(*IMAGE_FOLDERS) or child
            if not images.all_images:
                raise DataError(f"{images.path}: holds no images; expected images/ and boxes.csv")
            splits[split] = _boxes_of_table(images, file)
        return Listing(splits, class_names(folder))


class Yolo(Layout):
    """``labels/NAME.txt`` for ``images/NAME.jpg``, or both in one folder, as for YOLO and Darknet.

    A line has the number of the class, then center, width and height of a box as fractions of the image's size, or the
    corners of a polygon. ``data.yaml``, ``classes.txt`` or ``obj.names`` name the classes.
    """

    name, kind = "images and YOLO's text files", BOXES

    def matches(self, folder: Tree) -> bool:
        """Match if text files have the names of images."""
        return any(_same_stems(images, labels, ".txt") for images, labels in _annotated(folder, ("labels",)).values())

    def read(self, folder: Tree) -> Listing:
        """List all images with their boxes; images without a text file have none."""
        pairs = _annotated(folder, ("labels",))
        names = class_names(folder, *(tree for pair in pairs.values() for tree in pair))
        splits = {split: _yolo_samples(images, labels, names) for split, (images, labels) in pairs.items()}
        return Listing(splits, names)


class VocBoxes(Layout):
    """``Annotations/NAME.xml`` for ``JPEGImages/NAME.jpg``, or both in one folder, as for Pascal VOC and labelImg."""

    name, kind = "images and Pascal VOC's XML files", BOXES

    def matches(self, folder: Tree) -> bool:
        """Match if XML files have the names of images."""
        return any(
            _same_stems(images, notes, ".xml") for images, notes in _annotated(folder, ("annotations", "xml")).values()
        )

    def read(self, folder: Tree) -> Listing:
        """List the images with an XML file, in the splits of ImageSets/Main if there are any."""
        splits = {}
        for split, (images, annotations) in _annotated(folder, ("annotations", "xml")).items():
            files = {file.stem: file for file in annotations.ending(".xml")}
            found = [image for image in images.all_images if image.stem in files]
            splits[split] = [Sample(image, boxes=_voc_boxes(files[image.stem])) for image in found]
        return Listing(in_image_sets(folder, "Main", splits), class_names(folder))


def in_image_sets(folder: Tree, task: str, splits: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Divide the training set as the lists in ImageSets/``task`` say: train.txt, val.txt, test.txt."""
    sets = folder.find(f"ImageSets/{task}")
    lists = {split_of(file.stem): file for file in sets.ending(".txt")} if sets else {}
    lists.pop(None, None)
    if not lists or splits.keys() != {TRAIN}:
        return splits
    by_stem = {sample.image.stem: sample for sample in splits[TRAIN]}
    stems = {split: read_text(file).split() for split, file in lists.items()}
    found = {split: [by_stem[stem] for stem in names if stem in by_stem] for split, names in stems.items()}
    return {split: samples for split, samples in found.items() if split and samples}


def _annotated(folder: Tree, others: Sequence[str]) -> dict[str, tuple[Tree, Tree]]:
    """Return folders of images and of annotations for each split; the same folder twice if it has both."""
    found = {split: (child, child) for split, child in split_folders(folder).items() if child.images}
    return paired(folder, IMAGE_FOLDERS, others) or found


def _same_stems(images: Tree, annotations: Tree, suffix: str) -> bool:
    stems = {image.stem for image in images.all_images}
    return any(file.stem in stems for file in annotations.all_files if file.suffix.lower() == suffix)


# -- CSV --------------------------------------------------------------------------------------------------------------


def box_columns(head: Sequence[str]) -> list[int]:
    """Return the positions of ``COLUMNS``, under these or other usual names, in the header of a table; or none."""
    names = [name.strip().lower() for name in head]
    if "x2" in names:  # x1 is then the left edge
        names = [{"x1": "xmin", "y1": "ymin"}.get(name, name) for name in names]
    known = [next((alias for alias in _ALIASES[column] if alias in names), None) for column in COLUMNS]
    positions = [names.index(name) for name in known if name is not None]
    return positions if len(set(positions)) == len(COLUMNS) else []


def _box_tables(folder: Tree) -> dict[str, tuple[Tree, Path]]:
    """Return the folder and the table of each split."""
    found = {}
    for split, child in split_folders(folder).items():
        tables = [file for file in child.ending(".csv") if file.name == "boxes.csv" or _holds_boxes(file)]
        if tables:
            found[split] = child, tables[0]
    return found


def _holds_boxes(file: Path) -> bool:
    try:
        return bool(box_columns(next(iter(read_rows(file)), (0, list[str]()))[1]))
    except FileTooLargeError:
        raise
    except DataError:  # some other file
        return False


def _boxes_of_table(images: Tree, file: Path) -> list[Sample]:
    rows = read_rows(file)
    head = rows[0][1] if rows else []
    columns = box_columns(head)
    if not columns:
        raise DataError(f"{file}, line 1: is {','.join(head)[:60]!r}; expected {','.join(COLUMNS)}")
    found: dict[Path, list[Box]] = {image: [] for image in images.all_images}
    for number, row in rows[1:]:
        where = f"{file}, line {number}"
        if len(row) != len(head):
            raise DataError(f"{where}: {len(row)} cells; expected {','.join(head)}")
        name, *edges, label = (row[column] for column in columns)
        if name not in images.named:
            raise DataError(f"{where}: there is no image {name!r} in {images.path}")
        if not label:
            raise DataError(f"{where}: the class is empty")
        found[images.named[name]].append(Box(_numbers(edges, where), label, where))
    return [Sample(image, boxes=boxes) for image, boxes in found.items()]


def _numbers(texts: Sequence[str], where: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = map(float, texts)
    except ValueError:
        raise DataError(f"{where}: {', '.join(map(repr, texts))} are not four numbers") from None
    return x0, y0, x1, y1


# -- YOLO -------------------------------------------------------------------------------------------------------------


def _yolo_samples(images: Tree, labels: Tree, names: Sequence[str]) -> list[Sample]:
    files = {file.stem: file for file in labels.all_files if file.suffix.lower() == ".txt"}
    return [
        Sample(image, boxes=list(_yolo_boxes(files[image.stem], names)) if image.stem in files else [])
        for image in images.all_images
    ]


def _yolo_boxes(file: Path, names: Sequence[str]) -> Iterator[Box]:
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words, where = line.split(), f"{file}, line {number}"
        if not words:
            continue
        try:
            label, values = int(float(words[0])), list(map(float, words[1:]))
        except ValueError:
            raise DataError(
                f"{where}: {line[:40]!r} are not numbers; expected class, center x and y, width, height"
            ) from None
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise DataError(f"{where}: {len(words)} numbers; expected class, center, width, height, or a polygon")
        if names and not 0 <= label < len(names):
            raise DataError(f"{where}: class {label}; the {len(names)} classes go from 0 to {len(names) - 1}")
        yield Box(_yolo_edges(values), names[label] if names else str(label), where, relative=True)


def _yolo_edges(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the edges of a box given by center and size, or around a polygon."""
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


# -- VOC --------------------------------------------------------------------------------------------------------------


def _voc_boxes(file: Path) -> list[Box]:
    content = read_bytes(file)
    if b"<!ENTITY" in content:
        raise DataError(f"{file}: declares entities; annotations need none")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{file}: not XML ({brief(error)})") from None
    boxes = []
    for number, item in enumerate(root.iter("object"), start=1):
        where = f"{file}, object {number}"
        edges = [(item.findtext(f"bndbox/{name}") or "").strip() for name in ("xmin", "ymin", "xmax", "ymax")]
        label = (item.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{where}: has no name")
        boxes.append(Box(_numbers(edges, where), label, where))
    return boxes
