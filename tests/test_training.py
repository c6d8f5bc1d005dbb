"""fit, evaluate and predict on small synthetic data."""

import numpy as np
import pytest
from engine import assert_close
from loss_cases import oracle

import numbacnn as nc
from numbacnn.data.normalization import Normalization
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.kernels.reference.softmax import softmax
from numbacnn.training.events import Position
from numbacnn.training.trainer import Trainer


def bright_quadrants(n=96, seed=0, channels=1):
    """8-bit images whose class is the number of their bright quadrant."""
    draw = np.random.default_rng(seed)
    images, labels = draw.integers(0, 120, (n, 8, 8, channels)).astype(np.uint8), draw.integers(0, 4, n)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 110
    return images, labels


def small(seed=0, last=()):
    layers = [nc.Conv2D(4, 3, padding="same"), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(4), *last]
    return nc.Sequential(layers, (8, 8, 1), seed=seed)


def sgd():
    return nc.SGD(0.05, momentum=0.9)


def normalized(model, images):
    x = images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)
    return ((x - np.array(model.normalization.mean)) / np.array(model.normalization.std)).astype(np.float32)


def test_fit_learns_and_records_every_epoch():
    model, data = small(), bright_quadrants()
    validation = bright_quadrants(40, seed=1)
    history = model.fit(data, validation=validation, optimizer=sgd(), epochs=4, batch_size=16)
    assert [record.epoch for record in history.epochs] == [1, 2, 3, 4]
    first, last = history.epochs[0], history.epochs[-1]
    assert last.loss < 0.5 * first.loss
    assert last.accuracy > 0.9
    assert last.validation_accuracy == model.evaluate(validation)["accuracy"] > 0.9
    assert all(record.seconds > 0 and record.images_per_second > 0 for record in history.epochs)
    assert last.learning_rate == 0.05
    assert history.best.validation_accuracy == max(record.validation_accuracy for record in history.epochs)
    assert small().fit(data, epochs=1).epochs[0].validation_loss is None


def test_loss_and_accuracy_of_an_epoch_are_means_over_its_batches():
    """With a learning rate of 0 they equal those of evaluate, also with a smaller last batch."""
    model, data = small(), bright_quadrants(90)
    record = model.fit(data, optimizer=nc.SGD(0.0), epochs=1, batch_size=32).epochs[0]
    found = model.evaluate(data)
    assert record.loss == pytest.approx(found["loss"], rel=1e-6)
    assert record.accuracy == found["accuracy"]
    assert 0 < record.accuracy < 1


def test_ignored_labels_do_not_count_in_the_accuracy():
    """Neither in an epoch's record nor in evaluate."""
    model, (images, labels), loss = small(), bright_quadrants(90), nc.losses.CrossEntropy(ignore_index=3)
    record = model.fit((images, labels), optimizer=nc.SGD(0.0), epochs=1, batch_size=32, loss=loss).epochs[0]
    kept = labels != 3
    expected = model.evaluate((images[kept], labels[kept]))["accuracy"]
    assert 0 < expected != model.evaluate((images, labels))["accuracy"]
    assert record.accuracy == model.evaluate((images, labels), loss)["accuracy"] == expected
    with pytest.raises(nc.ArgumentError, match="each of the 30 labels is ignore_index=3"):
        model.evaluate((images[~kept], labels[~kept]), loss)


def test_fit_is_reproducible_and_depends_on_the_seed():
    weights = []
    for seed in (0, 0, 1):
        model = small()
        model.fit(bright_quadrants(), epochs=2, batch_size=16, seed=seed)
        weights.append(model.parameters["dense_1.weight"].copy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 0


def test_evaluate_matches_the_oracle_and_predict_gives_probabilities():
    model, (images, labels) = small(), bright_quadrants(70)
    model.fit((images, labels), epochs=1, batch_size=16)
    logits = model.forward(normalized(model, images)).astype(np.float64)
    found, expected = model.evaluate((images, labels)), oracle("cross_entropy", logits, np.eye(4)[labels])[0]
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["accuracy"] == np.mean(logits.argmax(1) == labels)
    np.testing.assert_allclose(model.predict(images, batch_size=32), softmax(logits), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.predict(images, batch_size=70), model.predict(images, batch_size=1))
    squared = model.evaluate((images, labels), loss="mse")["loss"]
    assert squared == pytest.approx(oracle("mse", logits, np.eye(4)[labels])[0], rel=1e-4)


@pytest.mark.parametrize("last", [nc.Softmax, nc.Sigmoid])
def test_predict_applies_softmax_only_to_logits(last):
    model, (images, _) = small(last=[last()]), bright_quadrants(5)
    assert_close(model.predict(images), model.forward(images / np.float32(255)), "predict", 1e-6)


def test_predict_takes_one_image_and_gray_images_without_channel():
    model, (images, _) = small(), bright_quadrants(5)
    expected = model.predict(images)
    np.testing.assert_array_equal(model.predict(images[..., 0]), expected)
    np.testing.assert_array_equal(model.predict(images[2]), expected[2:3])
    np.testing.assert_array_equal(model.predict(images[2, ..., 0]), expected[2:3])
    np.testing.assert_array_equal(model.predict(images[::2]), expected[::2])  # not contiguous


def test_fit_sets_the_normalization_once():
    model, (images, labels) = small(), bright_quadrants()
    model.fit((images, labels), epochs=1)
    expected = Normalization((images.mean() / 255,), (images.std() / 255,))
    np.testing.assert_allclose(model.normalization[:2], expected[:2], rtol=1e-6)
    kept = model.normalization
    model.fit((images // 2, labels), epochs=1)
    assert model.normalization == kept


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_with_nan_are_errors_that_give_their_index(value):
    model, images = small(), np.zeros((4, 8, 8, 1), np.float32)
    images[2, 3, 3] = value
    with pytest.raises(ArgumentError, match="image 2 holds NaN or infinity; repair or drop it"):
        model.predict(images)
    with pytest.raises(NumbacnnError, match=r"NaN or infinite.*image 2"):
        model.fit((images, np.arange(4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: m.predict(x[:, :7]), r"images of shape \(8, 7, 8, 1\) for a model whose input is \(8, 8, 1\)"),
        (lambda m, x, y: m.predict(x.astype(np.int32)), "images are int32; pass uint8 from 0 to 255, or floats"),
        (lambda m, x, y: m.fit((x[:, :7], y)), r"images of shape \(7, 8, 1\) for a model whose input is \(8, 8, 1\)"),
        (lambda m, x, y: m.fit((x, y[:3])), "8 images but 3 labels"),
        (lambda m, x, y: m.fit(x), r"pass a Dataset, images and labels, or batches .*, not ndarray"),
        (lambda m, x, y: m.fit((x, y + 4), epochs=1), "8 classes for a model with 4 outputs"),
        (lambda m, x, y: m.fit((x, y), epochs=0), "epochs=0: pass a whole number"),
        (lambda m, x, y: m.fit((x, y), batch_size=0), "batch_size=0: pass a whole number"),
        (lambda m, x, y: m.fit((x, y), loss="hinge"), "unknown loss 'hinge'.*cross_entropy, mse"),
        (lambda m, x, y: m.fit((x, y), resume=True), "resume=True needs checkpoint=FILE"),
    ],
)
def test_invalid_arguments_of_fit_and_predict_are_errors(call, message):
    images, _ = bright_quadrants(8)
    with pytest.raises(ArgumentError, match=message):
        call(small(), images, np.arange(8) % 4)


def test_an_infinite_loss_ends_the_training_with_step_and_remedy():
    images, labels = bright_quadrants()
    with pytest.raises(
        NumbacnnError, match=r"(loss is|infinity in the weights).* at epoch \d+, step \d+.*lower the learning rate"
    ):
        small().fit((images, labels), optimizer=nc.SGD(1e20), epochs=3)


def test_events_are_in_order_and_a_callback_can_end_the_training():
    events = []

    def stop_after_the_second_epoch(event):
        events.append(event)
        return isinstance(event, nc.EpochEnd) and event.record.epoch == 2

    history = small().fit(bright_quadrants(40), epochs=5, batch_size=16, callbacks=[stop_after_the_second_epoch])
    assert [type(event) for event in events] == [*[nc.StepEnd] * 3, nc.EpochEnd] * 2
    assert [(event.epoch, event.step, event.images) for event in events[4:7]] == [(2, 1, 16), (2, 2, 16), (2, 3, 8)]
    assert len(history.epochs) == 2
    assert events[2].loss == pytest.approx(history.epochs[0].loss)


def test_an_epoch_that_took_no_time_has_a_record():
    """A damaged checkpoint may say so."""
    images, labels = np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 2
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (8, 8, 1))
    options = {"optimizer": nc.SGD(0.1), "seed": 0, "epochs": 1, "batch_size": 4}
    trainer = Trainer(model, nc.data.Dataset.of((images, labels)), **options)
    trainer.position = Position(0, 2, 1.0, 4, 8, 8, 0.0)
    assert [type(event) for event in trainer.run()][-1] is nc.EpochEnd
    assert trainer.history.epochs[0].images_per_second > 0


def test_early_stopping_waits_for_a_better_validation_accuracy():
    frozen = small().fit(
        bright_quadrants(40), validation=bright_quadrants(40, seed=1), optimizer=nc.SGD(0.0), epochs=9,
        callbacks=[nc.EarlyStopping(2)],
    )  # fmt: skip
    assert len(frozen.epochs) == 3
    with pytest.raises(ArgumentError, match="patience=0"):
        nc.EarlyStopping(0)


def test_a_schedule_scales_the_learning_rate_over_the_whole_training():
    seen = []

    def halving(step, steps):
        seen.append((step, steps))
        return 0.5**step

    history = small().fit(bright_quadrants(32), optimizer=sgd(), epochs=2, batch_size=16, schedule=halving)
    assert set(seen) == {(step, 4) for step in range(4)}
    assert [record.learning_rate for record in history.epochs] == [0.05 * 0.5**1, 0.05 * 0.5**3]


@pytest.mark.long
def test_an_epoch_of_lenet_on_mnist(data_folder):
    train, test = nc.data.load(data_folder / "mnist")
    model = nc.models.lenet5()
    model.fit(train, optimizer=nc.SGD(0.02, momentum=0.9), epochs=1)
    assert model.evaluate(test)["accuracy"] > 0.97


@pytest.mark.parametrize("make", [sgd, lambda: nc.Adam(0.01)], ids=["SGD", "Adam"])
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(make, stop, tmp_path):
    data, file = bright_quadrants(48), tmp_path / "state.safetensors"
    whole, parted, resumed = (small() for _ in range(3))
    expected = whole.fit(data, optimizer=make(), epochs=2, batch_size=16)
    steps = []
    options = {"epochs": 2, "batch_size": 16, "checkpoint": file, "checkpoint_every": 1}
    parted.fit(data, optimizer=make(), callbacks=[lambda event: steps.append(event) or len(steps) == stop], **options)
    history = resumed.fit(data, optimizer=make(), resume=True, **options)
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[name], array, name)
    assert [(r.loss, r.accuracy) for r in history.epochs] == [(r.loss, r.accuracy) for r in expected.epochs]
