"""Models that end in a softmax or sigmoid, and models with a single output for two classes."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.errors import ArgumentError

L = nc.losses
ENDS = {"softmax": nc.Softmax, "sigmoid": nc.Sigmoid}


def data(classes=3, count=24, seed=0):
    draw = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = draw.normal(90, 30, (count, 5, 5, 1)) + 40 * y[:, None, None, None]
    return nc.data.Dataset.from_arrays(x.clip(0, 255).astype(np.uint8), y)


def net(outputs=3, *last):
    return nc.Sequential([nc.Conv2D(4, 3), nc.ReLU(), nc.Flatten(), nc.Dense(outputs), *last], (5, 5, 1), seed=0)


def segmenter(outputs, *last):
    return nc.Sequential([nc.Conv2D(4, 3, padding="same"), nc.ReLU(), nc.Conv2D(outputs, 1), *last], (5, 5, 1), seed=0)


def masks(classes, count=12):
    draw = np.random.default_rng(1)
    y = draw.integers(0, classes, (count, 5, 5))
    x = (draw.normal(60, 10, y.shape) + 60 * y).clip(0, 255).astype(np.uint8)
    return nc.data.Dataset.from_arrays(x[..., None], y.astype(np.uint8))


LOSSES_OF_LOGITS = [
    L.CrossEntropy(label_smoothing=0.1),
    L.CrossEntropy(class_weights=[1, 2, 3], ignore_index=1),
    L.Focal(),
    L.BinaryCrossEntropy(),
    L.SigmoidFocal(),
    L.Dice(),
    L.Dice("sigmoid"),
]


@pytest.mark.parametrize("loss", LOSSES_OF_LOGITS, ids=repr)
@pytest.mark.parametrize(("make", "given"), [(net, data()), (segmenter, masks(3))], ids=["classify", "segment"])
def test_an_activation_at_the_end_changes_no_bit_of_training_and_evaluation(make, given, loss):
    results = []
    for last in ((), (ENDS[loss.activation](),)):
        model = make(3, *last)
        history = model.fit(given, validation=given, loss=loss, epochs=2, optimizer=nc.Adam(0.01))
        record = history.epochs[-1]
        found = record.loss, record.accuracy, record.validation_loss, record.validation_score
        results.append([found, model.evaluate(given, loss), *(array.tobytes() for array in model.parameters.values())])
    assert results[0] == results[1]


@pytest.mark.parametrize("views", [(), (nc.Flatten(),), (nc.Reshape((1, 1, 3)), nc.Flatten())], ids=len)
def test_layers_that_only_reshape_may_follow_the_activation(views):
    layers = [nc.Conv2D(3, 5), nc.Softmax(), *views]
    results = [
        nc.Sequential(chosen, (5, 5, 1), seed=0).fit(data(), epochs=2).epochs[-1].loss
        for chosen in (layers, [nc.Conv2D(3, 5), nc.Flatten()])
    ]
    assert results[0] == results[1]


def test_the_outputs_of_a_model_that_ends_in_an_activation_stay_probabilities(rng):
    x = rng.normal(size=(4, 5, 5, 1)).astype(np.float32)
    logits, model = net(), net(3, nc.Softmax())
    expected = logits.predict(x)
    assert abs(model.predict(x) - expected).max() < 1e-6
    assert abs(model.forward(x) - expected).max() < 1e-6
    optimizer = nc.SGD(0.1)
    assert model.train_step(x, [0, 1, 2, 0], optimizer) == logits.train_step(x, [0, 1, 2, 0], nc.SGD(0.1))
    y = model.forward(x, training=True)
    assert abs(y.sum(axis=1) - 1).max() < 1e-6
    model.backward(np.ones_like(y))  # the gradient of a sum that is always 1
    assert max(abs(gradient).max() for gradient in model.gradients.values()) < 1e-5


def test_confident_mistakes_have_a_finite_and_true_loss():
    model = net(3, nc.Softmax())
    model.set_parameters({"dense_1.bias": [0, 200, 0], "dense_1.weight": np.zeros((36, 3))})
    x = np.zeros((1, 5, 5, 1), np.uint8)
    assert model.predict(x)[0, 0] == 0  # the probability is not a float32
    assert model.evaluate((x, [0]))["loss"] == 200


def test_every_output_has_its_own_end():
    x = nc.Input((6,))
    h = nc.Dense(5, name="h")(x)
    ends = nc.Softmax(name="kind")(nc.Dense(3, name="a")(h)), nc.Sigmoid(name="big")(nc.Dense(3, name="b")(h))
    logits = nc.Model(x, [nc.Dense(3, name="a")(h), nc.Dense(3, name="b")(h)], auxiliary=[nc.Dense(3, name="c")(h)])
    auxiliary = nc.Softmax()(nc.Dense(3, name="c")(h))
    model = nc.Model(x, list(ends), auxiliary=[auxiliary])
    rng = np.random.default_rng(0)
    images, y = rng.normal(size=(5, 6)).astype(np.float32), np.array([0, 1, 2, 0, 1])
    losses = ["cross_entropy", "binary_cross_entropy"]
    for _ in range(3):
        first = logits.train_step(images, y, nc.SGD(0.1), losses)
        assert model.train_step(images, y, nc.SGD(0.1), losses) == first
    by_name = {"kind": "cross_entropy", "big": "binary_cross_entropy"}
    assert model.train_step(images, y, nc.SGD(0.1), by_name) == logits.train_step(images, y, nc.SGD(0.1), losses)


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        (nc.Softmax, "binary_cross_entropy", 'ends in Softmax "softmax_1", but the loss .* use cross_entropy or focal'),
        (nc.Sigmoid, "cross_entropy", "use binary_cross_entropy or sigmoid_focal"),
        (nc.Sigmoid, "dice", "the loss dice applies softmax itself"),
    ],
)
def test_the_loss_of_another_activation_is_an_error(last, loss, message):
    with pytest.raises(ArgumentError, match=message):
        net(3, last()).fit(data(), loss=loss, epochs=1)
    with pytest.raises(ArgumentError, match=message):
        net(3, last()).evaluate(data(), loss)


def test_the_default_loss_is_that_of_the_end():
    for last, expected in (
        ((), "cross_entropy"),
        ((nc.Softmax(),), "cross_entropy"),
        ((nc.Sigmoid(),), L.BinaryCrossEntropy()),
    ):
        assert net(3, *last).evaluate(data()) == net(3, *last).evaluate(data(), expected)


# -- a single output for two classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [(), (nc.Sigmoid(),)], ids=["logit", "sigmoid"])
@pytest.mark.parametrize(("make", "given"), [(net, data(2)), (segmenter, masks(2))], ids=["classify", "segment"])
def test_one_output_trains_evaluates_and_predicts_two_classes(make, given, last, tmp_path):
    given = nc.data.Dataset.from_arrays(given.images, given.labels, ["low", "high"])
    model = make(1, *last)
    history = model.fit(given, validation=given, epochs=20, optimizer=nc.Adam(0.02), batch_size=7)
    model.save(tmp_path / "model.safetensors")
    for each in (model, nc.load(tmp_path / "model.safetensors")):
        found, probabilities = each.evaluate(given), each.predict(given.images)
        assert probabilities.shape == (*given.labels.shape, 2)
        assert abs(probabilities.sum(axis=-1) - 1).max() < 1e-6
        right = probabilities.argmax(axis=-1) == given.labels
        assert found["accuracy"] == right.mean() > 0.9
        (z,) = each.activations(given.images, ["dense_1" if make is net else "conv2d_2"]).values()
        z = z[..., 0].astype(np.float64)
        assert abs(probabilities[..., 1] - 1 / (1 + np.exp(-z))).max() < 1e-6
        assert found["loss"] == pytest.approx(np.logaddexp(0, np.where(given.labels == 1, -z, z)).mean(), rel=1e-4)
        assert each.class_names == ("low", "high")
    assert history.epochs[-1].accuracy > 0.9
    assert history.epochs[-1].validation_accuracy == found["accuracy"]
    if make is net:
        assert model.report(given).accuracy == found["accuracy"]
        _, up = model.class_gradients(given.images, "conv2d_1", given.labels * 0 + 1)
        _, down = model.class_gradients(given.images, "conv2d_1", given.labels * 0)
        assert abs(up).max() > 0
        assert (up == -down).all()
    else:
        assert (model.segment(given.images) == probabilities.argmax(axis=-1)).all()


def test_accuracy_in_training_is_that_of_a_threshold():
    given, model = data(2), net(1)
    right = (model.predict((given.images / 255 - given.mean) / given.std).argmax(axis=1) == given.labels).mean()
    assert model.fit(given, epochs=1, batch_size=24).epochs[0].accuracy == right
    squares = net(1, nc.Sigmoid())
    squares.fit(given, loss="mse", epochs=30, optimizer=nc.Adam(0.02))
    accuracy = squares.evaluate(given, "mse")["accuracy"]
    assert accuracy == (squares.predict(given.images).argmax(axis=1) == given.labels).mean() > 0.9


def test_one_output_cannot_have_more_classes_or_a_loss_of_several():
    with pytest.raises(ArgumentError, match="3 classes for a model with 1 outputs"):
        net(1).fit(data(3), epochs=1)
    with pytest.raises(
        ArgumentError, match="cross_entropy of 1 class is always 0; for two classes of one output use binary"
    ):
        net(1).fit(data(2), loss="cross_entropy", epochs=1)
    with pytest.raises(ArgumentError, match="mixup and cutmix need an output for each class"):
        net(1).fit(data(2), augment="mixup", epochs=1)
