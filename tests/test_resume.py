"""Checkpoints: a resumed training continues bit for bit, and only if it is the same training."""

import math
import shutil

import numpy as np
import pytest
from trainings import TIMES, data, model, options, saved

import numbacnn as nc
from numbacnn.saving import format as checkpoint
from numbacnn.saving.checkpoints import record_of
from numbacnn.training.events import Position

STEPS = 50


def fit(net, path, resume=False, keep=lambda event: None, every=1, epochs=5, **changes):
    """Train five epochs of ten steps with every option that has state."""
    given = options() | changes
    return net.fit(
        given.pop("train"),
        checkpoint=path,
        checkpoint_every=every,
        resume=resume,
        callbacks=[keep],
        epochs=epochs,
        **given,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training: its folder with a copy of the checkpoint after every step, its model and history."""
    folder, step = tmp_path_factory.mktemp("whole"), iter(range(1, STEPS + 1))

    def keep(event):
        if isinstance(event, nc.StepEnd):
            shutil.copy(folder / "end", folder / str(next(step)))

    net = model()
    history = fit(net, folder / "end", keep=keep)
    return folder, net, history


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_resuming_at_any_step_equals_the_uninterrupted_training(whole, tmp_path, step):
    """Weights, averages, moments, statistics, masks, order, schedule, and the history except for its times."""
    folder, expected, history = whole
    shutil.copy(folder / str(step), tmp_path / "run")
    resumed = model(seed=2)
    found = fit(resumed, tmp_path / "run", resume=True)
    assert saved(tmp_path / "run") == saved(folder / "end")
    for name, value in expected.store.arrays().items():
        np.testing.assert_array_equal(resumed.store.arrays()[name], value, err_msg=name)
    for one, other in zip(found.epochs, history.epochs, strict=True):
        assert {**vars(one), **dict.fromkeys(TIMES)} == {**vars(other), **dict.fromkeys(TIMES)}


def test_the_schedule_of_this_training_changes_the_learning_rate(whole):
    _, _, history = whole
    assert len({epoch.learning_rate for epoch in history.epochs}) > 2


@pytest.mark.parametrize("every", ["1s", "2m", 7])
def test_the_checkpoint_interval_does_not_change_the_training(whole, tmp_path, every):
    fit(model(), tmp_path / "run", every=every)
    assert saved(tmp_path / "run") == saved(whole[0] / "end")


class Halving(nc.schedules.Plateau):
    """A custom schedule."""


CHANGES = {
    "seed": {"seed": 4},
    "batch_size": {"batch_size": 16},
    "accumulate": {"accumulate": 2},
    "ema": {"ema": 0.5},
    "augment": {"augment": "hflip"},
    "images": {"train": data(70)},
    "data checksum": {"train": data(77, seed=5)},
    "validation checksum": {"validation": data(20, seed=5)},
    r"loss \[CrossEntropy\(label_smoothing=0.1.*, not \[CrossEntropy\(label_smoothing=0.0": {"loss": "cross_entropy"},
    "loss weights": {"loss_weights": [2.0]},
    "optimizer adam, not sgd": {"optimizer": nc.SGD(0.01)},
    "optimizer's learning_rate 0.01, not 0.02": {"optimizer": nc.Adam(0.02, clip_norm=1.0)},
    "optimizer's groups": {
        "optimizer": nc.Adam(0.01, clip_norm=1.0, groups=[nc.ParamGroup("*.bias", weight_decay=0.5)])
    },
    "schedule Warmup.*, not cosine": {"schedule": "cosine"},
    r"schedule .*, not Halving\(factor=0.5": {"schedule": Halving(0.5)},
}


@pytest.mark.parametrize(("message", "change"), CHANGES.items(), ids=CHANGES)
def test_a_checkpoint_of_another_training_is_rejected_and_changes_nothing(whole, tmp_path, message, change):
    shutil.copy(whole[0] / "3", tmp_path / "run")
    other = model()
    with pytest.raises(nc.ArgumentError, match=message):
        fit(other, tmp_path / "run", resume=True, **change)
    for name, value in model().store.arrays().items():
        np.testing.assert_array_equal(other.store.arrays()[name], value)


def test_a_checkpoint_of_another_model_is_rejected(whole, tmp_path):
    shutil.copy(whole[0] / "3", tmp_path / "run")
    with pytest.raises(nc.ArgumentError, match="model checksum"):
        fit(model(rate=0.4), tmp_path / "run", resume=True)


def test_an_incomplete_state_is_rejected_and_changes_nothing(tmp_path):
    checkpoint.save_checkpoint(tmp_path / "run", model().store.arenas(), {"position": 3})
    other = model(seed=2)
    before = {name: value.copy() for name, value in other.parameters.items()}
    with pytest.raises(nc.ModelFileError, match="its state is damaged"):
        fit(other, tmp_path / "run", resume=True)
    for name, value in before.items():
        np.testing.assert_array_equal(other.parameters[name], value)


def test_resuming_a_finished_training_returns_its_history(whole, tmp_path):
    shutil.copy(whole[0] / "end", tmp_path / "run")
    assert len(fit(model(), tmp_path / "run", resume=True).epochs) == 5
    assert not math.isnan(fit(model(), tmp_path / "run", resume=True).epochs[-1].loss)


def test_a_checkpoint_does_not_make_a_training_longer(whole, tmp_path):
    """The end of a training is counted from its first epoch, which once could be any: resuming never ended."""
    state, _ = checkpoint.read_checkpoint(whole[0] / "3")
    checkpoint.save_checkpoint(tmp_path / "run", model().store.arenas(), state | {"first_epoch": 2**31})
    with pytest.raises(nc.ModelFileError, match="before the first, 2147483648"):
        fit(model(), tmp_path / "run", resume=True)


def test_floats_of_a_state_may_have_whole_digits():
    """JSON has whole digits of any length; NumPy makes objects of numbers above 64 bits."""
    position = record_of(Position, {"loss_sum": 2**64, "step": 3})
    assert (position.loss_sum, type(position.loss_sum), position.step) == (2.0**64, float, 3)
    for wrong in (10**400, "2", None):
        with pytest.raises((ArithmeticError, ValueError)):
            record_of(Position, {"loss_sum": wrong})
