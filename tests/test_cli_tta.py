"""``--tta`` of ``numbacnn train``, ``eval`` and ``predict``: predictions averaged over views of each image."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from command_line import numbacnn, rejected

import numbacnn as nc

TTA = "crop=1, hflip"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was trained with --tta, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "views"
    outcome = numbacnn("train", "--epochs", 1, "--batch-size", 64, "--tta", TTA, "--out", folder, "--json")
    assert outcome.code == 0, outcome.err
    return folder, json.loads(outcome.out)


def scored(folder, tta):
    return nc.load(folder / "model.safetensors").evaluate(nc.data.load("digits")[1], tta=tta)


def test_results_are_averaged_and_verified(run):
    folder, results = run
    expected = scored(folder, TTA)
    assert expected["loss"] != scored(folder, None)["loss"]
    assert (results["test"]["loss"], results["test"]["accuracy"]) == (expected["loss"], expected["accuracy"])
    best = nc.load(folder / "best.safetensors").evaluate(nc.data.load("digits")[1], tta=TTA)
    assert results["best"]["test"]["loss"] == best["loss"]
    assert tomllib.loads((folder / "config.toml").read_text())["tta"] == TTA
    outcome = numbacnn("verify", folder)
    assert outcome.code == 0, outcome.err


def test_eval_averages_as_the_run_does_by_default(run):
    folder, _ = run
    for given, tta in (((), TTA), (("--tta", "vflip"), "vflip"), (("--tta", ""), None)):
        outcome = numbacnn("eval", folder, *given, "--json", "--report")
        assert outcome.code == 0, outcome.err
        found, model = json.loads(outcome.out), nc.load(folder / "model.safetensors")
        assert found["loss"] == scored(folder, tta)["loss"]
        assert found["confusion_matrix"] == model.report(nc.data.load("digits")[1], tta=tta).confusion.tolist()


def test_predict_averages_with_the_option(run, tmp_path):
    folder, _ = run
    image = nc.data.load("digits")[1].images[0]
    nc.data.write_image(tmp_path / "digit.png", image)
    model = nc.load(folder / "model.safetensors")
    for given, tta in (((), None), (("--tta", TTA), TTA)):
        outcome = numbacnn("predict", folder, tmp_path / "digit.png", *given, "--json")
        assert outcome.code == 0, outcome.err
        (found,) = json.loads(outcome.out)["predictions"]
        assert found["classes"][0]["probability"] == model.predict(image[None], tta=tta).max()


def test_invalid_views_are_rejected_before_training(tmp_path):
    out = ("--out", tmp_path / "other")
    rejected("rotate=10 has no fixed set of views", "train", "--tta", "rotate=10", *out)
    rejected("tta is for models that give one row", "train", "--task", "detect", "--tta", "hflip", *out)
    assert not Path(tmp_path, "other").exists()


def test_models_with_other_outputs_are_rejected(tmp_path):
    detector = nc.models.make("grid_detector", input_shape=(32, 32, 1), classes=2)
    detector.task = "detect"
    detector.save(tmp_path / "detector.safetensors")
    nc.data.write_image(tmp_path / "digit.png", nc.data.load("digits")[1].images[0])
    one_row = "tta is for models that give one row"
    rejected(one_row, "predict", tmp_path / "detector.safetensors", tmp_path / "digit.png", "--tta", "hflip")
    rejected(one_row, "eval", tmp_path / "detector.safetensors", "--data", "digits", "--tta", "hflip")


def test_a_resumed_run_may_average_otherwise(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    outcome = numbacnn("train", "--resume", "--out", folder, "--tta", "vflip", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["test"]["loss"] == scored(folder, "vflip")["loss"]
