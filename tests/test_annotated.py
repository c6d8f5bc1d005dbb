"""Folders of images with masks or boxes: what is read, and what is rejected with one clear line."""

import numpy as np
import pytest
from PIL import Image

import numbacnn as nc
from numbacnn.data import load_folder, read_mask, write_mask
from numbacnn.data.palette import mask_colors
from numbacnn.detection import unpack

HEAD = "image,x0,y0,x1,y1,class\n"


def put(folder, names=("a", "b"), size=(8, 10)):
    """Write images of noise."""
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in names:
        Image.fromarray(draw.integers(0, 256, size).astype(np.uint8)).save(folder / "images" / f"{name}.png")


def mask(folder, name, array, mode=None):
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8), mode).save(folder / "masks" / f"{name}.png")


def masked(folder, size=(8, 10), top=2):
    put(folder, size=size)
    numbers = np.arange(size[0] * size[1]).reshape(size)
    mask(folder, "a", numbers % (top + 1))
    mask(folder, "b", numbers % 2)
    return numbers


def test_masks_and_images(tmp_path):
    numbers = masked(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\ncat\n\ndog\n")
    data, test = load_folder(tmp_path, labels="masks")
    assert test is None
    assert (data.kind, data.classes, data.images.shape) == ("masks", ("ground", "cat", "dog"), (2, 8, 10, 1))
    assert data.labels.dtype == np.uint8
    np.testing.assert_array_equal(data.labels, [numbers % 3, numbers % 2])
    (tmp_path / "classes.txt").unlink()
    assert load_folder(tmp_path, labels="masks")[0].classes == ("0", "1", "2")


def test_test_sets_sizes_and_palettes(tmp_path):
    for split, size in (("train", (8, 10)), ("val", (16, 20))):
        masked(tmp_path / split, size)
    numbers = np.zeros((8, 10), np.uint8)
    numbers[:, 5:] = 2
    write_mask(tmp_path / "train" / "masks" / "a.png", numbers, mask_colors(3))
    np.testing.assert_array_equal(read_mask(tmp_path / "train" / "masks" / "a.png"), numbers)
    train, test = load_folder(tmp_path, labels="masks")
    np.testing.assert_array_equal(train.labels[0], numbers)
    assert test.images.shape == (2, 8, 10, 1)
    assert test.notes == ("2 of 2 images scaled to 8×10, and their masks",)
    large, _ = load_folder(tmp_path, labels="masks", size=(16, 20))
    np.testing.assert_array_equal(large.labels[0], numbers.repeat(2, 0).repeat(2, 1))


def test_black_and_white_masks_have_two_classes(tmp_path):
    put(tmp_path)
    for name in "ab":
        mask(tmp_path, name, 255 * (np.arange(80).reshape(8, 10) % 2))
    data, _ = load_folder(tmp_path, labels="masks")
    assert data.classes == ("0", "1")
    assert set(np.unique(data.labels)) == {0, 1}
    assert "255 is taken as class 1" in data.notes[0]


def test_boxes_follow_the_size_of_their_image(tmp_path):
    put(tmp_path)
    (tmp_path / "boxes.csv").write_text("class, image,x0,y0,x1,y1\n10,b.png,1,2,3.5,8\n\n9,b.png,0,0,10,8\n")
    data, _ = load_folder(tmp_path, labels="boxes", size=(16, 20))
    assert data.classes == ("9", "10")
    first, second = unpack(data.labels)
    assert first.shape == (0, 5)
    np.testing.assert_array_equal(second, [[2, 4, 7, 16, 1], [0, 0, 20, 16, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: mask(f, "a", np.zeros((8, 9))), r"masks/a.png: 8×9, but its image .*a.png is 8×10; both"),
        (lambda f: (f / "masks" / "b.png").unlink(), r"images/b.png: has no mask, like 1 of 2 images; add .*b.png"),
        (lambda f: (f / "classes.txt").write_text("x\ny\n"), "masks/a.png: holds class 2; the 2 classes go from 0"),
        (lambda f: (f / "classes.txt").write_text("x\nx\n"), "list the name of each class once"),
        (lambda f: (f / "classes.txt").write_bytes(b"\xff\x00\xff"), "classes.txt: not text in UTF-8"),
        (lambda f: (f / "masks" / "b.png").write_bytes(b"no"), "masks/b.png: not an image"),
        (lambda f: (f / "masks").rename(f / "m"), "holds 2 .png in images/, 2 .png in m/"),
        (lambda f: (f / "images").rename(f / "i"), "no data set in this folder; it holds 2 .png in i/"),
        (lambda f: [file.unlink() for file in (f / "images").iterdir()], "no data set in this folder; it holds 2 .png"),
    ],
)  # fmt: skip
def test_invalid_folders_of_masks(tmp_path, change, message):
    masked(tmp_path)
    change(tmp_path)
    with pytest.raises(nc.DataError, match=message):
        load_folder(tmp_path, labels="masks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "boxes.csv, line 1: is ''; expected image,x0,y0,x1,y1,class"),
        ("image,x,y,w,h,class\n", "boxes.csv, line 1: is 'image,x,y,w,h,class'; expected"),
        (HEAD + "a.png,1,2,3,4\n", "boxes.csv, line 2: 5 cells; expected image,x0"),
        (HEAD + "a.png,1,2,3,4,x\nc.png,1,2,3,4,x\n", "boxes.csv, line 3: there is no image 'c.png' in"),
        (HEAD + "\na.png,1,2,three,4,x\n", "boxes.csv, line 3: '1', '2', 'three', '4' are not four numbers"),
        (HEAD + "a.png,1,2,11.1,4,x\n", r"line 2: box \(1, 2, 11.1, 4\) exceeds its image of 8×10"),
        (HEAD + "a.png,-1.1,2,3,4,x\n", "line 2: .* exceeds its image of 8×10"),
        (HEAD + "a.png,3,2,3,4,x\n", r"line 2: box \(3, 2, 3, 4\) is empty; boxes need x0 < x1 and y0 < y1"),
        (HEAD + "a.png,1,2,nan,4,x\n", "line 2: .* is not finite"),
        (HEAD + "a.png,1,2,3,4,\n", "line 2: the class is empty"),
        (HEAD + 'a.png,1,2,3,4,"x\n', "boxes.csv: not a CSV file"),
        (HEAD.encode() + b"\xff\xfe\n", "boxes.csv: not text in UTF-8"),
    ],
)
def test_invalid_csv_files(tmp_path, text, message):
    put(tmp_path)
    (tmp_path / "boxes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(nc.DataError, match=message):
        load_folder(tmp_path, labels="boxes")


def test_other_invalid_folders(tmp_path):
    put(tmp_path)
    (tmp_path / "boxes.csv").write_text(HEAD + "a.png,1,2,3,4,cta\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(nc.DataError, match="line 2: unknown class 'cta'; did you mean 'cat'"):
        load_folder(tmp_path, labels="boxes")
    with pytest.raises(nc.DataError, match=r"holds boxes .*, not classes; is the task to detect"):
        load_folder(tmp_path, labels="classes")
    with pytest.raises(nc.DataError, match=r"holds boxes .*, not masks; is the task to detect"):
        load_folder(tmp_path, labels="masks")
    masked(tmp_path / "both")
    (tmp_path / "both" / "boxes.csv").write_text(HEAD)
    with pytest.raises(nc.DataError, match=r"holds masks .* and boxes .*; choose with --task segment or labels='m"):
        load_folder(tmp_path / "both")
    with pytest.raises(nc.DataError, match="no such folder"):
        load_folder(tmp_path / "nowhere", labels="masks")
    with pytest.raises(nc.ArgumentError, match="scenes are made only of a named data set"):
        nc.data.load(tmp_path, labels="boxes", scenes=3)
