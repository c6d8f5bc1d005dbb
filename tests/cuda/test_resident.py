"""Steps that the GPU drives by itself against those that the host drives on the CPU; and those of a graph against
launches one by one. Sets of seven images in batches of three: the last batch is of one."""

import math

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.device import get_device
from numbacnn.steps import DeviceSteps, HostSteps, device
from numbacnn.training import Trainer

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (7, 4, 4, 1), np.uint8), np.arange(7) % 3
EVERYTHING = "rotate=20, elastic=3:1, noise=0.1, cutout=2, color=0.3:0.2:0.1, hflip"


def small(where):
    return nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1), seed=1, device=where)


def whole(where):
    """With running statistics, random masks and a penalty."""
    layers = [nc.BatchNorm(), nc.ReLU(), nc.Flatten(), nc.Dropout(0.2)]
    return nc.Sequential([*layers, nc.Dense(3, l2=0.01)], (4, 4, 1), seed=1, device=where)


def fit(where, make=small, data=DATA, optimizer=lambda: nc.SGD(0.1, momentum=0.9), **options):
    """The history, and all arrays of the model."""
    model = make(where)
    options = {"epochs": 2, "batch_size": 3, "seed": 3} | options
    history = model.fit(data, optimizer=optimizer(), **options)
    return history, dict(model.store.arrays())


def assert_alike(found, expected):
    (history, arrays), (expected_history, expected_arrays) = found, expected
    for ours, theirs in zip(history.epochs, expected_history.epochs, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.learning_rate == pytest.approx(theirs.learning_rate)
        assert (ours.accuracy, ours.skipped) == (theirs.accuracy, theirs.skipped)
    for name, array in arrays.items():
        error = np.linalg.norm(array - expected_arrays[name]) / np.linalg.norm(expected_arrays[name])
        assert error < 1e-4, (name, error)


def assert_same(found, expected):
    """To the last bit."""
    for name, array in expected[1].items():
        np.testing.assert_array_equal(found[1][name], array, name)
    assert [record.loss for record in found[0].epochs] == [record.loss for record in expected[0].epochs]


@pytest.fixture
def captured(monkeypatch):
    """The sizes of what is captured."""
    sizes, capture = [], type(get_device("cuda")).capture

    def counted(self, launches):
        replay = capture(self, launches)
        assert replay is not None
        sizes.append(len(launches))
        return replay

    monkeypatch.setattr(type(get_device("cuda")), "capture", counted)
    return sizes


def test_everything_at_once_is_as_on_the_cpu(captured):
    """Three epochs, of which the first launches and the others replay: what differs between steps is nowhere frozen."""
    options = {"schedule": "cosine", "ema": 0.5, "accumulate": 2, "augment": EVERYTHING, "epochs": 3}
    options |= {"make": whole, "optimizer": lambda: nc.Adam(0.01, clip_norm=0.5)}
    assert_alike(fit("cuda", **options), fit("cpu", **options))
    assert len(captured) == 3  # batches of three that update and that do not, and the last one


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: nc.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clip_value=0.1),
        lambda: nc.AdamW(0.01, groups=[nc.Group("*.bias", weight_decay=0.0, learning_rate=0.1)]),
        lambda: nc.RMSprop(0.01),
        lambda: nc.RMSprop(0.01, momentum=0.9, centered=True, weight_decay=0.01),
        lambda: nc.Adagrad(0.1),
    ],
    ids=["SGD", "AdamW", "RMSprop", "RMSprop of all kinds", "Adagrad"],
)
def test_optimizers(optimizer):
    assert_alike(fit("cuda", optimizer=optimizer), fit("cpu", optimizer=optimizer))


def test_float_images_masks_and_a_loss_of_one_hot_targets():
    def make(where):
        return nc.Sequential([nc.Conv2D(3, 1)], (4, 4, 2), seed=1, device=where)

    masks = RNG.integers(0, 3, (5, 4, 4))
    data = RNG.standard_normal((5, 4, 4, 2)).astype(np.float32), masks
    options = {"make": make, "data": data, "loss": "dice", "augment": "noise=0.1"}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


def test_replayed_steps_are_those_launched_one_by_one(monkeypatch, captured):
    options = {"make": whole, "augment": "hflip"}
    replayed = fit("cuda", **options)
    assert len(captured) == 2
    monkeypatch.setattr(type(get_device("cuda")), "capture", lambda self, launches: None)
    assert_same(fit("cuda", **options), replayed)


# -- numbers gone bad -------------------------------------------------------------------------------------------------


def spoiled():
    """Float images, one of them with NaN, which a set refuses where it sees it."""
    data = Dataset.from_arrays(DATA[0].astype(np.float32) / 255, DATA[1])
    data.images[2, 1, 1] = math.nan
    return data


def normalized(make):
    """``make`` with a normalisation of its own: the spoiled set has none."""

    def made(where):
        model = make(where)
        model.normalization = nc.normalization.Normalization((0.5,), (0.25,))
        return model

    return made


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator tells of NaN
@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "ema": 0.5}], ids=str)
def test_skipped_batches_leave_no_trace(options):
    options |= {"make": normalized(whole), "data": spoiled(), "on_nan": "skip"}
    options["optimizer"] = lambda: nc.Adam(0.01)  # whose correction counts the updates that were made
    found = fit("cuda", **options)
    assert [record.skipped for record in found[0].epochs] == [1, 1]
    assert_alike(found, fit("cpu", **options))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_bad_batch_ends_the_training_and_changes_nothing(monkeypatch):
    """Read at the end of the epoch alone: steps behind the bad one run, and change nothing either."""
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    results = []
    for where in ("cpu", "cuda"):
        model = normalized(whole)(where)
        with pytest.raises(nc.NumbacnnError, match=r"image 2 of the input at epoch 1, step 2;") as raised:
            model.fit(spoiled(), batch_size=3, epochs=2, seed=0, optimizer=nc.SGD(0.1))
        results.append((str(raised.value), dict(model.parameters)))
    (message, expected), (found_message, found) = results
    assert found_message == message
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)


def test_a_launch_that_fails_later_is_named_by_its_part_of_the_step(monkeypatch):
    class Failure(Exception):  # noqa: N818
        """As a driver's error."""

    def synchronize():
        raise Failure("an illegal memory access")

    monkeypatch.setattr(get_device("cuda")._shim, "DeviceError", Failure)
    monkeypatch.setattr(get_device("cuda")._shim, "synchronize", synchronize)
    with pytest.raises(nc.NumbacnnError, match="gathering the batch failed on the GPU: an illegal memory access"):
        fit("cuda")


# -- what comes between steps -----------------------------------------------------------------------------------------


def test_a_resumed_training_is_the_one_in_one_go(tmp_path):
    """Stopped within an epoch, and between the batches of an update."""
    options = {"make": whole, "accumulate": 2, "ema": 0.5, "augment": "translate=1"}
    options["optimizer"] = lambda: nc.Adam(0.01)
    expected = fit("cuda", **options)
    options |= {"checkpoint": tmp_path / "c", "checkpoint_every": 1}
    fit("cuda", callbacks=[lambda event: getattr(event, "step", 0) == 1 and event.epoch == 2], **options)
    assert_same(fit("cuda", resume=True, **options), expected)


def test_changes_by_callbacks_are_seen_at_once():
    def run(where):
        optimizer, model = nc.SGD(0.1), whole(where)

        def change(event):
            if isinstance(event, nc.EpochEnd):
                model.freeze("batch_norm_1.*")
            elif event.step == 2:
                optimizer.learning_rate *= 0.5

        history = model.fit(DATA, batch_size=3, epochs=2, optimizer=optimizer, callbacks=[change])
        return history, dict(model.store.arrays())

    assert_alike(run("cuda"), run("cpu"))


def test_events_tell_the_last_reading(monkeypatch):
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    events = []
    history, _ = fit("cuda", epochs=1, callbacks=[events.append])
    assert [event.images for event in events[:-1]] == [3, 3, 1]
    assert events[0].loss == events[1].loss  # behind the first step, and
    assert events[2].loss == history.epochs[0].loss  # behind the last one


# -- where the host drives --------------------------------------------------------------------------------------------


class OwnLayer(nc.Layer):
    op = "own_of_the_tests"

    def forward(self, kernels, t, g):
        kernels.copy(t.y, t.x)


def trainer(where="cuda", layers=(), **options):
    model = nc.Sequential([*layers, nc.Flatten(), nc.Dense(3)], (4, 4, 1), device=where)
    options = {"optimizer": nc.SGD(0.1), "epochs": 1, "batch_size": 3, "seed": 0} | options
    return Trainer(model, Dataset.from_arrays(*DATA), **options)


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("mixes", {"augment": "mixup"}),
        ("LAMB", {"optimizer": nc.LAMB()}),
        ("Muon", {"optimizer": nc.Muon()}),
        ("loss", {"loss": nc.losses.CrossEntropy(class_weights=[1, 2, 3])}),
        ("launch kernels", {"layers": [OwnLayer()]}),
        ('"cpu"', {"where": "cpu"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_host_drives_what_the_device_cannot(reason, options):
    made = trainer(**options)
    assert reason in device.why_not_on_device(made._host, made.augment)
    assert isinstance(made._steps, HostSteps)


def test_a_set_that_is_too_large_stays_with_the_host(monkeypatch):
    monkeypatch.setattr(type(get_device("cuda")), "free_memory", lambda self: 300)
    made = trainer()
    assert device.why_not_on_device(made._host, None) == "the data set takes 0 MiB, of the GPU's 0 MiB free"
    monkeypatch.undo()
    assert isinstance(trainer()._steps, DeviceSteps)
