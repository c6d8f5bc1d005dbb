"""``--task segment`` and ``detect`` through the command line: train, resume, eval, predict, verify, plot, preview."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc
from numbacnn.data import read_mask

OPTIONS = ("--epochs", 2, "--batch-size", 8, "--scenes", 24, "--size", 32, "--validation", 0.25, "-q")
NAMES = {"segment": "mean IoU", "detect": "mAP@0.5"}
SCORES = {"segment": "mean_iou", "detect": "map_50"}
TASKS = pytest.mark.parametrize("task", list(NAMES))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run per task, named after it and trained on a few scenes; and the outputs of the commands."""
    folder, printed = tmp_path_factory.mktemp("runs"), {}
    for task in NAMES:
        outcome = numbacnn("train", "--task", task, *OPTIONS, "--augment", "rotate=10, hflip", "--out", folder / task)
        assert outcome.code == 0, outcome.err
        printed[task] = outcome.out
    return folder, printed


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@TASKS
def test_files_of_a_run(runs, task):
    folder, printed = runs
    assert f"test {NAMES[task]}" in printed[task]
    config = tomllib.loads((folder / task / "config.toml").read_text())
    assert (config["task"], config["size"], config["scenes"]) == (task, 32, 24)
    assert config["model"] == {"segment": "unet_small", "detect": "grid_detector"}[task]
    provenance = tomllib.loads((folder / task / "provenance.toml").read_text())
    assert provenance["results"]["test"][SCORES[task]] >= 0
    assert "validation_score" in (folder / task / "metrics.csv").read_text()
    assert nc.load(folder / task / "model.safetensors").task == task


@TASKS
def test_eval_agrees_with_the_provenance(runs, task):
    run = runs[0] / task
    provenance = tomllib.loads((run / "provenance.toml").read_text())
    found = json.loads(numbacnn("eval", run, "--json", "--report").out)
    for name, value in provenance["results"]["test"].items():
        assert found[name] == value
    assert len(found["classes"]) == {"segment": 11, "detect": 10}[task]
    shown = numbacnn("eval", run, "--report").out
    assert shown.startswith(NAMES[task])
    assert {"segment": "IoU", "detect": "AP@0.5:0.95"}[task] in shown
    rejected("--top-k is for classifiers", "eval", run, "--top-k", 2, code=2)


@TASKS
def test_verify_checks_the_score(runs, task):
    outcome = numbacnn("verify", runs[0] / task)
    assert outcome.code == 0, outcome.err
    assert f"{NAMES[task]} of model.safetensors" in outcome.out


@TASKS
def test_two_resumed_runs_are_equal(runs, task):
    part = numbacnn(
        "train", "--task", task, *OPTIONS[2:], "--epochs", 1, "--augment", "rotate=10, hflip", "--out", "part"
    )
    assert part.code == 0, part.err
    shutil.copytree("part", "again")
    # The schedule spans all epochs, so the resumed run differs from an uninterrupted one of two epochs.
    for out in ("part", "again"):
        assert numbacnn("train", "--out", out, "--resume", "--epochs", 2, "-q").code == 0
    one, other = (nc.load(f"{out}/model.safetensors").parameters for out in ("part", "again"))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    rejected("was started with task", "train", "--out", "part", "--resume", "--task", "classify")


def picture(path, size):
    Image.fromarray(np.random.default_rng(0).integers(0, 60, size).astype(np.uint8)).save(path)


def test_predicted_masks_have_the_sizes_of_their_images(runs):
    picture("a.png", (48, 40))
    run = runs[0] / "segment"
    found = json.loads(numbacnn("predict", run, "a.png", "--out", "masks", "--json").out)
    (prediction,) = found["predictions"]
    assert prediction["mask"] == "masks/a.png"
    assert sum(item["share"] for item in prediction["shares"]) == pytest.approx(1)
    mask = read_mask("masks/a.png")
    assert mask.shape == (48, 40)
    assert mask.max() <= 10
    rejected("masks/a.png: exists already; nothing was written", "predict", run, "a.png", "--out", "masks")
    Path("b").mkdir()
    picture("b/a.png", (48, 40))
    rejected("would be that of two images", "predict", run, "a.png", "b/a.png", "--out", "other")
    shown = numbacnn("predict", run, "a.png").out
    assert shown.startswith("a.png")
    assert "%" in shown


def test_predicted_boxes_are_in_pixels_of_the_image(runs):
    picture("a.png", (64, 128))
    run = runs[0] / "detect"
    found = json.loads(numbacnn("predict", run, "a.png", "--json", "--score-threshold", 0).out)
    boxes = np.array([item["box"] for item in found["predictions"][0]["boxes"]])
    assert len(boxes)
    assert (boxes >= 0).all()
    assert (boxes <= [128, 64, 128, 64]).all()
    assert boxes[:, 2].max() > 64
    assert numbacnn("predict", run, "a.png", "--score-threshold", 1).out == "a.png  nothing found\n"
    assert numbacnn("predict", run, "a.png", "--score-threshold", 0).out.count("a.png") == len(boxes)
    rejected("--out is for the masks", "predict", run, "a.png", "--out", "masks", code=2)


@TASKS
def test_run_on_a_custom_folder(task):
    """Color images of 24×16 pixels with a test set."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("images", "masks"):
            Path("own", split, name).mkdir(parents=True)
        lines = ["image,x0,y0,x1,y1,class"]
        for number in range(8):
            image, mask = draw.integers(0, 99, (24, 16, 3)).astype(np.uint8), np.zeros((24, 16), np.uint8)
            image[4:12, 2:10], mask[4:12, 2:10] = 250, 1
            Image.fromarray(image).save(f"own/{split}/images/{number}.png")
            Image.fromarray(mask).save(f"own/{split}/masks/{number}.png")
            lines.append(f"{number}.png,2,4,10,12,square")
        Path("own", split, "boxes.csv").write_text("\n".join(lines))
    options = ("--data", "./own", "--epochs", 1, "--batch-size", 4, "--validation", 0.25, "--out", "run", "-q")
    outcome = numbacnn("train", "--task", task, *options)
    assert outcome.code == 0, outcome.err
    assert nc.load("run/model.safetensors").input_shape == (24, 16, 3)
    assert numbacnn("eval", "run").code == 0
    assert numbacnn("verify", "run").code == 0
    assert numbacnn("predict", "run", "own/test/images/0.png").code == 0
    rejected(
        "scenes are made only of a named data set",
        "train",
        "--task",
        task,
        "--data",
        "./own",
        "--scenes",
        3,
        "--out",
        "other",
    )


@TASKS
def test_plots(runs, task):
    pytest.importorskip("matplotlib")
    run = runs[0] / task
    picture("a.png", (48, 40))
    for options in (("--count", 2), ("--image", "a.png")):
        assert numbacnn("plot", run, "predictions", *options, "--out", "p.png").code == 0
        assert Path("p.png").stat().st_size > 10_000
    assert numbacnn("plot", run, "curves", "--out", "c.png").code == 0
    assert numbacnn("plot", run, "gradients", "--count", 2, "--out", "g.svg").code == 0


@TASKS
def test_preview_shows_images_and_annotations(task):
    command = ("data", "preview", "--task", task, "--columns", 3, "--rows", 1, "--augment", "rotate=10")
    assert numbacnn(*command, "--out", "grid.png").code == 0
    with Image.open("grid.png") as grid:
        assert grid.size[0] == 4 + 3 * 132
        assert grid.size[1] > 4 + 4 * 132 + 10  # the classes are below
        pixels = np.asarray(grid).astype(int)
    rows = [pixels[4 + 132 * i + 10 * (i > 1) :][:128, 4:132] for i in range(4)]
    colored = [(np.ptp(row, axis=2) > 30).any() for row in rows]
    assert colored == [False, True, False, True]


def test_errors():
    rejected("'sgement' is not one of", "train", "--task", "sgement", "--out", "run", code=2)
    rejected("scenes are made only of a named data set", "train", "--scenes", 3, "--out", "run")
    rejected("have a fixed size", "train", "--size", 30, "--out", "run")
    rejected("unet halves images 3 times", "train", "--task", "segment", "--size", 30, "--scenes", 20, "--out", "run")
    rejected("mixup and cutmix cannot mix masks", "data", "preview", "--task", "segment", "--augment", "mixup")
    rejected("no such folder", "train", "--task", "detect", "--data", "./nowhere", "--out", "run")


def test_plot_of_predictions_rejects_a_classifier():
    pytest.importorskip("matplotlib")
    nc.models.lenet5().save("m.safetensors")
    rejected("use mistakes for", "plot", "m.safetensors", "predictions", "--data", "digits", "--out", "p.png")
