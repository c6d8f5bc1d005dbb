"""Labels that are rows of numbers: values to regress, and tags."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.errors import ArgumentError

X = np.random.default_rng(0).uniform(0, 255, (40, 4, 4, 1)).astype(np.uint8)
HALVES = np.stack([X[:, :2].mean(axis=(1, 2, 3)), X[:, 2:].mean(axis=(1, 2, 3))], axis=1) / 255


def net(outputs, *last):
    return nc.Sequential([nc.Flatten(), nc.Dense(outputs), *last], (4, 4, 1), seed=0)


@pytest.mark.parametrize("values", [HALVES[:, 0], HALVES[:, :1], HALVES], ids=["row", "column", "two"])
@pytest.mark.parametrize("loss", [None, "huber"])
def test_floats_are_regressed(values, loss, tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics")
    model = net(values.reshape(40, -1).shape[1])
    history = model.fit(X, values, validation=0.25, loss=loss, epochs=150, optimizer=nc.Adam(0.02))
    model.save(tmp_path / "model.safetensors")
    found, y = model.evaluate(X, values, loss=loss), nc.load(tmp_path / "model.safetensors").predict(X)
    truth = values.reshape(y.shape)
    assert found["r2"] == pytest.approx(sklearn.r2_score(truth, y), abs=1e-4)
    assert found["r2"] > 0.9
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(truth, y), rel=1e-4)
    if loss is None:
        assert found["loss"] == pytest.approx(sklearn.mean_squared_error(truth, y), rel=1e-4)
    assert history.best.validation_score > 0.9


@pytest.mark.parametrize("last", [(), (nc.Sigmoid(),)], ids=["logits", "sigmoid"])
def test_rows_of_0_and_1_are_tags(last):
    tags = np.concatenate([HALVES > 0.5, ~(HALVES[:, :1] > 0.5)], axis=1)
    model = net(3, *last)
    history = model.fit(X, tags, validation=(X, tags.astype(int)), epochs=80, optimizer=nc.Adam(0.05))
    found, p = model.evaluate(X, tags.astype(np.float32)), model.predict(X)
    assert p.shape == (40, 3)
    assert found["accuracy"] == pytest.approx(((p > 0.5) == tags).mean())
    assert found["accuracy"] > 0.9
    p = p.astype(np.float64)
    assert found["loss"] == pytest.approx(-np.where(tags, np.log(p), np.log1p(-p)).mean(), rel=1e-3)
    assert history.epochs[-1].accuracy > 0.9
    assert history.epochs[-1].validation_accuracy == found["accuracy"]


def test_constant_values_have_a_score():
    assert net(1).evaluate(X, np.zeros(40))["r2"] == 0


@pytest.mark.parametrize(
    ("labels", "outputs", "message"),
    [
        (
            np.arange(40) / 2,
            10,
            "1 values for each image, for a model whose output is .10,.; numbers of classes",
        ),
        (np.full(40, np.nan), 1, "the label of image 0 is not finite"),
        (np.ones((40, 3), int), 2, "3 classes for a model with 2 outputs"),
        (np.arange(40), 1, "40 classes for a model with 1 outputs; to regress, pass labels as floats"),
    ],
)
def test_rows_that_do_not_fit_are_errors(labels, outputs, message):
    with pytest.raises(nc.NumbacnnError, match=message):
        net(outputs).fit(X, labels)
    with pytest.raises(ArgumentError, match="mixup and cutmix cannot mix values"):
        net(1).fit(X, HALVES[:, 0], augment="mixup")
