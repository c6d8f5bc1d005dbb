"""CSV files with labels of images: classes, tags and numbers are distinguished, read, or rejected with the cell."""

import csv

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data import load_splits
from numbacnn.data.description import describe
from numbacnn.errors import DataError

TAGS = [("image", "cat", "dog"), ("0.png", 1, 1), ("1.png", 0, 1), ("2.png", 0, 0)]
NUMBERS = [("file", "price"), ("0", "1.5"), ("1", "-2e3"), ("2", "7")]


@pytest.fixture
def folder(tmp_path):
    """Three images whose brightness is their number."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"images/{number}.png")
    return tmp_path


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def labels_by_image(folder, rows, kind=None):
    """Return names and, in the order of the images, the labels of the splits of a table."""
    write(folder / "labels.csv", rows)
    splits = [split for split in load_splits(folder, labels=kind) if split is not None]
    pairs = [(image.flat[0], label.tolist()) for split in splits for image, label in zip(split.images, split.labels)]  # noqa: B905
    return splits[0].kind, splits[0].classes, [label for _, label in sorted(pairs)]


def named(*cells):
    return [("image", "tags"), *((f"{number}.png", cell) for number, cell in enumerate(cells))]


@pytest.mark.parametrize(
    ("rows", "kind", "classes", "labels"),
    [
        (TAGS, "tags", ("cat", "dog"), [[1, 1], [0, 1], [0, 0]]),
        (named("b a", "a", ""), "tags", ("a", "b"), [[1, 1], [1, 0], [0, 0]]),
        (named("b|a long one", "b", "b"), "tags", ("a long one", "b"), [[1, 1], [0, 1], [0, 1]]),
        (named("b, a", "a", "b"), "tags", ("a", "b"), [[1, 1], [1, 0], [0, 1]]),
        (
            [("fname", "labels"), ("0.png", "chair person"), ("1.png", "chair"), ("2.png", "person")],
            "tags",
            ("chair", "person"),
            [[1, 1], [1, 0], [0, 1]],
        ),
        (NUMBERS, "values", ("price",), [[1.5], [-2000.0], [7.0]]),
        (
            [
                ("", "image", "x", "y"),
                (5, "0.png", "0.5", 1),
                (6, "1.png", 2, 2),
                (7, "2.png", 3, 3),
            ],  # as pandas writes
            "values",
            ("x", "y"),
            [[0.5, 1.0], [2.0, 2.0], [3.0, 3.0]],
        ),
        (
            [("id", "label"), ("0", "golden retriever"), ("1", "german shepherd"), ("2", "golden retriever")],
            "classes",
            ("german shepherd", "golden retriever"),
            [1, 0, 1],
        ),
        ([("id", "label"), ("0", 3), ("1", 10), ("2", 3)], "classes", ("3", "10"), [0, 1, 0]),
        ([("id", "a", "b"), ("0", 1, 0), ("1", 0, 1), ("2", 1, 0)], "classes", ("a", "b"), [0, 1, 0]),
    ],
)
def test_labels_of_a_table(folder, rows, kind, classes, labels):
    assert labels_by_image(folder, rows) == (kind, classes, labels)


@pytest.mark.parametrize(
    ("rows", "kind", "classes", "labels"),
    [
        ([("id", "age"), ("0", 3), ("1", 10), ("2", 3)], "values", ("age",), [[3.0], [10.0], [3.0]]),
        ([("id", "a", "b"), ("0", 1, 0), ("1", 0, 1), ("2", 1, 0)], "tags", ("a", "b"), [[1, 0], [0, 1], [1, 0]]),
        ([("id", "label"), ("0", "x"), ("1", "y"), ("2", "x")], "tags", ("x", "y"), [[1, 0], [0, 1], [1, 0]]),
        ([("id", "ill"), ("0", 1), ("1", 0), ("2", 1)], "tags", ("ill",), [[1], [0], [1]]),
    ],
)
def test_a_required_kind_decides_where_a_table_may_be_two(folder, rows, kind, classes, labels):
    assert labels_by_image(folder, rows, kind) == (kind, classes, labels)


def _joined(row, cell):
    return *row, cell


def test_a_column_names_the_splits(folder):
    write(
        folder / "labels.csv", [("image", "label", "is_valid"), ("0", "a", 0), ("1", "b", "False"), ("2", "a", "True")]
    )
    splits = load_splits(folder)
    assert [len(splits.train), len(splits.test)] == [2, 1]
    write(
        folder / "labels.csv",
        [("image", "label", "split"), ("0", "a", "train"), ("1", "b", "train"), ("2", "a", "test")],
    )
    assert len(load_splits(folder).test) == 1


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (
            [*NUMBERS[:3], ("2", "n/a")],
            "values",
            r"labels.csv, line 4, column price: 'n/a' is not a number; mend or drop",
        ),
        ([*NUMBERS[:3], ("2", "inf")], "values", "'inf' is not a number"),
        ([*NUMBERS[:3], ("2", "1e39")], None, r"line 4, column price: 1e39 is too large for float32"),
        (
            [*NUMBERS[:3], ("2", "n/a")],
            None,
            r"'-?[12].*' in the column price is a number, not a class; .*--task regress",
        ),
        ([*TAGS, ("3.png", 1)], None, r"line 5: 2 cells; expected image,cat,dog"),
        ([("id", "a", "b"), ("0", 1, 0), ("1", 0, 1), ("2", 1)], None, r"line 4: 2 cells; expected id,a,b"),
        ([("id", "a", "a"), ("0", 1, 0.5), ("1", 0, 1), ("2", 1, 1)], None, r"csv: 2 columns are called 'a'; rename"),
        (
            NUMBERS,
            "classes",
            r"holds values \(images and a CSV file of numbers\), not classes; is the task to regress\?",
        ),
        (TAGS, "classes", r"holds tags .* not classes; is the task to tag\?"),
        (
            [("id", "size", "coat"), ("0", "s", "x"), ("1", "m", "y"), ("2", "s", "y")],
            "tags",
            "tags are a column of 0 and 1",
        ),
        (
            [("id", "size", "coat"), ("0", "s", "x"), ("1", "m", "y"), ("2", "s", "y")],
            None,
            "call the one with the classes",
        ),
    ],
)
def test_other_tables_are_rejected(folder, rows, kind, message):
    write(folder / "labels.csv", rows)
    with pytest.raises(DataError, match=message):
        load_splits(folder, labels=kind)


def test_tables_of_two_splits_have_the_same_columns(folder):
    write(folder / "train.csv", TAGS[:3])
    write(folder / "test.csv", [("image", "dog", "cat"), ("2.png", 1, 1)])
    with pytest.raises(DataError, match=r"its columns are .* they must be the same"):
        load_splits(folder)


def write_splits(folder, train, test):
    """Write tables of the images 0 and 1, and of the image 2, and return both data sets."""
    write(folder / "train.csv", train)
    write(folder / "test.csv", test)
    splits = load_splits(folder)
    assert [image.flat[0] for split in (splits.train, splits.test) for image in split.images] == [0, 1, 2]
    return splits.train, splits.test


@pytest.mark.parametrize(
    ("train", "test", "kind", "classes", "label"),
    [
        (TAGS[:3], [TAGS[0], ("2", 0, 1)], "tags", ("cat", "dog"), [0, 1]),
        (named("b|a", "a"), [("image", "tags"), ("2", "b")], "tags", ("a", "b"), [0, 1]),
        (
            named("big dog,cat", "cat"),
            [("image", "tags"), ("2", "big dog")],
            "tags",
            ("big dog", "cat"),
            [1, 0],
        ),
        (named("1 0", "0"), [("image", "tags"), ("2", "1")], "tags", ("0", "1"), [0, 1]),
        (NUMBERS[:3], [NUMBERS[0], ("2", "7")], "values", ("price",), [7]),
        (NUMBERS[:3], [("", "file", "price"), ("0", "2", "7")], "values", ("price",), [7]),
    ],
)
def test_tables_of_two_splits_are_judged_together(folder, train, test, kind, classes, label):
    for split in write_splits(folder, train, test):
        assert (split.kind, split.classes) == (kind, classes)
    assert split.labels.tolist() == [label]


def test_a_table_of_another_kind_is_named(folder):
    write(folder / "labels.csv", NUMBERS)
    write(folder / "other.csv", [("file", "color"), ("0", "red"), ("1", "blue"), ("2", "red")])
    assert load_splits(folder).train.notes[0] == "other.csv: left out, as its labels (color) are not values"


@pytest.mark.parametrize(
    ("rows", "classes", "labels"),
    [
        ([("image", "score", "label"), ("0", 0.9, "a"), ("1", 0.7, "b"), ("2", 0.5, "a")], ("a", "b"), [0, 1, 0]),
        ([("image", "label", "score"), ("0", 3, 0.5), ("1", 4, 0.7), ("2", 3, 0.9)], ("3", "4"), [0, 1, 0]),
    ],
)
def test_a_score_next_to_a_label_is_not_the_label(folder, rows, classes, labels):
    assert labels_by_image(folder, rows) == ("classes", classes, labels)


def test_an_image_of_several_lines_is_used_once(folder):
    write(folder / "train.csv", [("image", "label"), ("0", "a"), ("0.png", "a"), ("1", "b"), ("2", "a")])
    write(folder / "train_folds.csv", [("image", "label", "fold"), ("0", "a", 0), ("1", "b", 1)])
    write(folder / "test.csv", [("image", "label"), ("2", "a")])
    splits = load_splits(folder)
    assert [image.flat[0] for image in splits.train.images] == [0, 1]
    assert [image.flat[0] for image in splits.test.images] == [2]
    assert splits.train.labels.tolist() == [0, 1]
    assert {
        "train.csv: 2 of 4 lines name an image again, the first of them '0.png'; each image is used once",
        "train_folds.csv: 2 of 2 lines name an image again, the first of them '0'; each image is used once",
    } <= set(splits.train.notes)


def test_one_image_with_two_labels_is_rejected(folder):
    write(folder / "train.csv", [("image", "label"), ("0", "a"), ("1", "b"), ("0.png", "b")])
    with pytest.raises(DataError, match=r"train.csv, line 4: another label for .*0.png than in .*train.csv, line 2"):
        load_splits(folder)


@pytest.mark.parametrize("values", [[1e39, 1.0], [1.0, -1e300]])
def test_targets_beyond_float32_are_rejected(values):
    images = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"the label of image [01] is not finite in float32"):
        nc.data.Dataset.from_arrays(images, np.array(values))


def test_a_named_set_has_no_tags():
    with pytest.raises(nc.ArgumentError, match="digits has classes, not tags; pass a folder of images with a CSV file"):
        nc.data.load("digits", labels="tags")


def test_tags_and_numbers_are_described(folder):
    for rows, text in ((TAGS, "2 tags: cat (1), dog (1)"), (NUMBERS, "1 number: price (-2000 to 7)")):
        write(folder / "labels.csv", rows)
        assert describe({"training": load_splits(folder).train}).startswith("2 training images, 8×8×1, ")
        whole = nc.data.folder.read_folder(folder).train
        assert describe({"training": whole}).endswith(text.replace("dog (1)", "dog (2)"))
