"""``numbacnn train`` with other optimizers and schedules, from weights, frozen, and to another number of classes."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected

import numbacnn as nc
from numbacnn.optimizers import OPTIMIZERS


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sevens():
    """A folder of IDX files: embedded digits of three classes, shrunk to a few."""
    for split, data in zip(("train", "test"), nc.data.load("digits"), strict=True):
        chosen = np.flatnonzero(data.labels >= 7)[:60]
        prefix = "train" if split == "train" else "t10k"
        Path("sevens").mkdir(exist_ok=True)
        nc.data.write_idx(f"sevens/{prefix}-images-idx3-ubyte", data.images[chosen, ..., 0])
        nc.data.write_idx(f"sevens/{prefix}-labels-idx1-ubyte", (data.labels[chosen] - 7).astype(np.uint8))
    return "sevens"


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """A briefly trained model of ten classes."""
    path = tmp_path_factory.mktemp("pretrained") / "digits.safetensors"
    model, (train, _) = nc.models.lenet5(seed=4), nc.data.load("digits")
    model.fit(train.subset(np.arange(200)), epochs=1)
    model.save(path)
    return path


def config(folder):
    return tomllib.loads(Path(folder, "config.toml").read_text())


def arrays(path):
    return {name: np.array(array) for name, array in nc.load(path).parameters.items()}


def assert_same_weights(a, b):
    a, b = arrays(a), arrays(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], name)


FEW = ("--epochs", 1, "--data", "sevens", "-q", "--batch-size", 20)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"sgd"}))  # the default
def test_every_optimizer_trains_and_is_saved_in_the_configuration(optimizer, sevens):
    assert numbacnn("train", *FEW, "--optimizer", optimizer, "--out", "a").code == 0
    assert config("a")["optimizer"] == optimizer
    assert numbacnn("train", "--config", "a/config.toml", "--out", "b", "-q").code == 0
    assert_same_weights("a/model.safetensors", "b/model.safetensors")
    assert config("a") == config("b")


def test_resuming_restores_all_options(sevens):
    options = ("--optimizer", "muon", "--momentum", 0.9, "--clip-norm", 0.5, "--accumulate", 2, "--ema", 0.8,
               "--schedule", "plateau", "--warmup", 0.25)  # fmt: skip
    assert numbacnn("train", *FEW, *options, "--epochs", 2, "--out", "parts").code == 0
    assert numbacnn("train", "--out", "parts", "--resume", "--epochs", 3, "-q", "--warmup", 0.25).code == 0
    found = config("parts")
    assert (found["clip-norm"], found["accumulate"], found["ema"], found["warmup"]) == (0.5, 2, 0.8, 0.25)
    rejected("was started with ema 0.8, not 0.9", "train", "--out", "parts", "--resume", "--ema", 0.9)
    rejected("was started without freeze, not", "train", "--out", "parts", "--resume", "--freeze", "conv*")
    best, last = nc.load("parts/best.safetensors"), nc.load("parts/model.safetensors")
    assert best.parameters.keys() == last.parameters.keys()


def test_label_smoothing_is_that_of_the_loss(sevens):
    options = ("--label-smoothing", 0.1, "--schedule", "constant", "--validation", 0, "--epochs", 2)
    outcome = numbacnn("train", *FEW, *options, "--out", "run", "--json")
    assert outcome.code == 0, outcome.err
    found = config("run")
    assert found["label-smoothing"] == 0.1
    train, test = nc.data.load(sevens)
    model = nc.models.make("lenet5", input_shape=train.images.shape[1:], classes=len(train.classes), seed=found["seed"])
    model.fit(
        train,
        loss=nc.losses.CrossEntropy(label_smoothing=0.1),
        optimizer=nc.optimizers.SGD(found["lr"], momentum=found["momentum"]),
        **{name: found[key] for name, key in [("epochs", "epochs"), ("batch_size", "batch-size"), ("seed", "seed")]},
    )
    model.save("expected.safetensors")
    assert_same_weights("run/model.safetensors", "expected.safetensors")
    assert json.loads(outcome.out)["test"]["loss"] == pytest.approx(model.evaluate(test)["loss"])  # without smoothing
    rejected("takes no label smoothing", "train", *FEW, "--label-smoothing", 0.1, "--loss", "focal", "--out", "other")


def test_resumed_run_with_ema_equals_an_uninterrupted_run(sevens):
    options = (*FEW, "--ema", 0.7, "--accumulate", 2, "--schedule", "constant", "--freeze", "conv2d_1.*")
    assert numbacnn("train", *options, "--epochs", 3, "--out", "whole").code == 0
    assert numbacnn("train", *options, "--epochs", 2, "--out", "parts").code == 0
    assert numbacnn("train", "--out", "parts", "--resume", "--epochs", 3, "-q").code == 0
    assert_same_weights("whole/model.safetensors", "parts/model.safetensors")
    assert_same_weights("whole/best.safetensors", "parts/best.safetensors")


def test_pretrained_weights_with_other_classes(sevens, pretrained):
    options = ("--weights", pretrained, "--freeze", "conv2d_*", "--classes", 3, "--data", sevens, "--epochs", 1)
    outcome = numbacnn("train", *options, "--out", "run", "--json")
    assert outcome.code == 0, outcome.err
    assert (
        f"note: {pretrained}: dense_3.weight, dense_3.bias differ in shape or type and start from new values"
        in outcome.err
    )
    assert json.loads(outcome.out)["parameters"] == nc.models.lenet5(classes=3).store.count
    before, after = arrays(pretrained), arrays("run/model.safetensors")
    for name, array in after.items():
        if name.startswith("conv2d"):
            np.testing.assert_array_equal(array, before[name], name)
    assert after["dense_3.weight"].shape == (84, 3)
    assert not np.array_equal(after["dense_1.weight"], before["dense_1.weight"])
    assert nc.load("run/model.safetensors").normalization == nc.load(pretrained).normalization
    assert config("run")["weights"] == str(pretrained)


def test_resuming_does_not_need_the_initial_weights(sevens, pretrained):
    copy = Path("copy.safetensors")
    copy.write_bytes(pretrained.read_bytes())
    options = (*FEW, "--classes", 3, "--freeze", "conv2d_1.bias, conv2d_2.*", "--schedule", "constant")
    assert numbacnn("train", *options, "--weights", pretrained, "--epochs", 2, "--out", "whole").code == 0
    assert numbacnn("train", *options, "--weights", copy, "--out", "parts").code == 0
    copy.unlink()
    assert numbacnn("train", "--out", "parts", "--resume", "--epochs", 2, "-q").code == 0
    assert_same_weights("whole/model.safetensors", "parts/model.safetensors")


def test_weights_from_the_folder_of_a_run(sevens):
    assert numbacnn("train", *FEW, "--out", "first").code == 0
    assert numbacnn("train", *FEW, "--weights", "first", "--lr", 0, "--out", "second").code == 0
    assert_same_weights("first/model.safetensors", "second/model.safetensors")


def test_weights_must_fit_without_classes(sevens, pretrained):
    fragment = 'mismatched "dense_3.weight" is F32 (84, 10), not F32 (84, 3)'
    rejected(fragment, "train", *FEW, "--weights", pretrained)
    other = ("--model", "simple_cnn", "--classes", 3)
    rejected(
        "none of its tensors has the name, shape and type of a parameter",
        "train",
        *FEW,
        "--weights",
        pretrained,
        *other,
    )
    rejected("no such file", "train", *FEW, "--weights", "nowhere.safetensors")
    Path("text").write_text("no weights")
    rejected("not a safetensors file, or damaged", "train", *FEW, "--weights", "text")


def test_freeze_that_matches_nothing(sevens):
    rejected(
        "freeze: the pattern 'features.*' matches no parameter; there are", "train", *FEW, "--freeze", "features.*"
    )
    rejected("every parameter is frozen", "train", *FEW, "--freeze", "*")


def test_too_few_classes_for_the_data(sevens):
    rejected("3 classes for a model with 2 outputs", "train", *FEW, "--classes", 2)
