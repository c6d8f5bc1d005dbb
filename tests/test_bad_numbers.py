"""NaN and infinity in input, loss, gradients or weights: training stops and names the layer, or skips the batch."""

import json
import math
import re

import numpy as np
import pytest
from command_line import numbacnn
from engine import assert_close
from test_training import normalized
from trainings import saved

import numbacnn as nc
from numbacnn.data import DataLoader, Dataset
from numbacnn.kernels.decision import LOSS_ROWS
from numbacnn.training.batch import TrainingBatch


class Spike(nc.Layer):
    """The identity; in forward or backward passes number ``at`` to ``last`` it replaces one element by ``value``."""

    op = "spike_of_tests"

    def __init__(self, where, value, at=1, last=1 << 30, name=None):
        self.where, self.value, self.at, self.last, self.name = where, value, at, last, name
        self.calls = {"forward": 0, "backward": 0}

    def attributes(self):
        return {}

    def _pass_on(self, target, source, direction):
        target[...] = source
        self.calls[direction] += 1
        if direction == self.where and self.at <= self.calls[direction] <= self.last:
            target[0, ..., 0] = self.value

    def forward(self, kernels, t, g):
        self._pass_on(t.y, t.x, "forward")

    def backward(self, kernels, t, g):
        self._pass_on(t.dx, t.dy, "backward")


def net(*middle):
    layers = [nc.Conv2D(4, 3, bias=False), nc.BatchNorm(), *middle, nc.ReLU(), nc.Flatten(), nc.Dense(3, name="head")]
    return nc.Sequential(layers, (6, 6, 1), seed=1)


def data(count=40):
    return np.random.default_rng(0).integers(0, 256, (count, 6, 6, 1)).astype(np.uint8), np.arange(count) % 3


def fit(model, given=None, **options):
    return model.fit(given or data(), **{"batch_size": 8, "epochs": 2, "optimizer": nc.SGD(0.01)} | options)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_in_an_output_is_an_error_with_layer_and_step(value):
    with pytest.raises(
        nc.NumbacnnError,
        match=r'the loss is (nan|inf) at epoch 2, step 3: .* first in the output of Spike "spike_of_tests_1"; ',
    ) as caught:
        fit(net(Spike("forward", value, at=8)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_in_a_gradient_is_an_error_with_layer_and_step(value):
    message = r"gradients are not finite at epoch 1, step 4: .* first in the gradients of Spike"
    with pytest.raises(nc.NumbacnnError, match=message):
        fit(net(Spike("backward", value, at=4)))


def test_nan_in_a_loss_is_an_error():
    class Broken(nc.losses.CrossEntropy):
        def launch(self, kernels, losses, dx, x, target, scale):
            super().launch(kernels, losses, dx, x, target, scale)
            losses[0] = math.nan

    with pytest.raises(nc.NumbacnnError, match=r"at epoch 1, step 1: .* first in the loss, or its gradient, of finite"):
        fit(net(), loss=Broken())


@pytest.fixture
def unchecked_images(monkeypatch):
    monkeypatch.setattr(nc.Model, "adapted", lambda _, inputs: inputs)


@pytest.mark.usefixtures("unchecked_images")
def test_nan_in_an_image_is_an_error_with_its_index():
    images, labels = data()
    given = Dataset.from_arrays(images.astype(np.float32), labels)
    fit(model := net(), given, epochs=1)
    given.images[17, 2, 2] = math.nan
    with pytest.raises(nc.NumbacnnError, match=r"NaN or infinity in image 17 of the input at epoch 2, step \d"):
        fit(model, given)


def overflow_in_the_second_update(step, _):
    """Scale the learning rate 1,000 beyond float32."""
    return 3e38 if step else 1e-5


def test_overflowing_weights_are_an_error_and_never_saved(tmp_path):
    """The update of the second step overflows: the checkpoint is that of the first."""
    model, steps = net(), []
    with pytest.raises(nc.NumbacnnError, match=r'infinity in the weights "[\w.]+" after epoch 0, step 2; lower'):
        fit(
            model,
            optimizer=nc.SGD(1000),
            schedule=overflow_in_the_second_update,
            checkpoint=tmp_path / "c",
            checkpoint_every=1,
            callbacks=[steps.append],
        )
    assert [event.step for event in steps] == [1]
    state, arrays = saved(tmp_path / "c")
    assert state["position"]["step"] == 1
    assert all(np.isfinite(np.frombuffer(content, np.float32)).all() for content in arrays.values())


def test_overflowing_penalties_are_an_error():
    layers = [nc.Flatten(), nc.Dense(3, l2=1e38, initializer="ones")]
    with pytest.raises(nc.NumbacnnError, match=r"first in the penalties on the weights|infinity in the weights"):
        fit(nc.Sequential(layers, (6, 6, 1)))


# -- skipped ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"accumulate": 5, "ema": 0.9}], ids=str)
def test_skipped_batches_are_counted_and_leave_everything_finite(where, options):
    """The second, third and fifth of the five batches of the first epoch are skipped."""
    spikes = [Spike(where, math.nan, 2, 3), Spike(where, math.inf, 5, 5)]
    model = net(*spikes)
    history = fit(model, on_nan="skip", epochs=3, **options)
    assert [epoch.skipped for epoch in history.epochs] == [3, 0, 0]
    assert all(math.isfinite(epoch.loss) for epoch in history.epochs)
    assert all(np.isfinite(array).all() for array in model.store.arrays().values())
    assert not np.array_equal(model.parameters["head.weight"], net().parameters["head.weight"])


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_a_skipped_batch_changes_nothing(accumulate):
    """Skipping the last batch of the epoch: running statistics, weights and sums are those without its images.

    The gradients accumulated before it make the epoch's last update on their own.
    """
    model, without = net(Spike("forward", math.nan, at=5)), net()
    found = fit(model, on_nan="skip", epochs=1, accumulate=accumulate)
    expected = []

    def stop(event):
        expected.append(event)
        return event.step == 4

    fit(without, epochs=1, accumulate=accumulate, callbacks=[stop])
    assert found.epochs[0].loss == expected[-1].loss
    for name, value in without.state.items():
        np.testing.assert_array_equal(model.state[name], value, err_msg=name)
    for name, value in weights_after_four_batches(accumulate, model.normalization).items():
        assert_close(model.parameters[name], value, name)


def weights_after_four_batches(accumulate, normalization):
    """Weights after four batches of the first epoch, by hand."""
    model, (images, labels) = net(), data()
    batches = DataLoader(Dataset.from_arrays(images, labels), 8).order(0)[:32].reshape(4, 8)
    model.normalization = normalization
    for first in range(0, 4, accumulate):
        group = batches[first : first + accumulate]
        weights = {name: np.float64(value) for name, value in model.parameters.items()}
        for batch in group:
            _, dy = nc.losses.cross_entropy(model.forward(normalized(model, images[batch]), True), labels[batch])
            model.backward(dy)
            for name, gradient in model.gradients.items():
                weights[name] -= 0.01 / len(group) * gradient
        model.set_parameters(weights)
    return weights


def test_an_epoch_without_a_good_batch_ends_the_training():
    with pytest.raises(nc.NumbacnnError, match="every batch of epoch 1 was skipped"):
        fit(net(Spike("forward", math.nan)), on_nan="skip")


def test_nan_in_weights_cannot_be_skipped():
    with pytest.raises(nc.NumbacnnError, match="in the weights"):
        fit(net(), optimizer=nc.SGD(1000), schedule=overflow_in_the_second_update, on_nan="skip")


@pytest.mark.usefixtures("unchecked_images")
def test_resumed_trainings_skip_the_same_batches(tmp_path):
    images, labels = data()
    given = Dataset.from_arrays(images.astype(np.float32), labels)
    fit(first := net(), given, epochs=1)
    given.images[[3, 20], 2, 2] = math.nan

    def train(path, stop=None, resume=False):
        model = net()
        model.normalization = first.normalization
        steps = iter(range(1, 100))
        end = [lambda event: isinstance(event, nc.StepEnd) and next(steps) == stop]
        fit(model, given, on_nan="skip", checkpoint=path, checkpoint_every=1, resume=resume, callbacks=end)

    train(tmp_path / "whole")
    assert saved(tmp_path / "whole")[0]["history"][0]["skipped"] >= 1
    for stop in range(1, 11):
        train(tmp_path / f"{stop}", stop)
        train(tmp_path / f"{stop}", resume=True)
        assert saved(tmp_path / f"{stop}") == saved(tmp_path / "whole")


@pytest.mark.parametrize(("option", "known"), [("on_nan", "stop, skip"), ("on_save_error", "warn, stop")])
def test_other_policies_are_errors(option, known):
    with pytest.raises(nc.ArgumentError, match=f"unknown {option} 'skipp'.*{known}"):
        fit(net(), **{option: "skipp"})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_an_error(value, monkeypatch, tmp_path):
    monkeypatch.setattr(nc.Model, "evaluate", lambda *_, **__: {"loss": value, "accuracy": 0.5})
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(nc.errors.DivergedError, match=f"the validation loss is {value} after epoch 1; lower the learn"):
        fit(net(), validation=data(), epochs=2, checkpoint=path)
    assert not path.exists()


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_reports_skipped_batches(tmp_path, monkeypatch):
    """The loss of the sixth and the eighth batch becomes NaN."""
    launch, calls = TrainingBatch.launch_losses, iter(range(1 << 20))

    def spoiled(self, *arguments):
        launch(self, *arguments)
        if next(calls) in (5, 7):
            self.sums[LOSS_ROWS, 0] = math.nan

    monkeypatch.setattr(TrainingBatch, "launch_losses", spoiled)
    outcome = numbacnn("train", "--epochs", 2, "--on-nan", "skip", "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    assert [epoch["skipped"] for epoch in json.loads(outcome.out)["epochs"]] == [2, 0]
    assert re.search(r"epoch 1/2: .*, 2 batches skipped because of NaN or infinity", outcome.err)
    assert outcome.err.count("skipped") == 1


def test_the_command_line_names_its_own_options_if_a_training_diverges(tmp_path):
    outcome = numbacnn("train", "--epochs", 1, "--lr", 1e30, "--out", tmp_path / "run", "--json")
    assert outcome.code == 1
    problem = "lower --lr, or set --clip-norm, or skip such batches with --on-nan skip|in the weights .*lower --lr"
    assert re.search(problem, outcome.err)
    assert json.loads(outcome.out)["exit_code"] == 1


@pytest.mark.parametrize("options", [[], ["--validation", 0]], ids=["validation", "test"])
def test_a_loss_of_nan_on_held_out_images_fails_on_the_command_line(options, tmp_path, monkeypatch):
    monkeypatch.setattr(nc.Model, "evaluate", lambda *_, **__: {"loss": math.nan, "accuracy": 0.5})
    outcome = numbacnn("train", "--epochs", 1, "--out", tmp_path / "run", "--json", *options)
    assert outcome.code == 1
    assert re.search(r"the (validation|test) loss is nan.*; lower --lr, or set --clip-norm$", outcome.err.strip())
    assert json.loads(outcome.out)["exit_code"] == 1
