"""Checkpoints: a training goes on bit for bit, and only as the training that it was."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import checkpoint


@pytest.fixture
def data(rng):
    return rng.integers(0, 256, (50, 8, 8, 1)).astype(np.uint8), np.arange(50) % 3


def model(seed=1):
    """With running statistics and random masks: both are part of the whole state."""
    layers = [
        nc.Conv2D(8, 3), nc.BatchNorm(), nc.ReLU(), nc.MaxPool2D(2), nc.SpatialDropout(0.2),
        nc.Flatten(), nc.Dropout(0.3), nc.Dense(3),
    ]  # fmt: skip
    return nc.Sequential(layers, (8, 8, 1), seed=seed)


def fit(net, data, path, stop_after=None, **options):
    """Trains two epochs of seven steps, or so many steps of them; then the training is cut off."""
    steps = iter(range(1, 1000))
    last = [lambda event: isinstance(event, nc.StepEnd) and next(steps) == stop_after]
    options = {"batch_size": 8, "epochs": 2, "seed": 3, "optimizer": nc.Adam(0.01)} | options
    return net.fit(data, checkpoint=path, checkpoint_every=1, callbacks=last, **options)


@pytest.mark.parametrize("stop_after", range(1, 15))
def test_resumed_at_any_step_is_the_training_in_one_go(data, tmp_path, stop_after):
    whole, parts = model(), model()
    expected = fit(whole, data, tmp_path / "whole")
    fit(parts, data, tmp_path / "parts", stop_after)
    resumed = model()
    history = fit(resumed, data, tmp_path / "parts", resume=True)
    for name, value in whole.store.arrays().items():
        np.testing.assert_array_equal(resumed.store.arrays()[name], value, err_msg=name)
    assert [epoch.loss for epoch in history.epochs] == [epoch.loss for epoch in expected.epochs]


@pytest.mark.parametrize("stop_after", [1, 7, 10])
def test_resumed_with_augmentation_is_the_training_in_one_go(data, tmp_path, stop_after):
    chain = {"augment": "rotate=20, elastic=10:2, noise=0.1, mixup"}
    whole, parts, resumed = model(), model(), model()
    fit(whole, data, tmp_path / "whole", **chain)
    fit(parts, data, tmp_path / "parts", stop_after, **chain)
    fit(resumed, data, tmp_path / "parts", resume=True, **chain)
    for name, value in whole.store.arrays().items():
        np.testing.assert_array_equal(resumed.store.arrays()[name], value, err_msg=name)


@pytest.mark.parametrize("change", [{"seed": 4}, {"batch_size": 16}, {"augment": "hflip"}])
def test_another_training_is_refused_and_nothing_changed(data, tmp_path, change):
    fit(model(), data, tmp_path / "run", 3)
    other = model()
    with pytest.raises(nc.ArgumentError, match=next(iter(change))):
        fit(other, data, tmp_path / "run", resume=True, **change)
    for name, value in model().store.arrays().items():
        np.testing.assert_array_equal(other.store.arrays()[name], value)


def test_a_damaged_state_is_refused_and_nothing_changed(data, tmp_path):
    net, optimizer = model(), nc.Adam(0.01)
    optimizer.attach(net)
    checkpoint.save_checkpoint(tmp_path / "run", net.store, optimizer.slots, {"position": 3})
    other = model(seed=2)
    before = {name: value.copy() for name, value in other.parameters.items()}
    with pytest.raises(nc.ModelFileError, match="its state is damaged"):
        fit(other, data, tmp_path / "run", resume=True)
    for name, value in before.items():
        np.testing.assert_array_equal(other.parameters[name], value)
