"""Batch normalization over all shards of a batch: against training without shards, and against float64."""

import math

import numpy as np
import pytest
from test_bad_numbers import Spike
from trainings import data, model, options

import numbacnn as nc
from numbacnn.engine.device import get_device


def network(device="cpu", momentum=0.1):
    layers = [nc.Conv2D(8, 3, bias=False), nc.BatchNorm(momentum=momentum), nc.ReLU(), nc.Conv2D(8, 3), nc.BatchNorm()]
    net = nc.Sequential([*layers, nc.MaxPool2D(2), nc.Flatten(), nc.Dense(3)], (8, 8, 1), seed=1, device=device)
    net.normalization = None
    return net


def trained(shards, device="cpu", images=37, **given):
    """Gradients and running statistics after the first step, whose learning rate is 0."""
    net = network(device)
    net.fit(data(images), batch_size=images, epochs=1, optimizer=nc.SGD(0.0), shards=shards, **given)
    arrays = net.gradients, net.state
    return [np.concatenate([value.reshape(-1).astype(np.float64) for value in each.values()]) for each in arrays]


def apart(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("shards", [1, 2, 6, 16, 64])
def test_gradients_and_running_statistics_are_those_without_shards(shards):
    """37 images in shards of two or three, or in 64 of one or none: against one batch, and float64."""
    found, plain, oracle = trained(shards, sync_batch_norm=True), trained(None), trained(None, "reference")
    for part, whole, truth in zip(found, plain, oracle, strict=True):
        assert apart(part, truth) <= max(1e-6, 1.5 * apart(whole, truth))
        assert apart(part, whole) <= 2e-6
    assert apart(trained(16)[0], oracle[0]) > 0.01  # each shard by its own statistics is another network


def test_shards_on_the_reference_device_have_the_gradients_of_one_batch():
    found, truth = trained(4, "reference", sync_batch_norm=True), trained(None, "reference")
    assert max(map(apart, found, truth)) <= 1e-6


def test_a_shard_may_have_one_value():
    net = nc.Sequential([nc.Dense(4), nc.BatchNorm(), nc.Dense(3)], (64,), seed=1)
    images = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    history = net.fit((images, np.arange(32) % 3), batch_size=16, epochs=1, shards=16, sync_batch_norm=True)
    assert math.isfinite(history.epochs[0].loss)


def test_a_frozen_normalization_keeps_its_statistics():
    net = network()
    net.freeze("batch_norm_1.*")
    before = {name: value.copy() for name, value in net.state.items()}
    net.fit(data(16), batch_size=16, epochs=1, shards=4, sync_batch_norm=True)
    changed = {name for name, value in net.state.items() if (value != before[name]).any()}
    assert changed == {"batch_norm_2.running_mean", "batch_norm_2.running_var"}


def test_a_bad_number_in_a_shard_is_named():
    layers = [nc.Conv2D(4, 3), nc.BatchNorm(), Spike("forward", math.nan, 14), nc.Flatten(), nc.Dense(3)]
    message = 'the loss is nan at epoch 1, step 4: NaN or infinity appears first in the output of Spike "spike'
    with pytest.raises(nc.NumbacnnError, match=message):
        nc.Sequential(layers, (8, 8, 1), seed=1).fit(data(40), batch_size=8, epochs=1, shards=4, sync_batch_norm=True)


def test_a_checkpoint_continues_only_with_the_same_statistics(tmp_path):
    given = options() | {"epochs": 1, "callbacks": [], "shards": 4, "optimizer": "sgd"}
    given["checkpoint"] = tmp_path / "run"
    train = given.pop("train")
    model().fit(train, sync_batch_norm=True, **given)
    with pytest.raises(nc.ArgumentError, match="with sync_batch_norm True, not None"):
        model().fit(train, resume=True, **given | {"epochs": 2})


def test_without_shards_it_is_an_error():
    with pytest.raises(nc.ArgumentError, match="sync_batch_norm=True is for shards"):
        model().fit(data(16), sync_batch_norm=True)


@pytest.mark.parametrize("channels", [1, 3, 16, 70])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_sums_of_shards_give_the_batch_norm_of_the_whole_batch(channels, offset):
    """The kernels alone, with a mean that is a thousand times the deviation: as exact as those of a whole batch."""
    cpu, sizes, shape = get_device("cpu").kernels, get_device("cpu").sizes, (6, 5, 4, channels)
    rng = np.random.default_rng(0)
    x, dy = ((rng.normal(size=shape) + mean).astype(np.float32) for mean in (offset, 0.0))
    weight, bias = (rng.normal(size=channels).astype(np.float32) for _ in range(2))
    parts = slice(0, 2), slice(2, 6)

    def scratch(numbers):
        return np.zeros(sizes.norm_partial_shape(1, 30, numbers, 4, channels), np.float32)

    statistics, coefficients, gradient_coefficients = (
        np.zeros(sizes.norm_coefficients_shape(1, numbers, channels), np.float32) for numbers in (5, 3, 3)
    )
    y, dx = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    running, sums = np.ones((2, channels), np.float32), np.zeros((2, 2 * channels + 1))
    gradients = np.zeros((2, 2, channels), np.float32)
    for part, own in zip(parts, sums, strict=True):
        cpu.batch_norm_sums(own, x[part], scratch(3))
    arrays = sums.sum(axis=0), x, weight, bias, coefficients
    cpu.batch_norm_from_sums(y, statistics, *running, *arrays, 0.1, 1e-5)
    for part, own, (d_weight, d_bias) in zip(parts, sums, gradients, strict=True):
        cpu.batch_norm_gradient_sums(own, d_weight, d_bias, dy[part], x[part], statistics, scratch(2))
    cpu.batch_norm_gradient_from_sums(dx, sums.sum(axis=0), dy, x, weight, statistics, gradient_coefficients)

    reference = get_device("reference").kernels
    expected_y, expected_dx, expected_running = np.zeros(shape), np.zeros(shape), np.ones((2, channels))
    moments, expected = np.zeros((1, 4, channels)), np.zeros((2, channels))
    reference.batch_norm_forward(expected_y, moments, *expected_running, x, weight, bias, None, None, 0.1, 1e-5)
    reference.batch_norm_gradient(expected_dx, *expected, dy, x, weight, moments, None, None, None, True)
    pairs = [(y, expected_y), (dx, expected_dx), (running, expected_running), (gradients.sum(axis=0), expected)]
    for found, truth in pairs:
        assert apart(found, truth) <= 1e-5
