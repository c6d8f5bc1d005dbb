"""Layouts of folders: one small set of each, made with Pillow, json, xml and csv, is read with the right labels."""

import csv
import json
import os
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data import load_splits
from numbacnn.data.layouts import LAYOUTS
from numbacnn.detection import unpack

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


def torchvision(root, parts=("train", "val", "test"), suffix="jpg"):
    for part in parts:
        for number in range(4):
            put(root / part / NAMES[number % 2] / f"{number}.{suffix}", number=number)


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
    for part in ("train", "valid"):
        for number in range(4):
            put(root / part / f"{number}.jpg", number=number)
        rows = ([f"{number}.jpg", (number + 1) % 2, number % 2] for number in range(4))
        write_csv(root / part / "_classes.csv", ["filename", *NAMES], *rows)


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
    assert tuple(part and len(part) for part in splits) == counts
    for part in filter(None, splits):
        assert (part.kind, part.classes) == ("classes", NAMES)
        for pixels, label in zip(part.images, part.labels, strict=True):
            number = number_of(pixels)
            assert label == number % 2


# -- boxes ------------------------------------------------------------------------------------------------------------


def boxes_csv(root):
    for number in range(4):
        put(root / "images" / f"{number}.png", number=number)
    rows = ([f"{number}.png", *BOXES[number][:4], NAMES[BOXES[number][4]]] for number in range(4))
    write_csv(root / "boxes.csv", ["image", "x0", "y0", "x1", "y1", "class"], *rows)


def roboflow_csv(root):
    for part in ("train", "test"):
        for number in range(4):
            put(root / part / f"{number}.png", number=number)
        rows = ([f"{n}.png", WIDTH, HEIGHT, NAMES[BOXES[n][4]], *BOXES[n][:4]] for n in range(4))
        head = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
        write_csv(root / part / "_annotations.csv", head, *rows)


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


def yolo_parts(root, form):
    for part in ("train", "val"):
        yolo(
            root,
            form.format("images", part),
            form.format("labels", part),
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
    "ultralytics": (lambda root: yolo_parts(root, "{}/{}"), (4, None, 4)),
    "roboflow yolo": (lambda root: yolo_parts(root, "{1}/{0}"), (4, None, 4)),
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
    assert tuple(part and len(part) for part in splits) == counts
    for part in filter(None, splits):
        assert (part.kind, part.classes) == ("boxes", NAMES)
        for pixels, boxes in zip(part.images, unpack(part.labels), strict=True):
            number = number_of(pixels)
            np.testing.assert_allclose(boxes, [BOXES[number]], atol=1e-3)


# -- masks ------------------------------------------------------------------------------------------------------------


def masked(root, images="images/{}.png", masks="masks/{}.png", count=4):
    for number in range(count):
        put(root / images.format(number), number=number)
        put(root / masks.format(number), mask(number))


def masked_parts(root, images, masks):
    for part in ("train", "val", "test"):
        masked(root, images.format(part), masks.format(part))


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
    "parts": (lambda root: masked_parts(root, "{}/images/{{}}.jpg", "{}/masks/{{}}.png"), (4, 4, 4)),
    "parts inside": (lambda root: masked_parts(root, "images/{}/{{}}.jpg", "annotations/{}/{{}}.png"), (4, 4, 4)),
    "camvid": (lambda root: masked_parts(root, "{}/{{}}.png", "{}_labels/{{}}_L.png"), (4, 4, 4)),
    "segnet": (lambda root: masked_parts(root, "{}/{{}}.png", "{}annot/{{}}.png"), (4, 4, 4)),
    "carvana": (lambda root: masked(root, "train/{}.jpg", "train_masks/{}_mask.gif"), (3, None, 1)),
    "in one folder": (lambda root: masked(root, "{}.jpg", "{}_mask.png"), (3, None, 1)),
    "roboflow": (lambda root: masked_parts(root, "{}/{{}}.jpg", "{}/{{}}_mask.png"), (4, 4, 4)),
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
    assert tuple(part and len(part) for part in splits) == counts
    for part in filter(None, splits):
        assert (part.kind, part.classes) == ("masks", ("0", "1", "2"))
        for pixels, labels in zip(part.images, part.labels, strict=True):
            number = number_of(pixels)
            np.testing.assert_array_equal(labels, mask(number))


def test_every_layout_has_a_set(tmp_path):
    seen = set()
    for number, (make, _) in enumerate((*CLASSES.values(), *DETECTION.values(), *SEGMENTATION.values())):
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
        (["train", "val"], r"no data set in this folder; it holds 3 \.png in train/, 3 \.png in val/; give CLASS"),
        (["images"], r"no data set in this folder; it holds 3 \.png in images/"),
        (["cats"], r"no data set in this folder; it holds 3 \.png in cats/"),
        (["."], r"no data set in this folder; it holds 3 \.png; give"),
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
    for part, form in (("train", "NFC"), ("test", "NFD")):
        put(tmp_path / part / unicodedata.normalize(form, "café") / "0.png")
        put(tmp_path / part / os.fsdecode(b"th\xe9") / "0.png")
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
