"""Tags and numbers from a CSV file through the command line: train, resume, eval, predict, verify, plot, errors."""

import csv
import json
import tomllib

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc

OPTIONS = ("--batch-size", 8, "--validation", 0.25, "-q")


def _save(folder, head, label_of):
    """Write 64 images of a bright square, and a CSV file with labels of its size and side."""
    draw, rows = np.random.default_rng(3), []
    (folder / "images").mkdir(parents=True)
    for number in range(64):
        size, right = int(draw.integers(3, 8)), int(draw.integers(2))
        image = np.zeros((16, 16), np.uint8)
        image[4 : 4 + size, 8 * right : 8 * right + size] = 255
        Image.fromarray(image).save(folder / f"images/{number:02}.png")
        rows.append((f"{number:02}.png", *label_of(size, right)))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders "tags" and "sizes" of images, a run on each, and what training printed."""
    folder, printed = tmp_path_factory.mktemp("rows"), {}
    _save(folder / "tags", ("image", "right", "large"), lambda size, right: (right, int(size > 5)))
    _save(folder / "sizes", ("image", "area"), lambda size, right: (1000 + 0.5 * size * size,))
    for name in ("tags", "sizes"):
        outcome = numbacnn("train", "--data", folder / name, "--epochs", 30, *OPTIONS, "--out", folder / f"run-{name}")
        assert outcome.code == 0, outcome.err
        printed[name] = outcome.out
    return folder, printed


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def result(*arguments):
    outcome = numbacnn(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_the_task_follows_from_the_table(runs):
    folder, printed = runs
    assert "test accuracy  " in printed["tags"]
    assert "% of tags" in printed["tags"]
    assert "test R²  " in printed["sizes"]
    for name, task in (("tags", "tag"), ("sizes", "regress")):
        assert tomllib.loads((folder / f"run-{name}/config.toml").read_text())["task"] == task
    assert nc.load(folder / "run-tags/model.safetensors").classes == ("right", "large")


def test_models_learn_and_eval_agrees_with_the_training(runs):
    folder, _ = runs
    for name, score in (("tags", "accuracy"), ("sizes", "r2")):
        run = folder / f"run-{name}"
        found = result("eval", run)
        assert found[score] > 0.9
        trained = tomllib.loads((run / "provenance.toml").read_text())["results"]["test"]
        assert all(found[measure] == value for measure, value in trained.items())
        assert numbacnn("verify", run).code == 0


def test_predictions_are_in_the_units_of_the_table(runs):
    folder, _ = runs
    images = sorted((folder / "sizes/images").glob("*.png"))
    rows = result("predict", folder / "run-sizes", *images)["predictions"]
    with (folder / "sizes/labels.csv").open() as file:
        expected = {row["image"]: float(row["area"]) for row in csv.DictReader(file)}
    values = [row["values"][0]["value"] for row in rows]
    assert rows[0]["values"][0]["output"] == "area"
    assert np.abs(np.array(values) - list(expected.values())).mean() < 4  # of 1004.5 to 1024.5
    model = nc.load(folder / "run-sizes/model.safetensors")
    pixels = np.stack([np.asarray(Image.open(image)) for image in images])
    np.testing.assert_allclose(model.predict(pixels)[:, 0], values, rtol=1e-6)


def test_predicted_tags_are_those_of_at_least_a_half(runs):
    folder, _ = runs
    with (folder / "tags/labels.csv").open() as file:
        truth = [{name for name in ("right", "large") if row[name] == "1"} for row in csv.DictReader(file)]
    rows = result("predict", folder / "run-tags", folder / "tags/images")["predictions"]
    assert all(tag["probability"] >= 0.5 for row in rows for tag in row["tags"])
    right = [{tag["tag"] for tag in row["tags"]} == tags for row, tags in zip(rows, truth, strict=True)]
    assert np.mean(right) > 0.85
    none = next(row["image"] for row in rows if not row["tags"])
    assert numbacnn("predict", folder / "run-tags", none).out == f"{none}  no tag\n"
    assert numbacnn("predict", folder / "run-tags", none, "--csv").out == f"image,tag,probability\n{none},,\n"


def test_reports_have_a_row_for_each_tag_or_number(runs):
    folder, _ = runs
    rows = result("eval", folder / "run-tags", "--report")["classes"]
    assert [row["tag"] for row in rows] == ["right", "large"]
    assert all(row["F1"] > 0.8 for row in rows)
    shown = numbacnn("eval", folder / "run-sizes", "--report").out
    assert "output" in shown
    assert "\narea" in shown


def test_a_resumed_run_equals_one_in_a_piece(runs, tmp_path):
    data = runs[0] / "sizes"
    options = ("--data", data, *OPTIONS, "--schedule", "constant", "--warmup", 0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert numbacnn("train", *options, "--epochs", 2, "--out", whole).code == 0
    assert numbacnn("train", *options, "--epochs", 1, "--out", parts).code == 0
    assert numbacnn("train", "--resume", "--epochs", 2, "--out", parts, "-q").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_a_trained_model_is_a_start_in_the_units_of_other_data(runs, tmp_path):
    folder, _ = runs
    before = result("eval", folder / "run-sizes")["r2"]
    options = ("--data", folder / "sizes", *OPTIONS, "--lr", 0, "--epochs", 1)
    outcome = numbacnn("train", *options, "--weights", folder / "run-sizes", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert result("eval", tmp_path / "run")["r2"] == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("cross_entropy is for one class in each image", "--data tags --loss cross_entropy"),
        ("holds values (images and a CSV file of numbers), not tags", "--data sizes --task tag"),
        ("digits has classes, not tags", "--task tag"),
        ("class-weights works with classes and masks only", "--data sizes --class-weights sqrt --loss cross_entropy"),
        ("label-smoothing works with classes and masks only", "--data sizes --label-smoothing 0.1"),
        ("has to end in a dense layer", "--data sizes --model unet_small"),
    ],
)
def test_what_does_not_fit_is_rejected_before_training(runs, message, arguments):
    folder, _ = runs
    arguments = ["train", *arguments.split()]
    rejected(message, *(folder / each if each in ("tags", "sizes") else each for each in arguments), "--out", "x")


def test_data_with_other_tags_are_rejected(runs, tmp_path):
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    _save(other, ("image", "right", "huge"), lambda size, right: (right, int(size > 5)))
    rejected("the data has right, huge, but the model right, large", "eval", runs[0] / "run-tags", "--data", other)


def test_a_regression_trained_on_arrays_is_evaluated_by_the_order_of_columns(runs, tmp_path):
    one, two = runs[0] / "sizes", tmp_path.with_name(f"{tmp_path.name}-two")
    _save(two, ("image", "area", "size"), lambda size, right: (0.5 * size * size, size))
    for data, file in ((one, "one.safetensors"), (two, "two.safetensors")):
        test = nc.data.load(data)[1]
        model = nc.Sequential([nc.Flatten(), nc.Dense(test.labels.shape[1])], input_shape=(16, 16, 1))
        model.fit((test.images, test.labels), epochs=1, progress=False)
        assert not model.classes
        model.save(file)
        assert result("eval", file, "--data", data)["mae"] == pytest.approx(model.evaluate(test)["mae"])
    assert "compared with the columns in their order: area, size" in numbacnn("eval", file, "--data", two).err
    rejected("has 2 columns of numbers, area, size; the model's outputs: 1", "eval", "one.safetensors", "--data", two)


def test_plots_of_classes_name_the_task(runs):
    pytest.importorskip("matplotlib")
    folder, _ = runs
    assert "task is to tag" in numbacnn("plot", folder / "run-tags", "confusion", "--out", "a.png").err
    assert "the data has values" in numbacnn("plot", folder / "run-sizes", "mistakes", "--out", "a.png").err
    assert numbacnn("data", "preview", "--data", folder / "tags", "--out", "preview.png").code == 0
