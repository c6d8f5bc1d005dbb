"""Gradient accumulation over batches, and moving averages of weights."""

import numpy as np
import pytest
from engine import assert_close
from rules import RULES
from test_training import bright_quadrants, normalized, small

import numbacnn as nc
from numbacnn.data import DataLoader
from numbacnn.errors import ArgumentError

# -- accumulation -----------------------------------------------------------------------------------------------------


def weights(model):
    return {name: np.array(array, np.float64) for name, array in model.parameters.items()}


def with_statistics():
    layers = [nc.Conv2D(4, 3), nc.BatchNorm(), nc.ReLU(), nc.MaxPool2D(2), nc.Flatten(), nc.Dense(4)]
    return nc.Sequential(layers, (8, 8, 1))


def kept(model):
    """Return the weights and running statistics in float64."""
    return {name: np.array(array, np.float64) for name, array in model.store.arrays().items()}


class Recorder(nc.SGD):
    """Stores the gradients of every update, and does not change the model."""

    def step(self, model, scale=1.0):
        self.seen = [*getattr(self, "seen", []), {name: array.copy() for name, array in model.gradients.items()}]


@pytest.mark.parametrize(("accumulate", "groups"), [(2, [22, 14]), (3, [33, 3]), (4, [36]), (9, [36])])
def test_the_mean_gradient_is_that_of_one_batch_of_all_images(accumulate, groups):
    """36 images in batches of 11: three whole ones and one of 3, so that the last update of an epoch is smaller too."""
    model, data, recorder = small(), bright_quadrants(36), Recorder(0.0)
    model.fit(data, optimizer=recorder, batch_size=11, epochs=2, accumulate=accumulate)
    assert len(recorder.seen) == 2 * len(groups)
    order = [DataLoader(nc.data.Dataset.from_arrays(*data), 36).order(epoch) for epoch in (0, 1)]
    for number, found in enumerate(recorder.seen):
        epoch, update = divmod(number, len(groups))
        first = sum(groups[:update])
        taken = order[epoch][first : first + groups[update]]
        _, dy = nc.losses.cross_entropy(model.forward(normalized(model, data[0][taken]), training=True), data[1][taken])
        model.backward(dy)
        for name, gradient in model.gradients.items():
            assert_close(found[name], np.float64(gradient), f"update {number}: {name}")


def test_schedules_count_updates():
    seen = []
    schedule = lambda step, steps: seen.append((step, steps)) or 1.0  # noqa: E731
    small().fit(bright_quadrants(36), batch_size=8, epochs=2, accumulate=2, schedule=schedule)
    assert seen == [(step, 6) for step in range(6)]


def test_clipping_is_of_the_mean():
    data, recorder = bright_quadrants(32), nc.SGD(1.0, clip_norm=1e-3)
    model = small()
    start = weights(model)
    model.fit(data, optimizer=recorder, batch_size=8, epochs=1, accumulate=4)
    moved = np.sqrt(sum(((array - start[name]) ** 2).sum() for name, array in weights(model).items()))
    assert moved == pytest.approx(1e-3, rel=1e-3)


# -- averages of weights ----------------------------------------------------------------------------------------------


def test_averages_follow_weights_and_running_statistics_after_every_update():
    model, averages, decay = with_statistics(), None, 0.8

    def follow(event):
        nonlocal averages
        if isinstance(event, nc.StepEnd):
            now = kept(model)
            averages = averages or now
            averages = {name: decay * averages[name] + (1 - decay) * array for name, array in now.items()}
        else:  # the model holds the averages
            for name, array in model.store.arrays().items():
                assert_close(array, averages[name], name)

    model.fit(bright_quadrants(), epochs=3, batch_size=16, ema=decay, callbacks=[follow])
    assert any("running" in name for name in averages)
    for name, array in model.store.arrays().items():
        assert_close(array, averages[name], name)


def test_training_itself_does_not_depend_on_averages():
    raw, averaged, seen = [], [], []
    for ema, steps in ((None, raw), (0.9, averaged)):
        model = with_statistics()

        def keep(event, model=model, steps=steps):
            if isinstance(event, nc.StepEnd):
                steps.append(kept(model))

        seen.append(model.fit(bright_quadrants(), epochs=2, batch_size=16, ema=ema, callbacks=[keep]))
    for one, other in zip(raw, averaged, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert [record.loss for record in seen[0].epochs] == [record.loss for record in seen[1].epochs]


def test_validation_is_of_the_averages():
    model, validation = small(), bright_quadrants(40, seed=1)
    history = model.fit(bright_quadrants(), validation=validation, epochs=2, batch_size=16, ema=0.95)
    assert history.epochs[-1].validation_loss == model.evaluate(validation)["loss"]


@pytest.mark.parametrize("stop", [2, 4, 9])
def test_an_ended_training_leaves_the_averages(stop):
    model, events, raw = small(), [], {}

    def end(event):
        events.append(event)
        raw.update(weights(model))
        return len(events) == stop

    model.fit(bright_quadrants(48), epochs=3, batch_size=16, ema=0.9, callbacks=[end])
    changed = any(np.abs(array - raw[name]).max() > 0 for name, array in model.parameters.items())
    assert changed == isinstance(events[-1], nc.StepEnd)  # at the end of an epoch the averages are in already


def test_frozen_weights_stay_as_they_are_in_the_averages():
    model = small()
    model.freeze("conv2d_1.*")
    before = weights(model)
    model.fit(bright_quadrants(), epochs=2, batch_size=16, ema=0.7, accumulate=2)
    for name in ("conv2d_1.weight", "conv2d_1.bias"):
        np.testing.assert_array_equal(model.parameters[name], before[name])


# -- both, interrupted ------------------------------------------------------------------------------------------------

MAKERS = {
    **{rule.kind.name: rule.make for rule in RULES},
    "sgd": lambda: nc.SGD(0.05, momentum=0.9, groups=[nc.ParamGroup("*.bias", learning_rate=0.01)]),
    "rmsprop": lambda: nc.RMSprop(0.003, momentum=0.5, centered=True, clip_norm=0.5),
    "adagrad": lambda: nc.Adagrad(0.02, initial_accumulator=0.1),
    "muon": lambda: nc.Muon(0.02, clip_value=0.1),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("stop", [1, 2, 4, 5, 7])
def test_resumed_bit_for_bit_with_every_optimizer(make, stop, tmp_path):
    """An epoch has three batches, an update two: trainings stop within an update and at the end of an epoch."""
    data, held_out, file = bright_quadrants(48), bright_quadrants(20, seed=1), tmp_path / "state"
    options = {"epochs": 3, "batch_size": 16, "accumulate": 2, "ema": 0.8, "validation": held_out}
    options["schedule"] = nc.schedules.Warmup(nc.schedules.Plateau(patience=0, factor=0.5, threshold=0.5), 2)
    saved = {"checkpoint": file, "checkpoint_every": 1} | options
    whole, parted, resumed, steps = with_statistics(), with_statistics(), with_statistics(), []
    expected = whole.fit(data, optimizer=make(), **options)
    parted.fit(data, optimizer=make(), callbacks=[lambda event: steps.append(event) or len(steps) == stop], **saved)
    history = resumed.fit(data, optimizer=make(), resume=True, **saved)
    for name, array in whole.store.arrays().items():
        np.testing.assert_array_equal(resumed.store.arrays()[name], array, name)
    numbers = [(r.loss, r.accuracy, r.validation_loss, r.learning_rate) for r in expected.epochs]
    assert [(r.loss, r.accuracy, r.validation_loss, r.learning_rate) for r in history.epochs] == numbers
    again = with_statistics()
    again.fit(data, optimizer=make(), resume=True, **saved)  # a finished training: only the averages are read
    for name, array in whole.store.arrays().items():
        np.testing.assert_array_equal(again.store.arrays()[name], array, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ema": 0.9}, "belongs to a training with ema 0.8, not 0.9"),
        ({"ema": None}, "belongs to a training with ema 0.8, not None"),
        ({"accumulate": 3}, "belongs to a training with accumulate 2, not 3"),
        ({"optimizer": nc.Adam()}, "belongs to a training with optimizer sgd, not adam"),
    ],
)
def test_another_training_is_rejected_before_anything_changes(change, message, tmp_path):
    data, options = bright_quadrants(32), {"epochs": 1, "accumulate": 2, "ema": 0.8, "checkpoint": tmp_path / "state"}
    small().fit(data, optimizer=nc.SGD(0.1), **options)
    model = small()
    before = weights(model)
    with pytest.raises(ArgumentError, match=message):
        model.fit(data, resume=True, **({"optimizer": nc.SGD(0.1)} | options | change))
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(array, before[name])


def test_frozen_parameters_belong_to_a_training_and_its_normalization_comes_back(tmp_path):
    data, model = bright_quadrants(32), small()
    model.normalization = nc.data.normalization.Normalization((0.25,), (0.5,))
    model.freeze("conv2d_1.*")
    model.fit(data, epochs=1, checkpoint=tmp_path / "state")
    with pytest.raises(ArgumentError, match=r"frozen parameters conv2d_1\.bias, conv2d_1\.weight, not "):
        small().fit(data, epochs=2, checkpoint=tmp_path / "state", resume=True)
    again = small()
    again.freeze("conv2d_1.*")
    again.fit(data, epochs=1, checkpoint=tmp_path / "state", resume=True)
    assert again.normalization == model.normalization


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate=0: pass a whole number"),
        ({"accumulate": 1.5}, "accumulate=1.5: pass a whole number"),
        ({"ema": 1.0}, "ema=1.0: pass a number of at least 0 and below 1"),
        ({"ema": "0.9"}, "ema='0.9'"),
    ],
)
def test_invalid_arguments_of_fit_and_predict_are_errors(options, message):
    with pytest.raises(ArgumentError, match=message):
        small().fit(bright_quadrants(8), epochs=1, **options)
