"""Recipes and ``--augment`` through the command line."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc
from numbacnn.data import write_idx
from numbacnn.runs.settings import RECIPES

RESOLVED = {"data", "model", "epochs", "batch-size", "optimizer", "lr", "schedule", "validation"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(folder):
    return tomllib.loads(Path(folder, "config.toml").read_text())


def small_set(shape, name="small"):
    """Write a folder of IDX files with 40 images of noise."""
    Path(name).mkdir()
    draw = np.random.default_rng(0)
    for split in ("train", "t10k"):
        write_idx(f"{name}/{split}-images-idx{1 + len(shape)}-ubyte", draw.integers(0, 256, (40, *shape), np.uint8))
        write_idx(f"{name}/{split}-labels-idx1-ubyte", np.arange(40, dtype=np.uint8) % 10)
    return f"./{name}"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_complete_and_trains(name):
    table = tomllib.loads(RECIPES[name].read_text("utf-8"))
    assert set(table) >= RESOLVED
    data = small_set((32, 32, 3) if name == "cifar" else (28, 28))
    given = {"data": data, "epochs": 1, "batch-size": 16}
    if table["validation"]:
        given["validation"] = 0.25
    options = [part for key, value in given.items() for part in (f"--{key}", value)]
    outcome = numbacnn("train", "--recipe", name, *options, "--out", "run", "-q")
    assert outcome.code == 0, outcome.err
    expected = table | given | {"data": str(Path(data).resolve())}
    assert {key: config("run")[key] for key in expected} == expected


def test_documented_recipes():
    assert set(RECIPES) == {"mnist-fast", "mnist-best", "fashion", "cifar"}
    outcome = numbacnn("train", "--help")
    assert all(name in outcome.out for name in RECIPES)


def test_another_optimizer_drops_the_options_of_the_recipes_optimizer():
    data = small_set((28, 28))
    options = ("--recipe", "mnist-fast", "--data", data, "--epochs", 1, "--optimizer", "sgd", "--out", "run", "-q")
    assert numbacnn("train", *options).code == 0
    found = config("run")
    assert (found["optimizer"], found["momentum"], found["lr"]) == ("sgd", 0.9, 0.01)
    assert "betas" not in found


def test_flag_over_variable_over_file_over_recipe(monkeypatch):
    data = small_set((28, 28))
    Path("c.toml").write_text(f'data = "{data}"\nepochs = 1\nvalidation = 0.2\nlr = 0.125\nbatch-size = 9\nseed = 5\n')
    monkeypatch.setenv("NUMBACNN_TRAIN_SEED", "6")
    monkeypatch.setenv("NUMBACNN_TRAIN_BATCH_SIZE", "12")
    options = ("--config", "c.toml", "--batch-size", 14)
    assert numbacnn("train", "--recipe", "mnist-best", *options, "--out", "run", "-q").code == 0
    chosen = config("run")
    assert (chosen["batch-size"], chosen["seed"], chosen["lr"], chosen["epochs"]) == (14, 6, 0.125, 1)
    assert chosen["ema"] == 0.999
    monkeypatch.setenv("NUMBACNN_TRAIN_RECIPE", "mnist-best")
    assert numbacnn("train", *options, "--out", "again", "-q").code == 0
    assert config("again") == chosen


def test_invalid_recipes():
    rejected("unknown recipe 'mnist-fats'; did you mean 'mnist-fast'?", "train", "--recipe", "mnist-fats")
    numbacnn("train", "--epochs", 1, "--out", "run", "-q")
    rejected("leave out --recipe", "train", "--resume", "--out", "run", "--recipe", "cifar", code=2)


def test_augmentation_is_saved_and_resumed():
    common = ("--augment", "rotate=10, elastic=10:3, mixup@0.5", "--schedule", "constant", "-q")
    assert numbacnn("train", *common, "--epochs", 2, "--out", "whole").code == 0
    assert numbacnn("train", *common, "--epochs", 1, "--out", "parts").code == 0
    assert numbacnn("train", "--out", "parts", "--resume", "--epochs", 2, "-q").code == 0
    assert config("parts") == config("whole")
    assert config("whole")["augment"] == "rotate=10, elastic=10:3, mixup@0.5"
    whole, parts = (nc.load(f"{run}/model.safetensors").parameters for run in ("whole", "parts"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])
    plain = numbacnn("train", "--schedule", "constant", "--epochs", 2, "--out", "plain", "-q")
    assert plain.code == 0
    assert any((nc.load("plain/model.safetensors").parameters[name] != whole[name]).any() for name in whole)
    rejected("was started with augment rotate=10", "train", "--out", "parts", "--resume", "--augment", "hflip")


def test_invalid_chains():
    rejected("did you mean 'rotate'?", "train", "--augment", "rotat=3", "--out", "run")
    rejected("'rotate' needs a number", "train", "--augment", "rotate", "--out", "run")
    rejected("did you mean 'cutout'?", "data", "preview", "--augment", "cutot=3")


def test_preview_shows_originals_and_epochs():
    command = ("data", "preview", "--augment", "rotate=10", "--columns", 3, "--rows", 2)
    outcome = numbacnn(*command, "--out", "grid.png")
    assert (outcome.code, outcome.out) == (0, "grid.png\n")
    with Image.open("grid.png") as picture:
        assert picture.size == (4 + 3 * 88, 4 + 3 * 88 + 10 + 20)  # with the names of classes
        pixels = np.asarray(picture)
    train, _ = nc.data.load("digits")
    np.testing.assert_array_equal(pixels[5:88:3, 5:88:3, 0], train.images[0, ..., 0])
    seen = nc.augment.apply("rotate=10", train.images[:1], epoch=1).images
    np.testing.assert_array_equal(pixels[191:274:3, 5:88:3, 0], seen[0, ..., 0])
    assert numbacnn("data", "preview", "--data", small_set((32, 32, 3)), "--out", "plain.jpg").code == 0
    with Image.open("plain.jpg") as picture:
        assert picture.size == (4 + 10 * 100, 104 + 20)


def test_invalid_previews():
    rejected("grid.txt: choose a file name that ends in .png", "data", "preview", "--out", "grid.txt")
    rejected("nowhere: there is no such folder", "data", "preview", "--out", "nowhere/grid.png")
