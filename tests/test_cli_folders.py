"""Folders of one's own through the command line: other sizes, moved and damaged data, names, text files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc
from numbacnn.runs.settings import Settings
from numbacnn.runs.small_sets import class_weights, folder_defaults

LEVELS = {"dim": 60, "mid": 130, "lit": 200}
TRAIN = ("train", "--model", "lenet5", "--epochs", 1, "--batch-size", 8, "-q")


def put(folder, size=(28, 28), gray=False, count=6):
    for name, level in LEVELS.items():
        Path(folder, name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).normal(level, 9, (*size, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels[..., 0] if gray else pixels).save(Path(folder, name, f"{number}.png"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "data"
    for split in ("train", "val", "test"):
        put(folder / split)
    return folder


@pytest.fixture(scope="module")
def run(data):
    out = data.parent / "run"
    outcome = numbacnn("train", "--data", data, "--epochs", 6, "--batch-size", 8, "--out", out)
    assert outcome.code == 0, outcome.err
    found = "data: 18 training, 18 validation, 18 test images, 28×28×3, 3 classes: dim (6), lit (6), mid (6)\n"
    assert outcome.err.startswith(found)
    return out


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_eval_on_a_test_set_of_another_size_and_other_channels(run):
    whole = json.loads(numbacnn("eval", run, "--json").out)
    for name, options in {"same": {}, "large": {"size": (40, 52)}, "gray": {"gray": True}}.items():
        put(Path(name, "test"), **options)
        outcome = numbacnn("eval", run, "--data", name, "--json")
        assert outcome.code == 0, outcome.err
        found = json.loads(outcome.out)
        assert found["images"] == 18
        assert found["accuracy"] == pytest.approx(whole["accuracy"], abs=0.12)
    assert "18 of 18 images scaled to 28×28" in numbacnn("eval", run, "--data", "large").err
    rejected("holds no training images, only a test set of 18; add train/", *TRAIN, "--data", "./same", "--out", "r")


def test_data_that_has_moved(data):
    shutil.copytree(data, "here")
    assert numbacnn(*TRAIN, "--data", "here", "--out", "run").code == 0
    Path("here").rename("there")
    moved = "if the data of the run has moved, add --data DIR"
    rejected(moved, "eval", "run")
    rejected(moved, "verify", "run")
    rejected(moved, "train", "--out", "run", "--resume", "--epochs", 2)
    assert numbacnn("eval", "run", "--data", "there").code == 0
    outcome = numbacnn("verify", "run", "--data", "there")
    assert (outcome.code, outcome.out.count(" ok")) == (0, outcome.out.count("\n"))
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "--data", "there", "-q").code == 0
    assert numbacnn("verify", "run").code == 0
    Path("there", "train", "dim", "0.png").unlink()
    changed = "there: its train data differs in checksum from that of run"
    rejected(changed, "train", "--out", "run", "--resume", "--epochs", 3, "--data", "there")
    assert "train data: changed" in numbacnn("verify", "run").err


def test_damaged_files(data, run):
    shutil.copytree(data, "own")
    damaged = [Path("own", split, "dim", "3.png") for split in ("train", "val", "test")]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:90])
    outcome = numbacnn(*TRAIN, "--data", "own", "--out", "run")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "3 damaged files for 54 images: own/train/dim/3.png: not a readable image" in outcome.err
    assert all(str(path) in outcome.err for path in damaged)
    assert not Path("run").exists()
    outcome = numbacnn(*TRAIN, "--data", "own", "--out", "run", "--skip-damaged")
    assert outcome.code == 0
    assert "note: 3 damaged files for 54 images, skipped: " in outcome.err
    assert json.loads(numbacnn("eval", "run", "--json").out)["images"] == 17
    assert numbacnn("verify", "run").code == 0
    outcome = numbacnn("predict", run, "own/test/lit/0.png", damaged[2], "own/test/dim/0.png", "nowhere.png")
    assert outcome.code == 1
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["own/test/lit/0.png", "own/test/dim/0.png"]
    assert "2 of 4 files cannot be read: own/test/dim/3.png: not" in outcome.err
    assert "; nowhere.png: no such file" in outcome.err


def test_folder_whose_name_is_not_utf_8(data):
    name = os.fsdecode(b"donn\xe9es")
    shutil.copytree(data, name)
    rejected("données is not UTF-8; rename the folder", *TRAIN, "--data", name, "--out", "run")


def test_run_that_was_stopped_before_it_began():
    Path("run").mkdir()
    Path("run", "config.toml").touch()
    rejected("config.toml is empty: the run was stopped before it began", "train", "--out", "run", "--resume")
    Path("run", "model.safetensors").touch()
    rejected("config.toml is empty", "eval", "run", code=1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_files_with_a_byte_order_mark(data, encoding):
    Path("config.toml").write_text(f"epochs = 1\ndata = '{data}'\r\nbatch-size = 8\n", encoding=encoding)
    assert numbacnn("train", "--config", "config.toml", "--out", "run", "-q").code == 0
    Path("own", "images").mkdir(parents=True)
    for number in range(5):
        Image.new("L", (64, 64), number).save(f"own/images/{number}.png")
    lines = ["image,x0,y0,x1,y1,class", *(f"{number}.png,1,1,9,9,cup" for number in range(5))]
    Path("own", "boxes.csv").write_text("\r\n".join(lines), encoding=encoding)
    Path("own", "classes.txt").write_text("cup\r\nplate\r\n", encoding=encoding)
    outcome = numbacnn("train", "--data", "own", "--epochs", 1, "--validation", 0, "--out", "boxes")
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("data: 4 training, 1 test images, 64×64×1, 4 boxes of 2 classes: cup (4), pl")


def test_ignored_value_of_masks():
    for kind in ("images", "masks"):
        Path("own", kind).mkdir(parents=True)
    mask = np.kron(np.array([[1, 2], [3, 3]], np.uint8), np.ones((16, 16), np.uint8))
    for number in range(8):
        Image.fromarray(mask * 60).save(f"own/images/{number}.png")
        Image.fromarray(mask).save(f"own/masks/{number}.png")
    options = ("--epochs", 1, "--batch-size", 4, "--validation", 0, "--ignore-index", 3, "--out", "run")
    outcome = numbacnn("train", "--data", "own", *options)
    assert outcome.code == 0, outcome.err
    assert "32×32×1, 3 classes: 0 (0.0 %), 1 (50.0 %), 2 (50.0 %)\n" in outcome.err
    assert "3 is void: 50.0 % of the pixels do not count" in outcome.err
    rows = json.loads(numbacnn("eval", "run", "--report", "--json").out)["classes"]
    assert [row["pixels"] for row in rows] == [0, 256 * 2, 256 * 2]


def small_set_of_masks(count, side=16):
    """Squares of 3×3 pixels, 3.5 % of an image, on noise."""
    for kind in ("images", "masks"):
        Path("own", kind).mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        image, mask = draw.integers(40, 140, (side, side)).astype(np.uint8), np.zeros((side, side), np.uint8)
        top, left = draw.integers(0, side - 3, 2)
        image[top : top + 3, left : left + 3], mask[top : top + 3, left : left + 3] = 190, 255
        Image.fromarray(image).save(f"own/images/{number}.png")
        Image.fromarray(mask).save(f"own/masks/{number}.png")


def test_small_set_of_masks_gets_past_the_background():
    small_set_of_masks(16)
    outcome = numbacnn("train", "--data", "own", "--out", "run", "--json")
    assert outcome.code == 0, outcome.err
    chosen = "note: chosen for this number of training images: --batch-size 4 --epochs 75 --class-weights sqrt\n"
    assert chosen in outcome.err
    assert json.loads(outcome.out)["test"]["mean_iou"] > 0.7  # background everywhere has 0.48
    rejected("class-weights sqrt, not equal", "train", "--out", "run", "--resume", "--class-weights", "equal")


def test_set_that_is_too_small_to_validate_on():
    put("own", count=2)
    rejected("10 % of 5 images leave the training or the validation set empty; change --v", *TRAIN, "--data", "own")


def test_defaults_of_small_sets():
    small_set_of_masks(70)
    assert folder_defaults("own", "segment") == {"batch_size": 8, "epochs": 34, "class_weights": "sqrt"}
    assert folder_defaults("own", "classify") == folder_defaults("digits", "segment") == {}
    settings = Settings.resolve({"data": "own", "epochs": 2})
    assert (settings.task, settings.epochs, settings.batch_size) == ("segment", 2, 8)
    assert Settings.resolve({"task": "segment"}).class_weights is None


def test_class_weights_are_those_of_scikit_learn():
    compute_class_weight = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    labels = np.random.default_rng(0).choice(3, 100, p=[0.7, 0.2, 0.1])
    data = nc.data.Dataset.from_arrays(np.zeros((100, 2, 2), np.uint8), labels, ["a", "b", "c", "none"])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(data, "balanced"), [*expected, 0])
    root = np.sqrt(expected)
    np.testing.assert_allclose(class_weights(data, "sqrt"), [*root / root[labels].mean(), 0])
