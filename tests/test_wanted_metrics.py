"""The argument ``metrics`` of fit and evaluate, and the one that decides which epoch is best."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn, rejected
from sklearn import metrics as sk

import numbacnn as nc
from numbacnn.errors import ArgumentError
from numbacnn.metrics import Metric
from numbacnn.runs.folder import RunFolder

RNG = np.random.default_rng(0)
Y = np.arange(40) % 3
X = RNG.normal(0, 1, (40, 6)).astype(np.float32) + Y[:, None] / 2
TAGS = (RNG.normal(0, 1, (40, 3)) + X[:, :3] > 0.5).astype(int)
VALUES = (X[:, :2] + RNG.normal(0, 0.3, (40, 2))).astype(np.float32)


def net(*end, outputs=3):
    return nc.Sequential([nc.Dense(outputs), *end], (6,), seed=0)


def kept():
    """Return a metric that keeps what it is called with, and the list of these."""
    calls = []
    return (lambda *given: len(calls.append(given) or calls)), calls


# -- what functions get -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "labels", "loss"),
    [
        (net(), Y, None),
        (net(nc.Softmax()), Y, None),
        (net(nc.Softmax()), Y, "mse"),
        (net(nc.Sigmoid()), Y, None),
        (net(outputs=1), Y % 2, None),
        (net(nc.Sigmoid(), outputs=1), Y % 2, None),
        (net(nc.Sigmoid(), outputs=1), Y % 2, "mse"),
        (net(), TAGS, None),
        (net(nc.Sigmoid()), TAGS, None),
        (net(outputs=2), VALUES, None),
    ],
    ids=lambda value: str(value) if not isinstance(value, np.ndarray) else "",
)
def test_functions_get_targets_and_what_predict_returns(model, labels, loss):
    model.fit(X, labels, epochs=1, loss=loss, batch_size=7)
    function, calls = kept()
    found = model.evaluate(X, labels, loss=loss, metrics={"mine": function})
    ((targets, predictions),) = calls
    np.testing.assert_array_equal(targets, labels)
    np.testing.assert_allclose(predictions, model.predict(X), rtol=1e-6, atol=1e-7)
    assert found["mine"] == 1
    assert found | {"mine": 0} == model.evaluate(X, labels, loss=loss) | {"mine": 0}


def masked():
    images = RNG.integers(0, 255, (10, 8, 8, 1)).astype(np.uint8)
    model = nc.Sequential([nc.Conv2D(3, 3, padding="same")], (8, 8, 1), seed=0)
    return model, images, RNG.integers(0, 3, (10, 8, 8))


def test_metrics_of_masks_are_those_of_their_pixels():
    model, images, masks = masked()
    masks[0, 0] = 255
    data = nc.data.Dataset.from_arrays(images, masks, ignore_index=255)
    model.fit(data, epochs=1)
    function, calls = kept()
    found = model.evaluate(data, metrics=["precision", "recall", "f1", function])
    ((targets, predictions),) = calls
    np.testing.assert_array_equal(targets, masks)
    np.testing.assert_allclose(predictions, model.predict(images), rtol=1e-6, atol=1e-7)
    counted = masks != 255
    pair = masks[counted], model.segment(images)[counted]
    assert found["f1"] == pytest.approx(sk.f1_score(*pair, average="macro"))
    assert found["precision"] == pytest.approx(sk.precision_score(*pair, average="macro"))
    assert found["recall"] == pytest.approx(sk.recall_score(*pair, average="macro"))


def test_functions_get_the_boxes_and_the_detections():
    train, _ = nc.data.load("digits")
    scenes = nc.data.make_scenes(train, 4, "boxes", size=32)
    model = nc.models.grid_detector((32, 32, 1), classes=10)
    model.fit(scenes, epochs=1, batch_size=4)
    function, calls = kept()
    found = model.evaluate(scenes, metrics=["map", {"f": function}["f"]])
    ((boxes, detections),) = calls
    np.testing.assert_array_equal(boxes, scenes.labels)
    assert len(detections) == 4
    assert set(found) == {"loss", "accuracy", "map_50", "map", "lambda"}


def test_ignored_images_are_left_out():
    labels = np.where(np.arange(40) < 5, -100, Y)
    data = nc.data.Dataset.from_arrays(X, labels, ["a", "b", "c"], ignore_index=-100)
    model = net()
    model.fit(data, epochs=1)
    expected = sk.f1_score(labels[5:], model.predict(X).argmax(1)[5:], average="macro")
    assert model.evaluate(data, metrics="f1")["f1"] == pytest.approx(expected)


def test_each_of_several_outputs_is_measured():
    x = nc.Input((6,))
    model = nc.Model(x, [nc.Dense(3, name="one")(x), nc.Dense(3, name="two")(x)])
    found = model.evaluate(X, Y, metrics=["f1"])
    assert found["f1"] == found["f1.one"]
    assert found["f1"] != found["f1.two"]


# -- names ------------------------------------------------------------------------------------------------------------


def test_named_metrics_of_classes():
    model = net()
    model.fit(X, Y, epochs=2)
    scores = model.predict(X)
    found = model.evaluate(X, Y, metrics=["accuracy", "precision", "recall", "f1", "auc", "top_2", "top3"])
    chosen = scores.argmax(1)
    assert found["accuracy"] == sk.accuracy_score(Y, chosen)
    assert found["precision"] == pytest.approx(sk.precision_score(Y, chosen, average="macro", zero_division=0))
    assert found["recall"] == pytest.approx(sk.recall_score(Y, chosen, average="macro"))
    assert found["f1"] == pytest.approx(sk.f1_score(Y, chosen, average="macro"))
    rows = scores.astype(np.float64)
    expected = sk.roc_auc_score(Y, rows / rows.sum(1, keepdims=True), multi_class="ovr")
    assert found["auc"] == pytest.approx(expected)
    assert found["top_2"] == pytest.approx(sk.top_k_accuracy_score(Y, scores, k=2))
    assert found["top3"] == 1


def test_named_metrics_of_tags_and_values():
    model = net()
    model.fit(X, TAGS, epochs=2)
    probabilities = model.predict(X)
    found = model.evaluate(X, TAGS, metrics=["precision", "recall", "f1", "auc"])
    chosen = probabilities > 0.5
    for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(function(TAGS, chosen, average="macro", zero_division=0)), name
    assert found["auc"] == pytest.approx(sk.roc_auc_score(TAGS, probabilities))
    model = net(outputs=2)
    model.fit(X, VALUES, epochs=2)
    outputs = model.predict(X)
    found = model.evaluate(X, VALUES, metrics=["mae", "mse", "rmse", "r2"])
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(VALUES, outputs))
    assert found["mse"] == pytest.approx(sk.mean_squared_error(VALUES, outputs))
    assert found["rmse"] == pytest.approx(math.sqrt(found["mse"]))
    assert found["r2"] == pytest.approx(sk.r2_score(VALUES, outputs))


def test_a_function_of_the_package_is_the_metric_of_its_name():
    model = net()
    assert model.evaluate(X, Y, metrics=[nc.metrics.f1]) == model.evaluate(X, Y, metrics="f1")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["f2"], "unknown metric 'f2'.*known: accuracy, precision, recall, f1, auc, top_5"),
        (["acc"], "that is 'accuracy' here"),
        (["mae"], "unknown metric 'mae'"),
        ("top_4", "metric 'top_4': the model has 3 classes"),
        ([3], "3 is neither a name nor a function"),
        (["f1", "f1"], "2 metrics are called f1"),
        ({"loss": max}, "loss is another measure"),
        ({"f1": max}, "f1 is another measure"),
        ({"mine": lambda t, p: t[99]}, r"the metric mine, .* \(40,\) and \(40, 3\), raised IndexError"),
        ({"mine": lambda t, p: "high"}, "the metric mine.*ValueError: could not convert"),
    ],
)
def test_what_is_no_metric_is_an_error_in_one_line(metrics, message):
    with pytest.raises(ArgumentError, match=message):
        net().evaluate(X, Y, metrics=metrics)


# -- in a training ----------------------------------------------------------------------------------------------------


def test_the_history_has_the_metrics_of_the_validation_data():
    model, after = net(), []

    def measure(event):
        if isinstance(event, nc.EpochEnd):
            after.append(model.evaluate(X, Y, metrics="f1")["f1"])

    history = model.fit(X, Y, validation=(X, Y), metrics=["f1"], callbacks=[measure])
    assert [record.metrics["f1"] for record in history.epochs] == after
    assert history.epochs[0].numbers()["validation_f1"] == after[0]


def test_without_validation_data_metrics_are_those_of_the_training_set():
    model = net(outputs=2)
    history = model.fit(X, VALUES, metrics=["rmse"])
    assert history.epochs[-1].metrics == {"rmse": model.evaluate(X, VALUES, metrics=["rmse"])["rmse"]}
    assert "training_rmse" in history.epochs[0].numbers()
    assert history.best is None


@pytest.mark.parametrize(
    ("labels", "outputs", "functions"),
    [
        (Y, 3, [nc.metrics.accuracy, nc.metrics.f1, Metric("auc", nc.metrics.auc)]),
        (VALUES, 2, [nc.metrics.mae, nc.metrics.r2, nc.metrics.rmse]),
    ],
)
def test_functions_of_the_library_are_the_measures_of_their_names(labels, outputs, functions):
    model = net(outputs=outputs)
    names = [each.name if isinstance(each, Metric) else each.__name__ for each in functions]
    expected = model.evaluate(X, labels, metrics=names)
    assert model.evaluate(X, labels, metrics=functions) == expected
    if outputs == 2:
        assert model.evaluate(X, labels, metrics={"mae": nc.metrics.mae})["mae"] == expected["mae"]


def test_monitor_decides_which_epoch_is_best_and_when_to_stop():
    values = iter([0.5, 0.3, 0.1, 0.4, 0.2, 0.6])
    falling = Metric("error", lambda targets, predictions: next(values), lower_is_better=True)
    history = net().fit(
        X, Y, validation=0.25, epochs=6, metrics=[falling], monitor="val_error", callbacks=[nc.EarlyStopping(2)]
    )
    assert (history.best.epoch, len(history.epochs), history.since_best) == (3, 5, 2)
    values = iter([0.5, math.nan, 0.7, 0.4])
    rising = net().fit(X, Y, validation=0.25, epochs=4, metrics={"f": lambda t, p: next(values)}, monitor="f")
    assert rising.best.epoch == 3


def test_early_stopping_counts_epochs_whose_monitored_value_is_nan():
    one_tag = X, np.zeros_like(TAGS)  # so that the AUC is not defined
    history = net().fit(X, TAGS, validation=one_tag, epochs=9, monitor="auc", callbacks=nc.EarlyStopping(3))
    assert math.isnan(history.epochs[0].metrics["auc"])
    assert (history.best, len(history), history.since_best) == (None, 3, 3)
    with pytest.raises(ArgumentError, match="pass validation data"):
        net().fit(X, Y, callbacks=nc.EarlyStopping(3))


def test_monitor_is_the_loss_or_a_metric_that_is_then_measured():
    history = net().fit(X, Y, validation=0.25, epochs=4, monitor="loss")
    assert history.best.validation_loss == min(record.validation_loss for record in history.epochs)
    history = net().fit(X, Y, validation=0.25, epochs=4, monitor="f1")
    assert history.best.metrics["f1"] == max(record.metrics["f1"] for record in history.epochs)
    with pytest.raises(ArgumentError, match="monitor='f1' is measured on validation data"):
        net().fit(X, Y, monitor="f1")
    with pytest.raises(ArgumentError, match="unknown metric 'f3'"):
        net().fit(X, Y, validation=0.25, monitor="f3")


def test_the_line_of_an_epoch_has_the_metrics(capsys):
    net().fit(X, Y, validation=0.25, epochs=1, metrics=["f1"], monitor="f1", progress=True)
    line = capsys.readouterr().err.splitlines()[-1]
    assert ", validation f1 0." in line
    assert line.count("(best)") == 1
    assert "(best)" in line.partition("validation f1")[2]
    net().fit(X, Y, epochs=1, metrics=["f1"], progress=True)
    assert ", training f1 0." in capsys.readouterr().err.splitlines()[-1]


def test_a_resumed_training_goes_on_with_its_metrics(tmp_path):
    options = {"validation": 0.25, "metrics": ["f1"], "monitor": "f1", "checkpoint": tmp_path / "c.safetensors"}
    whole = net().fit(X, Y, epochs=4, **options | {"checkpoint": None})
    net().fit(
        X, Y, epochs=4, **options, callbacks=[lambda event: isinstance(event, nc.EpochEnd) and event.record.epoch == 2]
    )
    resumed = net().fit(X, Y, epochs=4, **options, resume=True)
    assert [record.metrics for record in resumed.epochs] == [record.metrics for record in whole.epochs]
    assert resumed.best.epoch == whole.best.epoch


# -- the command line -------------------------------------------------------------------------------------------------


def test_runs_measure_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--epochs", 2, "--metrics", "f1, top_2", "--monitor", "loss", "--out", "run")
    outcome = numbacnn("train", *options, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert set(found["test"]) == {"images", "loss", "accuracy", "f1", "top_2"}
    assert found["best"]["epoch"] == 1 + np.argmin([record["validation_loss"] for record in found["epochs"]])
    assert "validation f1 0." in outcome.err
    history = RunFolder(Path("run")).read_metrics()
    assert [record.metrics for record in history.epochs] == [record["metrics"] for record in found["epochs"]]
    evaluated = json.loads(numbacnn("eval", "run", "--metrics", "f1,auc", "--json").out)
    assert evaluated["f1"] == found["test"]["f1"]
    assert 0.5 < evaluated["auc"] <= 1
    assert f", f1 {found['test']['f1']:.4f}" in numbacnn("eval", "run", "--metrics", "f1").out
    rejected("unknown metric 'f3'", "eval", "run", "--metrics", "f3")
    rejected("monitor needs validation data", "train", "--monitor", "f1", "--validation", 0, "--out", "other")
