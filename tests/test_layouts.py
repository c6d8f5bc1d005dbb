"""Layouts of folders: one small set of each, made with Pillow, json, xml and csv, is read with the right labels."""

import csv
import json
import os
import time
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data import load_splits
from numbacnn.data.folder import fingerprint
from numbacnn.data.layouts import LAYOUTS
from numbacnn.data.outlines import Outline, OutlinedMask, RunLengths, decompressed
from numbacnn.data.text import MAX_TEXT, read_bytes, read_rows
from numbacnn.detection import unpack
from numbacnn.errors import DataError

HEIGHT, WIDTH = 24, 32
NAMES = ("cat", "dog")
BOXES = [(2, 4, 10, 12, 0), (16, 2, 30, 20, 1), (8, 8, 24, 16, 0), (0, 0, 32, 24, 1)]  # one for each image


def image(number):
    pixels = np.random.default_rng(number).integers(0, 99, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    x0, y0, x1, y1, _ = BOXES[number % 4]
    pixels[y0:y1, x0:x1] = 200
    return pixels


def number_of(pixels):
    """The number of the image that pixels, which JPEG may have changed, are of."""
    return int(np.argmin([np.abs(pixels.astype(int) - image(number)).mean() for number in range(8)]))


def mask(number):
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    x0, y0, x1, y1, label = BOXES[number % 4]
    found[y0:y1, x0:x1] = label + 1
    return found


def put(path, pixels=None, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(number) if pixels is None else pixels).save(path)


def write_csv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


# -- classes ----------------------------------------------------------------------------------------------------------


def torchvision(root, splits=("train", "val", "test"), suffix="jpg"):
    for split in splits:
        for number in range(4):
            put(root / split / NAMES[number % 2] / f"{number}.{suffix}", number=number)


def flat(root):
    for number in range(8):
        put(root / NAMES[number % 2] / f"session{number // 4}" / f"{number}.webp", number=number)


def kaggle(root, names="{}.png", table="train.csv", label="label"):
    for number in range(4):
        put(root / "train" / f"{number}.png", number=number)
        put(root / "test" / f"{number}.png", number=number)
    write_csv(root / table, ["id", label], *([names.format(number), NAMES[number % 2]] for number in range(4)))
    write_csv(root / "sample_submission.csv", ["id", "label"], *([number, "cat"] for number in range(4)))


def one_hot(root):
    for split in ("train", "valid"):
        for number in range(4):
            put(root / split / f"{number}.jpg", number=number)
        rows = ([f"{number}.jpg", (number + 1) % 2, number % 2] for number in range(4))
        write_csv(root / split / "_classes.csv", ["filename", *NAMES], *rows)


def images_and_labels(root):
    for number in range(4):
        put(root / "images" / f"{number}.tif", number=number)
    write_csv(root / "labels.csv", ["image", "species", "site"], *([n, NAMES[n % 2], "x"] for n in range(4)))


def dogs_and_cats(root):
    for number in range(4):
        put(root / "train" / f"{NAMES[number % 2]}.{number}.jpg", number=number)
        put(root / "test1" / f"{number}.jpg", number=number)


CLASSES = {
    "torchvision": (torchvision, (4, 4, 4)),
    "fastai": (lambda root: torchvision(root, ("training", "testing")), (4, None, 4)),
    "roboflow": (lambda root: torchvision(root, ("train", "valid", "test"), "jfif"), (4, 4, 4)),
    "validation as test": (lambda root: torchvision(root, ("train", "valid")), (4, None, 4)),
    "upper case": (lambda root: torchvision(root, ("Train", "TEST"), "BMP"), (4, None, 4)),
    "test alone": (lambda root: torchvision(root, ("test",)), (None, None, 4)),
    "one folder in another": (lambda root: torchvision(root / "unzipped" / "data", ("train", "test")), (4, None, 4)),
    "folders": (flat, (6, None, 2)),
    "folders in images/": (lambda root: flat(root / "images"), (6, None, 2)),
    "kaggle": (kaggle, (3, None, 1)),
    "kaggle without suffix": (lambda root: kaggle(root, "{}", "train_labels.csv", "breed"), (3, None, 1)),
    "kaggle with folder": (lambda root: kaggle(root, "train/{}.png", "labels.csv"), (3, None, 1)),
    "one-hot table": (one_hot, (4, None, 4)),
    "images and a table": (images_and_labels, (3, None, 1)),
    "names of files": (dogs_and_cats, (3, None, 1)),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(tmp_path, name):
    make, counts = CLASSES[name]
    make(tmp_path / "data")
    splits = load_splits(tmp_path / "data")
    assert tuple(split and len(split) for split in splits) == counts
    for split in filter(None, splits):
        assert (split.kind, split.classes) == ("classes", NAMES)
        for pixels, label in zip(split.images, split.labels, strict=True):
            number = number_of(pixels)
            assert label == number % 2


# -- boxes ------------------------------------------------------------------------------------------------------------


def boxes_csv(root):
    for number in range(4):
        put(root / "images" / f"{number}.png", number=number)
    rows = ([f"{number}.png", *BOXES[number][:4], NAMES[BOXES[number][4]]] for number in range(4))
    write_csv(root / "boxes.csv", ["image", "x0", "y0", "x1", "y1", "class"], *rows)


def roboflow_csv(root):
    for split in ("train", "test"):
        for number in range(4):
            put(root / split / f"{number}.png", number=number)
        rows = ([f"{n}.png", WIDTH, HEIGHT, NAMES[BOXES[n][4]], *BOXES[n][:4]] for n in range(4))
        head = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
        write_csv(root / split / "_annotations.csv", head, *rows)


def yolo_line(number, polygon=False):
    x0, y0, x1, y1, label = BOXES[number]
    if polygon:
        corners = [x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT, x0 / WIDTH, y1 / HEIGHT]
        return f"{label} {' '.join(map(str, corners))}\n"
    center = (x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT
    return f"{label} {' '.join(f'{value:.6f}' for value in center)}\n"


INLINE = "names: ['cat', \"dog\"]\nnc: 2\n"


def yolo(
    root, images="images", labels="labels", names="data.yaml", text="names: ['cat', \"dog\"]\nnc: 2\n", polygon=False
):
    for number in range(4):
        put(root / images / f"{number}.jpg", number=number)
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"{number}.txt").write_text(yolo_line(number, polygon))
    (root / names).write_text(text)


BLOCK = "names:\n  0: cat\n  1: dog  # or puppy\n"


def yolo_splits(root, form):
    for split in ("train", "val"):
        yolo(
            root,
            form.format("images", split),
            form.format("labels", split),
            text="names:\n  0: cat\n  1: dog  # or puppy\n",
        )


def coco(root, images, file, names=None):
    for number in range(4):
        put(root / images / f"{number}.png", number=number)
    boxes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1, _ in BOXES]
    content = {
        "images": [{"id": 10 + n, "file_name": names.format(n) if names else f"{n}.png"} for n in range(4)],
        "annotations": [
            {"id": n, "image_id": 10 + n, "category_id": 3 + 4 * BOXES[n][4], "bbox": boxes[n], "iscrowd": 0}
            for n in range(4)
        ]
        + [{"id": 9, "image_id": 10, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))


def coco_2017(root):
    coco(root, "train2017", "annotations/instances_train2017.json")
    coco(root, "val2017", "annotations/instances_val2017.json")


def roboflow_coco(root):
    coco(root, "train", "train/_annotations.coco.json")
    coco(root, "valid", "valid/_annotations.coco.json")


def coco_outlines(root, lengths=None, indent=None):
    """Masks as polygons of the objects of ``mask``, or as run lengths: a list, or COCO's compressed text."""
    annotations = []
    for number in range(4):
        put(root / "images" / f"{number}.png", number=number)
        for label in (1, 2):
            if not (mask(number) == label).any():
                continue
            rows, columns = (axis.tolist() for axis in np.nonzero(mask(number) == label))
            x0, y0, x1, y1 = min(columns), min(rows), max(columns) + 1, max(rows) + 1
            shape = (
                [[x0, y0, x1, y0, x1, y1, x0, y1]] if lengths is None else run_lengths(mask(number) == label, lengths)
            )
            one = {"image_id": number, "category_id": 5 * label, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            annotations.append(one | {"segmentation": shape, "iscrowd": int(lengths is not None)})
    height, width = mask(0).shape
    images = [{"id": n, "file_name": f"{n}.png", "height": height, "width": width} for n in range(4)]
    categories = [{"id": 5, "name": "cat"}, {"id": 10, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content, indent=indent))


def run_lengths(inside, compressed):
    """Encode a mask column by column, as the format says; each number in groups of 5 bits, lowest first."""
    flat = inside.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    if counts[-1] == 0:
        counts.pop()
    text = ""
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return {"counts": text if compressed else counts, "size": list(inside.shape)}


def voc_xml(path, number):
    x0, y0, x1, y1, label = BOXES[number]
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{number}.jpg"
    item = ElementTree.SubElement(root, "object")
    ElementTree.SubElement(item, "name").text = NAMES[label]
    box = ElementTree.SubElement(item, "bndbox")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (x0, y0, x1, y1), strict=True):
        ElementTree.SubElement(box, name).text = str(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path)


def voc(root, images="JPEGImages", annotations="Annotations"):
    for number in range(4):
        put(root / images / f"{number}.jpg", number=number)
        voc_xml(root / annotations / f"{number}.xml", number)


def voc_sets(root):
    voc(root / "VOC2007")
    sets = root / "VOC2007" / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("0\n1\n2\n")
    (sets / "val.txt").write_text("3\n")
    (sets / "cat_train.txt").write_text("0 1\n1 -1\n")


DETECTION = {
    "boxes.csv": (boxes_csv, (3, None, 1)),
    "roboflow csv": (roboflow_csv, (4, None, 4)),
    "yolo": (yolo, (3, None, 1)),
    "yolo polygons": (lambda root: yolo(root, polygon=True), (3, None, 1)),
    "yolo, classes.txt": (lambda root: yolo(root, names="classes.txt", text="cat\ndog\n"), (3, None, 1)),
    "labelImg": (lambda root: yolo(root, names="labels/classes.txt", text="\ufeffcat\r\ndog\r\n"), (3, None, 1)),
    "darknet": (lambda root: yolo(root, "obj", "obj", "obj/obj.names", "cat\ndog\n"), (3, None, 1)),
    "yolo list": (lambda root: yolo(root, text="nc: 2\nnames:\n- cat\n- dog\nroboflow:\n  x: 1\n"), (3, None, 1)),
    "ultralytics": (lambda root: yolo_splits(root, "{}/{}"), (4, None, 4)),
    "roboflow yolo": (lambda root: yolo_splits(root, "{1}/{0}"), (4, None, 4)),
    "coco 2017": (coco_2017, (4, None, 4)),
    "coco, images/": (lambda root: coco(root, "images", "annotations.json"), (3, None, 1)),
    "coco with folders": (lambda root: coco(root, "pictures", "result.json", "pictures/{}.png"), (3, None, 1)),
    "roboflow coco": (roboflow_coco, (4, None, 4)),
    "voc": (voc, (3, None, 1)),
    "voc sets": (voc_sets, (3, None, 1)),
    "labelImg voc": (lambda root: voc(root, "", ""), (3, None, 1)),
    "kaggle voc": (lambda root: voc(root, "images", "annotations"), (3, None, 1)),
}


@pytest.mark.parametrize("name", DETECTION)
def test_boxes(tmp_path, name):
    make, counts = DETECTION[name]
    make(tmp_path / "data")
    splits = load_splits(tmp_path / "data")
    assert tuple(split and len(split) for split in splits) == counts
    for split in filter(None, splits):
        assert (split.kind, split.classes) == ("boxes", NAMES)
        for pixels, boxes in zip(split.images, unpack(split.labels), strict=True):
            number = number_of(pixels)
            np.testing.assert_allclose(boxes, [BOXES[number]], atol=1e-3)


# -- masks ------------------------------------------------------------------------------------------------------------


def masked(root, images="images/{}.png", masks="masks/{}.png", count=4):
    for number in range(count):
        put(root / images.format(number), number=number)
        put(root / masks.format(number), mask(number))


def masked_splits(root, images, masks):
    for split in ("train", "val", "test"):
        masked(root, images.format(split), masks.format(split))


def voc_masks(root):
    masked(root, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    put(root / "JPEGImages/without.jpg", number=0)
    put(root / "SegmentationObject/0.png", mask(0))
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("0\n1\n2")
    (sets / "val.txt").write_text("3")


SEGMENTATION = {
    "images and masks": (masked, (3, None, 1)),
    "splits": (lambda root: masked_splits(root, "{}/images/{{}}.jpg", "{}/masks/{{}}.png"), (4, 4, 4)),
    "splits inside": (lambda root: masked_splits(root, "images/{}/{{}}.jpg", "annotations/{}/{{}}.png"), (4, 4, 4)),
    "camvid": (lambda root: masked_splits(root, "{}/{{}}.png", "{}_labels/{{}}_L.png"), (4, 4, 4)),
    "segnet": (lambda root: masked_splits(root, "{}/{{}}.png", "{}annot/{{}}.png"), (4, 4, 4)),
    "carvana": (lambda root: masked(root, "train/{}.jpg", "train_masks/{}_mask.gif"), (3, None, 1)),
    "in one folder": (lambda root: masked(root, "{}.jpg", "{}_mask.png"), (3, None, 1)),
    "roboflow": (lambda root: masked_splits(root, "{}/{{}}.jpg", "{}/{{}}_mask.png"), (4, 4, 4)),
    "isic": (lambda root: masked(root, "images/{}.jpg", "masks/{}_segmentation.png"), (3, None, 1)),
    "pets": (lambda root: masked(root, "images/{}.jpg", "annotations/trimaps/{}.png"), (3, None, 1)),
    "prefix": (lambda root: masked(root, "imgs/{}.bmp", "labels/mask_{}.tif"), (3, None, 1)),
    "voc": (voc_masks, (3, None, 1)),
}


@pytest.mark.parametrize("name", SEGMENTATION)
def test_masks(tmp_path, name):
    make, counts = SEGMENTATION[name]
    make(tmp_path / "data")
    splits = load_splits(tmp_path / "data")
    assert tuple(split and len(split) for split in splits) == counts
    for split in filter(None, splits):
        assert (split.kind, split.classes) == ("masks", ("0", "1", "2"))
        for pixels, labels in zip(split.images, split.labels, strict=True):
            number = number_of(pixels)
            np.testing.assert_array_equal(labels, mask(number))


@pytest.mark.parametrize(
    ("lengths", "indent"),
    [(None, None), (None, 2), (False, None), (True, None)],
    ids=["polygons", "indented", "run lengths", "compressed"],
)
def test_outlines_are_masks_if_masks_are_required(tmp_path, lengths, indent):
    coco_outlines(tmp_path, lengths, indent)
    data, _, test = load_splits(tmp_path, labels="masks")
    assert data.classes == ("background", "cat", "dog")
    for split in (data, test):
        for pixels, labels in zip(split.images, split.labels, strict=True):
            np.testing.assert_array_equal(labels, mask(number_of(pixels)))
    if lengths is None:
        assert load_splits(tmp_path).train.kind == "boxes"


def test_an_image_listed_several_times_is_read_for_each(tmp_path):
    coco(tmp_path, "images", "annotations.json", "0.png")
    found = [pixels for split in nc.data.load(tmp_path) for pixels in split.images]
    np.testing.assert_array_equal(found, [image(0)] * 4)


def test_the_smaller_of_two_overlapping_objects_is_in_front():
    large, small = [[0, 0, 8, 0, 8, 8, 0, 8]], [[2.4, 2, 6.6, 2, 6.6, 5, 2.4, 5]]
    for order in ([(large, 1), (small, 2)], [(small, 2), (large, 1)]):
        pixels = OutlinedMask((8, 8), [Outline(*one, "here") for one in order], 3, "image").pixels()
        assert (pixels[2:5, 2:7] == 2).all()
        assert (pixels == 2).sum() == 15
        assert (pixels == 1).sum() == 64 - 15


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([[0, 0, 1, 1]], "at least three points"),
        ([[0, 0, 1, 1, float("nan"), 2]], "at least three points"),
        (RunLengths([5, 5], (4, 4)), "run lengths of 10 pixels for an image of 4×4"),
        (RunLengths([8, 8], (2, 8)), "for an image of 4×4"),
        (RunLengths([2**62] * 4 + [16], (4, 4)), "for an image of 4×4"),
        (RunLengths([2**70], (4, 4)), "its outline is damaged"),
        (None, "its outline is damaged"),
        ([["a", 0, 1, 1, 2, 2]], "its outline is damaged"),
    ],
)
def test_a_damaged_outline_is_named(shape, message):
    with pytest.raises(DataError, match=f"file, annotation 3: .*{message}"):
        OutlinedMask((4, 4), [Outline(shape, 1, "file, annotation 3")], 2, "image").pixels()


def test_a_run_length_with_endless_continuations_ends_at_once():
    assert decompressed("".join(chr(48 + 32) for _ in range(9)) + "1") == [1 << 45]
    start = time.perf_counter()
    with pytest.raises(ValueError, match="a run length has more than 60 bits"):
        decompressed(chr(48 + 63) * 2_000_000)
    assert time.perf_counter() - start < 1


def test_files_that_are_too_large_are_named_with_their_size(tmp_path, monkeypatch):
    """A sparse file of a gigabyte and a byte is not cut to a gigabyte; nor is it taken for some other file."""
    table = tmp_path / "labels.csv"
    with table.open("wb") as file:
        file.truncate(MAX_TEXT + 1)
    put(tmp_path / "images" / "0.png")
    for read in (read_bytes, read_rows, lambda file: load_splits(file.parent)):
        with pytest.raises(DataError, match=r"labels\.csv: 1,073,741,825 bytes; at most 1,073,741,824 are read"):
            read(table)
    names = tmp_path / "classes.txt"
    names.write_bytes(b"a" * 40)
    assert len(read_bytes(names, 40)) == 40
    with pytest.raises(DataError, match=r"classes\.txt: 40 bytes; at most 39 are read"):
        read_bytes(names, 39)


def test_an_absurd_size_of_outlines_is_rejected_before_memory_is_allocated():
    with pytest.raises(DataError, match="image: 200000×200000 is not the size of an image"):
        OutlinedMask((200_000, 200_000), [], 2, "image").pixels()


def test_links_to_a_parent_do_not_hang_the_fingerprint(tmp_path):
    (tmp_path / "file").write_text("a")
    for name in "ab":
        (tmp_path / name).symlink_to(tmp_path)
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / "file").write_text("longer")
    assert fingerprint(tmp_path) != before


def table_with(root, cell):
    put(root / "images" / "0.png")
    write_csv(root / "labels.csv", ["image", "tags"], ["0.png", cell])


def test_every_layout_has_a_set(tmp_path):
    seen = set()
    tables = [(lambda root, cell=cell: table_with(root, cell), None) for cell in ("x y", "0.5")]
    others = ((coco_outlines, None), *tables)
    for number, (make, _) in enumerate((*CLASSES.values(), *DETECTION.values(), *SEGMENTATION.values(), *others)):
        make(tmp_path / str(number))
        tree = nc.data.tree.Tree.of(tmp_path / str(number))
        seen |= {type(layout) for layout in LAYOUTS if layout.matches(tree)}
    assert seen == set(map(type, LAYOUTS))


# -- rejected folders, and files that are left out --------------------------------------------------------------------


def numbered(root, *folders):
    for folder in folders:
        for number in range(3):
            put(root / folder / f"{number}.png", number=number)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "val"], r"no data set in this folder; it holds 3 \.png in train/, 3 \.png in val/; use CLASS"),
        (["images"], r"no data set in this folder; it holds 3 \.png in images/"),
        (["cats"], r"no data set in this folder; it holds 3 \.png in cats/"),
        (["."], r"no data set in this folder; it holds 3 \.png; use"),
        (["JPEGImages", "SegmentationObject"], r"it holds 3 \.png in JPEGImages/, 3 \.png in SegmentationObject/"),
    ],
)
def test_folders_without_labels_are_rejected(tmp_path, folders, message):
    numbered(tmp_path, *folders)
    with pytest.raises(nc.DataError, match=message):
        nc.data.load(tmp_path)


def test_a_table_that_does_not_say_which_column_is_the_class(tmp_path):
    numbered(tmp_path, "train")
    write_csv(tmp_path / "train.csv", ["id", "age", "height"], *([number, 10 + number, 20] for number in range(3)))
    with pytest.raises(
        nc.DataError, match=r"train.csv: its columns are id, age, height; call the one with the classes"
    ):
        nc.data.load(tmp_path)


def test_what_is_left_out_is_named(tmp_path):
    numbered(tmp_path, "train/a", "train/b", "test")
    (tmp_path / "train" / "a" / "9.heic").write_bytes(b"x")
    (tmp_path / "train" / "a" / "readme.txt").write_text("x")
    (tmp_path / "train" / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "train" / "a" / "._0.png").write_bytes(b"x")
    (tmp_path / "train" / "c").mkdir()
    train, _ = nc.data.load(tmp_path)
    assert train.classes == ("a", "b")
    left_out = "left out: 3 .png in test/ (no label); 1 .heic in train/a/ (not images)"
    assert train.notes == ("without images, and left out: c/", left_out)


def test_names_that_are_not_utf_8_and_composed_names(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        put(tmp_path / split / unicodedata.normalize(form, "café") / "0.png")
        put(tmp_path / split / os.fsdecode(b"th\xe9") / "0.png")
    train, test = nc.data.load(tmp_path)
    assert train.classes == test.classes == ("café", "thé")
    put(tmp_path / "lines" / "a\nb" / "0.png")
    put(tmp_path / "lines" / "c" / "0.png")
    assert nc.data.load_folder(tmp_path / "lines")[0].classes == ("a b", "c")
    put(tmp_path / "boxes" / "images" / unicodedata.normalize("NFD", "café.png"))
    write_csv(
        tmp_path / "boxes" / "boxes.csv", ["image", "x0", "y0", "x1", "y1", "class"], ["café.png", 1, 1, 9, 9, "cup"]
    )
    splits = nc.data.load_folder(tmp_path / "boxes")
    assert splits[0].classes == ("cup",)


def test_links_to_a_parent_come_to_an_end(tmp_path):
    numbered(tmp_path, "a", "b")
    Path(tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert set(nc.data.load(tmp_path)[0].classes) == {"a", "b"}
