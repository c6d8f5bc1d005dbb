"""Pictures of predictions, and fonts that have the characters of class names."""

import csv
import io
import json

import numpy as np
import pytest
from command_line import numbacnn
from PIL import Image, ImageFont

import numbacnn as nc
from numbacnn.data import drawing, fonts
from numbacnn.data.normalization import Normalization, TrainingImages
from numbacnn.data.palette import class_colors
from numbacnn.detection import Detections

NAMES = ("cat", "dog", "bird")
GRAY = np.full((100, 160, 3), 100, np.uint8)


def colored(picture, color):
    """Return a mask of the pixels that have a color."""
    return (picture == color).all(axis=-1)


def test_boxes_have_the_color_of_their_class_and_a_name():
    boxes = np.array([[20, 30, 80, 90], [100, 40, 150, 80]], np.float32)
    found = Detections(boxes, np.array([0, 2]), np.array([0.9, 0.8], np.float32))
    picture = drawing.detected(GRAY, found, NAMES)
    scale, colors = 2, class_colors(3)  # 160 pixels are enlarged to 320
    for (x0, y0, x1, y1), color in zip(boxes.astype(int) * scale, colors[[0, 2]], strict=True):
        inside = np.ones((y1 - y0, x1 - x0), bool)
        inside[3:-3, 3:-3] = False
        assert colored(picture[y0:y1, x0:x1], color)[inside].mean() > 0.8  # names may cover some of it
        assert colored(picture[: y0 - 1], color).sum() > 300  # the name above the box
    assert not colored(picture, colors[1]).any()


def test_names_of_boxes_are_in_the_picture_and_apart():
    boxes = np.array([[0, 0, 40, 30], [2, 0, 42, 32], [150, 95, 160, 100]], np.float32)
    found = Detections(boxes, np.array([0, 1, 2]), np.array([0.9, 0.8, 0.7], np.float32))
    areas = []
    original = drawing._tag

    def tag(*arguments):
        areas.append(original(*arguments))
        return areas[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_tag", tag)
        drawing.detected(GRAY, found, NAMES)
    assert not any(drawing._overlap(a, b) for i, a in enumerate(areas) for b in areas[:i])
    assert all(x0 >= 0 and y0 >= 0 and x1 <= 320 and y1 <= 200 for x0, y0, x1, y1 in areas)


def test_masks_are_blended_and_listed_below():
    mask = np.zeros((100, 160), np.uint8)
    mask[10:40, 20:50] = 2
    picture = drawing.segmented(GRAY, mask, NAMES)
    color = class_colors(2)[1]
    assert picture[50, 80].tolist() == (50 + color // 2).tolist()
    assert picture[20, 40].tolist() == picture[79, 99].tolist() == color.tolist()  # the border
    assert picture[150, 200].tolist() == [100] * 3
    assert colored(picture[200:], color).sum() >= 100  # the legend is below the image
    assert picture.shape[0] > 200


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (1000, 2000), (3, 900)])
def test_pictures_of_any_size(shape):
    image = np.zeros((*shape, 3), np.uint8)
    for picture in (
        drawing.classified(image, [("a" * 100, 0.5), ("ω", 0.25)]),
        drawing.segmented(image, np.zeros(shape, np.uint8), NAMES),
        drawing.detected(image, Detections(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0)), NAMES),
    ):
        assert picture.dtype == np.uint8
        assert max(picture.shape[:2]) < 2000


@pytest.fixture
def dejavu(monkeypatch):
    """A machine with only the fonts of matplotlib."""
    folder = pytest.importorskip("matplotlib").get_data_path() + "/fonts"
    monkeypatch.setattr(fonts, "FOLDERS", (folder,))
    fonts.font_file.cache_clear()
    yield
    fonts.font_file.cache_clear()


def test_a_font_is_found_for_other_scripts(dejavu):
    assert fonts.font_file("abc") is None  # Pillow's own
    for text in ("кошка", "σκύλος", "قط"):
        assert fonts.missing_characters([text]) == ""
        assert fonts.lacking(ImageFont.load_default(20), text) != ""
    assert fonts.missing_characters(["кошка", "猫"]) == "猫"
    assert "no installed font has the characters 猫 of class names" in fonts.note_on_fonts("猫")


def classifier(folder, names):
    model = nc.Sequential([nc.Conv2D(2, 3), nc.GlobalAvgPool2D(), nc.Dense(len(names))], (8, 8, 3))
    model.classes, model.task = names, "classify"
    model.save(folder / "m.safetensors")
    return folder / "m.safetensors"


def images_in(folder, *names, size=(20, 30)):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 20 * i, np.uint8)).save(folder / name)
    return folder


def test_predict_a_folder(tmp_path):
    model, folder = classifier(tmp_path, ("a", "b")), images_in(tmp_path / "in", "x.png", "sub/x.png", "sub/deep/y.jpg")
    (folder / "notes.txt").write_text("no image")
    found = json.loads(numbacnn("predict", model, folder, "--json").out)["predictions"]
    assert [item["image"] for item in found] == [
        str(folder / name) for name in ("x.png", "sub/x.png", "sub/deep/y.jpg")
    ]
    table = list(csv.DictReader(io.StringIO(numbacnn("predict", model, folder, "--csv", "--top", 1).out)))
    assert [row["image"] for row in table] == [item["image"] for item in found]
    best = [item["classes"][0] for item in found]
    assert [(row["class"], float(row["probability"])) for row in table] == [
        (item["class"], item["probability"]) for item in best
    ]
    (tmp_path / "empty").mkdir()
    assert "this folder holds no image files" in numbacnn("predict", model, tmp_path / "empty").err
    assert numbacnn("predict", model, folder, "--csv", "--json").code == 2


def test_a_preview_notes_characters_that_no_font_has(tmp_path, dejavu):
    for name in ("кошка", "猫"):
        images_in(tmp_path / "in", f"{name}/1.png", f"{name}/2.png")
    outcome = numbacnn("data", "preview", "--data", tmp_path / "in", "--out", tmp_path / "preview.png")
    assert outcome.code == 0, outcome.err
    assert "no installed font has the characters 猫" in outcome.err


def test_many_notes_become_one(tmp_path):
    folder = images_in(tmp_path / "in", *(f"{i}.png" for i in range(12)))
    assert numbacnn("predict", classifier(tmp_path, ("a", "b")), folder).err == "note: 12 images scaled to 8×8\n"


def test_pictures_of_classes(tmp_path, dejavu):
    model, folder = classifier(tmp_path, ("кошка", "猫")), images_in(tmp_path / "in", "x.png", "sub/x.jpg")
    outcome = numbacnn("predict", model, folder, "--save-pictures", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "no installed font has the characters 猫" in outcome.err
    assert outcome.out.splitlines()[-2:] == [str(tmp_path / "out" / name) for name in ("x.png", "sub/x.png")]
    with Image.open(tmp_path / "out/sub/x.png") as picture:
        assert picture.height > 200
    again = numbacnn("predict", model, folder, "--save-pictures", tmp_path / "out")
    assert again.code == 1
    assert "x.png: exists already; nothing was written" in again.err


def test_masks_and_boxes_of_letterboxed_images_are_in_pixels_of_the_file(tmp_path):
    """An input of 16×16, an image of 40×80: its 8 rows in the middle are the image."""
    x = nc.Input((16, 16, 1))
    model = nc.Model(x, nc.Conv2D(2, 1, name="c")(x))
    model.set_parameters({"c.weight": np.array([0, 1]).reshape(1, 1, 1, 2) * 10, "c.bias": [0, -5]})
    model.classes, model.task = ("dark", "bright"), "segment"
    model.normalization = Normalization((0.0,), (1.0,), TrainingImages("uint8", 0, 255, fit="letterbox"))
    model.save(tmp_path / "m.safetensors")
    pixels = np.zeros((40, 80), np.uint8)
    pixels[10:30, 20:60] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    options = ["--out", tmp_path / "masks", "--save-pictures", tmp_path / "pictures"]
    outcome = numbacnn("predict", tmp_path / "m.safetensors", tmp_path / "x.png", *options)
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "masks/x.png")), pixels // 255)
    picture = np.asarray(Image.open(tmp_path / "pictures/x.png").convert("RGB"))
    color = class_colors(1)[0]
    np.testing.assert_array_equal(picture[80, 160], 127 + color // 2)
