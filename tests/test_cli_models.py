"""``numbacnn eval``, ``predict`` and ``summary``."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image

import numbacnn as nc


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    assert numbacnn("train", "--epochs", 8, "--out", folder, "-q").code == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Image files of test digits: bright on dark as in MNIST, and dark on white at three times the size."""
    folder = tmp_path_factory.mktemp("digits")
    _, test = nc.data.load("digits")
    for number in range(10):
        image = test.images[number, :, :, 0]
        Image.fromarray(image).save(folder / f"dark{number}.png")
        Image.fromarray(255 - image).resize((84, 84), Image.Resampling.NEAREST).save(folder / f"paper{number}.png")
    return folder


def test_eval_uses_the_runs_data(run):
    outcome = numbacnn("eval", run, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    _, test = nc.data.load("digits")
    assert {name: result[name] for name in ("loss", "accuracy")} == nc.load(run / "model.safetensors").evaluate(test)
    assert (result["data"], result["images"]) == ("digits", 360)
    assert result["images_per_second"] > 0


def test_eval_of_a_file_as_text(run, tmp_path):
    assert "the test set of digits" in numbacnn("eval", run / "best.safetensors").out
    copy = tmp_path / "m.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    outcome = numbacnn("eval", copy, "--data", "digits")
    assert outcome.out.startswith("accuracy 9")


def test_eval_matches_classes_by_name(run, tmp_path):
    """A folder with some of the classes only: their numbers differ from the model's."""
    _, test = nc.data.load("digits")
    for name in "38":
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            for n, index in enumerate(np.flatnonzero(test.labels == int(name))):
                Image.fromarray(test.images[index, :, :, 0]).save(tmp_path / split / name / f"{n}.png")
    result = json.loads(numbacnn("eval", run, "--data", tmp_path, "--json").out)
    assert result["accuracy"] > 0.8


def predicted(outcome):
    assert outcome.code == 0, outcome.err
    return [item["classes"][0]["class"] for item in json.loads(outcome.out)["predictions"]]


def test_predict_handles_size_and_polarity(run, digits):
    dark = numbacnn("predict", run, *sorted(digits.glob("dark*")), "--json", "--polarity", "auto")
    paper = numbacnn("predict", run, *sorted(digits.glob("paper*")), "--json", "--polarity", "auto")
    assert dark.err == ""
    assert predicted(dark) == predicted(paper)
    assert predicted(numbacnn("predict", run, *sorted(digits.glob("paper*")), "--json", "--polarity", "invert"))
    assert "paper3.png: scaled from 84×84 to 28×28" in paper.err
    assert "paper3.png: inverted" in paper.err


def test_predict_keeps_the_polarity_by_default(run, digits):
    outcome = numbacnn("predict", run, digits / "paper0.png")
    assert "inverted" not in outcome.err
    assert "unlike the training images; --polarity auto inverts them" in outcome.err


def test_polarity_is_kept_where_brightness_means_something(tmp_path, rng):
    """More dark images than bright ones: the mean is below 0.5, but a bright image is not an inverted one."""
    for split, count in (("train", 30), ("test", 6)):
        for name, level, number in (("soot", 50, count), ("chalk", 205, count // 2)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                image = rng.normal(level, 15, (28, 28)).clip(0, 255).astype(np.uint8)
                Image.fromarray(image).save(tmp_path / split / name / f"{i}.png")
    trained = numbacnn("train", "--data", tmp_path, "--epochs", 5, "--out", tmp_path / "run", "-q")
    assert trained.code == 0, trained.err
    chalk = sorted((tmp_path / "test/chalk").glob("*.png"))
    for options in ([], ["--polarity", "auto"], ["--polarity", "keep"]):
        outcome = numbacnn("predict", tmp_path / "run", *chalk, "--json", *options)
        assert predicted(outcome) == ["chalk"] * 3
        assert outcome.err == ""
    assert predicted(numbacnn("predict", tmp_path / "run", *chalk, "--json", "--polarity", "invert")) == ["soot"] * 3
    scores = [numbacnn("eval", tmp_path / "run", "--json", "--polarity", p).out for p in ("keep", "auto", "invert")]
    assert [json.loads(score)["accuracy"] for score in scores] == [1, 1, 0]


def test_predict_agrees_with_the_model(run, digits):
    outcome = numbacnn("predict", run, digits / "dark4.png", "--top", 99, "--json")
    (item,) = json.loads(outcome.out)["predictions"]
    _, test = nc.data.load("digits")
    expected = nc.load(run / "model.safetensors").predict(test.images[4:5])[0]
    assert {row["class"]: row["probability"] for row in item["classes"]} == {
        str(n): float(p) for n, p in enumerate(expected)
    }
    probabilities = [row["probability"] for row in item["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_predict_as_text(run, digits):
    outcome = numbacnn("predict", run, digits / "dark1.png", digits / "dark2.png", "--top", 1)
    assert [len(line.split()) for line in outcome.out.splitlines()] == [4, 4]


def test_summary_of_a_name_a_file_and_a_run(run):
    named = numbacnn("summary", "lenet5")
    assert "61,706 parameters" in named.out
    assert numbacnn("summary", run).out == named.out
    result = json.loads(numbacnn("summary", run / "model.safetensors", "--json").out)
    assert result["parameters"] == 61_706
    assert result["rows"][0]["output_shape"] == [28, 28, 6]
    algorithms = result["rows"][0]["algorithms"]  # nobody needs the gradient of the images
    assert algorithms.keys() == {"forward", "weight_gradient"}
    assert all(name in named.out for name in algorithms.values())


def test_best_takes_the_weights_of_the_best_epoch(run):
    best = numbacnn("eval", run, "--best")
    assert best.code == 0, best.err
    assert json.loads(numbacnn("eval", run, "--best", "--json").out)["model"] == str(run / "best.safetensors")
    as_file = json.loads(numbacnn("eval", run / "best.safetensors", "--json").out)
    assert json.loads(numbacnn("eval", run, "--best", "--json").out)["loss"] == as_file["loss"]


def test_best_needs_a_run_with_validated_epochs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nc.models.lenet5().save("m.safetensors")
    rejected("m.safetensors is not the folder of a run", "eval", "m.safetensors", "--best")
    Path("r").mkdir()
    Path("r/config.toml").touch()
    rejected("r has no best.safetensors: no epoch had a validation score", "eval", "r", "--best")


def test_summary_of_an_architecture_with_options():
    shown = json.loads(numbacnn("summary", "resnet20", "--input-shape", "28x28x1", "--classes", 7, "--json").out)
    assert shown["input_shapes"] == [[28, 28, 1]]
    assert shown["rows"][-1]["output_shape"] == [7]
    rejected("unknown option of resnet18 'stm'; did you mean 'stem'?", "summary", "resnet18", "--option", "stm=cifar")
    rejected("'28x' is not a shape; write 32x32x3", "summary", "lenet5", "--input-shape", "28x", code=2)


def test_a_model_of_numbers_predicts_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (8, 8, 1))
    model.fit(pixels, np.random.default_rng(1).normal(size=(16, 2)), epochs=1)
    model.save("numbers.safetensors")
    for label, image in zip("ab", pixels, strict=False):
        Path("images", label).mkdir(parents=True)
        Image.fromarray(image[..., 0]).save(f"images/{label}/0.png")
    expected = model.predict(pixels[:1])[0]
    text = numbacnn("predict", "numbers.safetensors", "images/a/0.png")
    assert text.out.split() == ["images/a/0.png", *(f"{value:.6g}" for value in expected.tolist())]
    table = numbacnn("predict", "numbers.safetensors", "images/a/0.png", "--csv").out.splitlines()
    assert table == ["image,output,value", *(f"images/a/0.png,{i},{float(v)}" for i, v in enumerate(expected))]
    pictures = numbacnn("predict", "numbers.safetensors", "images/a/0.png", "--save-pictures", "drawn")
    assert (pictures.code, "this model predicts numbers" in pictures.err) == (2, True)
    evaluated = numbacnn("eval", "numbers.safetensors", "--data", "images")
    assert evaluated.code == 1
    assert "holds classes (CLASS/…), not values; put a CSV file of values next to the images" in evaluated.err
