"""The device loop against the host loop on the CPU, and CUDA graphs against single launches.

The latter is a real test only on a GPU: the simulator's graph is a list of launches. Data sets have seven images, and
batches three, so that the last batch has one.
"""

import gc
import math
import weakref
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from rules import RULES

import numbacnn as nc
from numbacnn.data import Dataset
from numbacnn.engine.device import get_device
from numbacnn.kernels.cuda.runtime import driver, launch
from numbacnn.kernels.cuda.runtime.memory import OutOfMemory
from numbacnn.training import device_augmentation
from numbacnn.training import device_loop as device
from numbacnn.training import device_memory as memory
from numbacnn.training.device_loop import DeviceLoop
from numbacnn.training.host_loop import HostLoop
from numbacnn.training.step import TrainingStep
from numbacnn.training.trainer import Position, Trainer

RNG = np.random.default_rng(0)
DATA = RNG.integers(0, 256, (7, 4, 4, 1), np.uint8), np.arange(7) % 3
EVERYTHING = "rotate=20, elastic=3:1, noise=0.1, cutout=2, color=0.3:0.2:0.1, hflip"


def small(where):
    return nc.Sequential([nc.Flatten(), nc.Dense(3)], (4, 4, 1), seed=1, device=where)


def whole(where):
    """A model with running statistics, random masks and a penalty."""
    layers = [nc.BatchNorm(), nc.ReLU(), nc.Flatten(), nc.Dropout(0.2)]
    return nc.Sequential([*layers, nc.Dense(3, l2=0.01)], (4, 4, 1), seed=1, device=where)


def trainer(where="cuda", layers=(), data=DATA, **options):
    """A trainer of ``small`` after other layers."""
    model = nc.Sequential([*layers, nc.Flatten(), nc.Dense(3)], (4, 4, 1), seed=1, device=where)
    options = {"optimizer": nc.SGD(0.1), "epochs": 1, "batch_size": 3, "seed": 0} | options
    return Trainer(model, Dataset.from_arrays(*data), **options)


def fit(where, make=small, data=DATA, optimizer=lambda: nc.SGD(0.1, momentum=0.9), **options):
    """Train, and return the history and all arrays of the model."""
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


def assert_same_bits(found, expected):
    for name, array in expected[1].items():
        np.testing.assert_array_equal(found[1][name], array, name)
    assert [record.loss for record in found[0].epochs] == [record.loss for record in expected[0].epochs]


@pytest.fixture
def captured(monkeypatch):
    """The numbers of launches of the captured graphs."""
    sizes, capture = [], type(get_device("cuda")).capture

    def counted(self, launches):
        replay = capture(self, launches)
        assert replay is not None
        sizes.append(len(launches))
        return replay

    monkeypatch.setattr(type(get_device("cuda")), "capture", counted)
    return sizes


def test_everything_together_is_as_on_the_cpu(captured):
    """The first of three epochs launches kernels, and the others replay graphs: no number of a step is captured."""
    options = {"schedule": "cosine", "ema": 0.5, "accumulate": 2, "augment": EVERYTHING, "epochs": 3}
    options |= {"make": whole, "optimizer": lambda: nc.Adam(0.01, clip_norm=0.5)}
    assert_alike(fit("cuda", **options), fit("cpu", **options))
    assert len(captured) == 3  # batches of three with and without an update, and the last one


OPTIMIZERS = {
    **{rule.kind.__name__: rule.make for rule in RULES},
    "SGD": lambda: nc.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clip_value=0.1),
    "AdamW": lambda: nc.AdamW(0.01, groups=[nc.ParamGroup("*.bias", weight_decay=0.0, learning_rate=0.1)]),
    "RMSprop": lambda: nc.RMSprop(0.01),
    "RMSprop with all options": lambda: nc.RMSprop(0.01, momentum=0.9, centered=True, weight_decay=0.01),
    "Adagrad": lambda: nc.Adagrad(0.1),
    "LAMB": lambda: nc.LAMB(0.1, clip_norm=0.5),
    "Muon": lambda: nc.Muon(0.1, weight_decay=0.1),
    "Muon without matrices": lambda: nc.Muon(
        0.1, nesterov=False, groups=[nc.ParamGroup("*.weight", orthogonalize=False)]
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers(optimizer):
    assert_alike(fit("cuda", optimizer=optimizer), fit("cpu", optimizer=optimizer))


def test_float_images_masks_and_a_loss_of_one_hot_targets():
    def make(where):
        return nc.Sequential([nc.Conv2D(3, 1)], (4, 4, 2), seed=1, device=where)

    masks = RNG.integers(0, 3, (5, 4, 4))
    data = RNG.standard_normal((5, 4, 4, 2)).astype(np.float32), masks
    options = {"make": make, "data": data, "loss": "dice", "augment": "noise=0.1"}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["mixup=0.4", "hflip, cutmix, noise=0.1, mixup=0.4@0.7, translate=1"])
def test_mixed_images_and_labels(augment):
    """The second of two mixing transforms mixes images that the first has mixed."""
    options = {"make": whole, "augment": augment, "loss": nc.losses.CrossEntropy(0.1)}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


def test_a_loss_without_soft_labels_says_so():
    for loss, message in (("focal", "needs integer classes"), ("sigmoid_focal", "each must be 0 or 1")):
        with pytest.raises(nc.errors.ArgumentError, match=message):
            fit("cuda", loss=loss, augment="mixup")


WEIGHTED = {
    "class weights": nc.losses.CrossEntropy(0.1, class_weights=[0.0, 2.0, 0.5]),
    "an ignored label": nc.losses.CrossEntropy(ignore_index=1),
    "both, focal": nc.losses.Focal(class_weights=[1.0, 2.0, 3.0], ignore_index=0),
}


@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=WEIGHTED)
def test_weighted_and_ignored_labels(loss):
    """Some batches have a single label, which may be one of weight 0."""
    data = DATA[0], np.array([0, 1, 1, 2, 1, 0, 0])
    for batch_size in (1, 3):
        options = {"loss": loss, "data": data, "epochs": 1, "batch_size": batch_size}
        assert_alike(fit("cuda", **options), fit("cpu", **options))


MASKED = RNG.integers(0, 256, (5, 4, 6, 2), np.uint8), RNG.integers(0, 3, (5, 4, 6), np.uint8)


@pytest.mark.parametrize(
    ("loss", "augment"),
    [
        (nc.losses.CrossEntropy(ignore_index=2), "rotate=20, elastic=3:1, noise=0.1, crop=1, elastic=2:1"),
        (nc.losses.Dice(), "hflip, translate=1.5"),
    ],
    ids=["labels", "one-hot"],
)
def test_masks_follow_the_augmentation(loss, augment):
    def make(where):
        return nc.Sequential([nc.Conv2D(3, 1)], (4, 6, 2), seed=1, device=where)

    options = {"make": make, "data": MASKED, "loss": loss, "augment": augment}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


BOXES = [
    np.array([[0, 1, 5, 6, 0], [1, 2, 4, 5, 1]], np.float32),  # two centers in one cell
    np.array([[0, 0, 3, 4, 1]], np.float32),
    np.zeros((0, 5), np.float32),
    np.array([[4, 4, 8, 8, 0], [0, 5, 1, 8, 1], [3, 0, 8, 1, 0]], np.float32),
]


@pytest.mark.parametrize("augment", [None, "hflip, rotate=15, noise=0.1, elastic=5:2, translate=2"])
def test_boxes_follow_the_augmentation(augment):
    def make(where):
        return nc.Sequential([nc.Conv2D(7, 4, stride=4)], (8, 8, 1), device=where, seed=1)

    data = Dataset.from_arrays(RNG.integers(0, 256, (4, 8, 8, 1), np.uint8), BOXES)
    options = {"make": make, "data": data, "augment": augment, "epochs": 1}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


def test_auxiliary_outputs_and_penalties():
    """Each has a row of partial sums."""

    def make(where):
        x = nc.Input((4, 4, 1))
        features = nc.Flatten()(x)
        head, side = nc.Dense(3, l2=0.01)(features), nc.Dense(3, l1=0.01)(features)
        return nc.Model(x, head, auxiliary=[side], auxiliary_weight=0.3, seed=1, device=where)

    options = {"make": make, "loss": ["cross_entropy", "binary_cross_entropy"], "epochs": 1}
    assert_alike(fit("cuda", **options), fit("cpu", **options))


def test_graphs_and_single_launches_give_the_same_bits(monkeypatch, captured):
    options = {"make": whole, "augment": "hflip"}
    replayed = fit("cuda", **options)
    assert len(captured) == 2
    monkeypatch.setattr(type(get_device("cuda")), "capture", lambda self, launches: None)
    assert_same_bits(fit("cuda", **options), replayed)


def test_without_a_graph_training_continues_with_a_warning(monkeypatch):
    def capture(work):
        raise RuntimeError("this driver has none")

    expected = fit("cuda")
    monkeypatch.setattr(launch, "capture", capture)
    with pytest.warns(RuntimeWarning, match="no CUDA graph, training launches kernel by kernel: this driver has none"):
        found = fit("cuda")
    assert_same_bits(found, expected)


# -- NaN --------------------------------------------------------------------------------------------------------------


def with_nan():
    """Float images, one of them with NaN, which ``Dataset`` would reject."""
    data = Dataset.from_arrays(DATA[0].astype(np.float32) / 255, DATA[1])
    data.images[2, 1, 1] = math.nan
    return data


def normalized(make):
    """``make`` with a normalization: images with NaN have no mean."""

    def made(where):
        model = make(where)
        model.normalization = nc.data.normalization.Normalization((0.5,), (0.25,))
        return model

    return made


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator warns about NaN
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(nc.Adam, {}), (nc.Adam, {"accumulate": 2, "ema": 0.5}), (nc.LAMB, {}), (nc.Muon, {})],
    ids=["Adam", "Adam and means", "LAMB", "Muon"],
)
def test_skipped_batches_leave_no_trace(optimizer, options):
    """Not even in the bias correction of Adam, which counts updates."""
    options = {"make": normalized(whole), "data": with_nan(), "on_nan": "skip", **options}
    options["optimizer"] = lambda: optimizer(0.01)
    found = fit("cuda", **options)
    assert [record.skipped for record in found[0].epochs] == [1, 1]
    assert_alike(found, fit("cpu", **options))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_bad_batch_ends_the_training_and_changes_nothing(monkeypatch):
    """Losses are read only at the end of the epoch: steps after the bad one run, but change nothing."""
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    results = []
    for where in ("cpu", "cuda"):
        model = normalized(whole)(where)
        with pytest.raises(nc.NumbacnnError, match=r"image 2 of the input at epoch 1, step 2;") as raised:
            model.fit(with_nan(), batch_size=3, epochs=2, seed=0, optimizer=nc.SGD(0.1))
        results.append((str(raised.value), dict(model.parameters)))
    (message, expected), (found_message, found) = results
    assert found_message == message
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)


def test_the_error_of_a_failed_launch_names_the_part_of_the_step(monkeypatch):
    class Failure(Exception):  # noqa: N818
        """An error of the driver."""

    def synchronize():
        raise Failure("an illegal memory access")

    monkeypatch.setattr(driver, "DeviceError", Failure)
    monkeypatch.setattr(driver, "synchronize", synchronize)
    with pytest.raises(nc.NumbacnnError, match="gathering the batch failed on the GPU: an illegal memory access"):
        fit("cuda")


# -- between steps ----------------------------------------------------------------------------------------------------


def test_a_resumed_training_has_the_same_bits(tmp_path):
    """It was stopped within an epoch, and between the batches of an update."""
    options = {"make": whole, "accumulate": 2, "ema": 0.5, "augment": "translate=1"}
    options["optimizer"] = lambda: nc.Adam(0.01)
    expected = fit("cuda", **options)
    options |= {"checkpoint": tmp_path / "c", "checkpoint_every": 1}
    fit("cuda", callbacks=[lambda event: getattr(event, "step", 0) == 1 and event.epoch == 2], **options)
    assert_same_bits(fit("cuda", resume=True, **options), expected)


CHANGES = {
    "the learning rate": lambda model, optimizer: setattr(optimizer, "learning_rate", 0.01),
    "a group's learning rate, in place": lambda model, optimizer: optimizer.groups[0].options.update(learning_rate=0.0),
    "a group's momentum, in place": lambda model, optimizer: optimizer.groups[0].options.update(momentum=0.0),
    "clipping": lambda model, optimizer: setattr(optimizer, "clip_value", 1e-3),
    "freezing": lambda model, optimizer: model.freeze("*.bias"),
    "the normalization": lambda model, optimizer: setattr(
        model, "normalization", nc.data.normalization.Normalization((0.2,), (0.1,))
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_by_callbacks_take_effect_from_the_next_step(change):
    """The callback acts after the first of three steps."""

    def run(where, change=lambda model, optimizer: None):
        model = small(where)
        optimizer = nc.SGD(0.1, momentum=0.9, groups=[nc.ParamGroup("*.weight", learning_rate=0.05)])

        def callback(event):
            if getattr(event, "step", 0) == 1:
                change(model, optimizer)

        history = model.fit(DATA, batch_size=3, epochs=1, optimizer=optimizer, callbacks=[callback])
        return history, dict(model.store.arrays())

    expected, unchanged = run("cpu", change), run("cpu")
    assert_alike(run("cuda", change), expected)
    assert any(np.abs(array - unchanged[1][name]).max() > 1e-3 for name, array in expected[1].items())


OTHERS = {
    "the learning rate": lambda others: setattr(others, "learning_rate", 0.2),
    "the betas": lambda others: setattr(others, "betas", (0.1, 0.2)),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_changes_of_muons_other_optimizer_take_effect_from_the_next_step(change):
    """The callback acts after the first of three steps."""

    def run(where, change=lambda others: None):
        model, others = small(where), nc.AdamW(0.05)

        def callback(event):
            if getattr(event, "step", 0) == 1:
                change(others)

        optimizer = nc.Muon(0.1, others=others)
        history = model.fit(DATA, batch_size=3, epochs=1, optimizer=optimizer, callbacks=[callback])
        return history, dict(model.store.arrays())

    expected, unchanged = run("cpu", change), run("cpu")
    assert_alike(run("cuda", change), expected)
    assert any(np.abs(array - unchanged[1][name]).max() > 1e-3 for name, array in expected[1].items())


def test_muon_with_a_custom_optimizer_runs_on_the_host():
    """Its update may do anything."""

    class CustomRule(nc.AdamW):
        def _update(self, kernels, t, scalars):
            pass

    assert nc.Muon().is_replayable
    assert not nc.Muon(others=CustomRule()).is_replayable
    assert not nc.Muon(groups=[nc.ParamGroup("*.weight", others=CustomRule())]).is_replayable


def test_new_learning_rates_need_no_new_graphs(monkeypatch, captured):
    """Nor is the epoch's augmentation drawn again."""
    plans, draw = [], device_augmentation.draw_uniforms
    monkeypatch.setattr(device_augmentation, "draw_uniforms", lambda *arguments: plans.append(1) or draw(*arguments))

    def run(where):
        model, optimizer = small(where), nc.SGD(0.1)

        def decay(event):
            optimizer.learning_rate *= 0.9

        options = {"epochs": 3, "batch_size": 3, "seed": 3, "augment": "hflip"}
        history = model.fit(DATA, optimizer=optimizer, callbacks=[decay], **options)
        return history, dict(model.store.arrays())

    assert_alike(run("cuda"), run("cpu"))
    assert len(captured) == 2
    assert len(plans) == 3


def test_freezing_frees_buffers_before_it_allocates_others(monkeypatch):
    """The data set stays on the device."""
    alive, arena, uploads, upload = weakref.WeakSet(), type(get_device("cuda")).arena, [], memory.DeviceData.upload

    def counted(self, size, batch):
        gc.collect()  # a simulated launch refers to itself
        assert not alive
        made = arena(self, size, batch)
        alive.add(made.memory)
        return made

    monkeypatch.setattr(type(get_device("cuda")), "arena", counted)
    monkeypatch.setattr(memory.DeviceData, "upload", lambda *arguments: uploads.append(1) or upload(*arguments))
    model = small("cuda")

    def change(event):
        if getattr(event, "step", 0) == 1:
            model.freeze("*.bias") if event.epoch == 1 else model.unfreeze()

    model.fit(DATA, batch_size=3, epochs=2, augment="hflip", callbacks=[change])
    assert alive
    assert len(uploads) == 1


def test_a_closed_training_continues_from_its_position(monkeypatch):
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    complete, closed = trainer(), trainer()
    assert len(list(complete.run())) == 4
    with closing(closed.run()) as events:
        next(events), next(events)  # the second loss was not read
    assert (closed.position.step, closed.position.images) == (2, 6)
    list(closed.run())
    assert closed.history.epochs[0].loss == complete.history.epochs[0].loss
    assert closed.history.epochs[0].accuracy == complete.history.epochs[0].accuracy


def test_an_interrupted_training_is_positioned_after_its_last_step(monkeypatch):
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    made, run, steps = trainer(), memory.RecordedStep.run, []

    def interrupted(self, device):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(run(self, device))

    monkeypatch.setattr(memory.RecordedStep, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(made.run())
    assert (made.position.images, made.optimizer.steps) == (6, 2)


def test_the_reported_learning_rate_is_that_of_the_update():
    made = trainer()
    with closing(made.run()) as events:
        next(events), next(events)
        made.optimizer.learning_rate = 5.0
    assert made.update.learning_rate == 0.1


# -- when losses are read ---------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The clock of a host that waits for the device in every reading: a second, or until ``wait()``."""
    clock = SimpleNamespace(now=0.0, readings=0, wait=lambda: clock.now + 1)
    read_now = TrainingStep.read

    def read(self):
        clock.readings, clock.now = clock.readings + 1, clock.wait()
        return read_now(self)

    monkeypatch.setattr(TrainingStep, "read", read)
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_no_more_than_a_tenth_of_a_second_of_steps_is_queued(monkeypatch, clock):
    """The device takes 10 ms for a step, and the host launches it in 0.3 ms."""
    done, queued = [0.0], []

    def run(self, device):
        clock.now += 0.0003
        done[0] = max(done[0], clock.now) + 0.01
        queued.append(done[0] - clock.now)

    clock.wait = lambda: max(clock.now, done[0])
    monkeypatch.setattr(memory.RecordedStep, "run", run)
    steps = trainer(batch_size=1, data=(np.zeros((60, 4, 4, 1), np.uint8), np.arange(60) % 3))._loop
    assert len(list(steps.epoch(Position()))) == 60
    assert max(queued) < device.READ_EVERY + 0.01
    assert clock.readings < 10


def test_seconds_include_all_waiting(tmp_path, clock):
    """Checkpoints wait, too."""
    made = trainer(checkpoint=tmp_path / "c", checkpoint_every=1)
    list(made.run())
    assert clock.readings >= 4  # one for each step, and one at the end of the epoch
    assert made.history.epochs[0].seconds == clock.now == clock.readings


def test_events_report_the_last_reading(monkeypatch):
    monkeypatch.setattr(device, "READ_EVERY", math.inf)
    events = []
    history, _ = fit("cuda", epochs=1, callbacks=[events.append])
    assert [event.images for event in events[:-1]] == [3, 3, 1]
    assert events[0].loss == events[1].loss  # read after the first step
    assert events[2].loss == history.epochs[0].loss  # read after the last one


# -- when the host runs the steps -------------------------------------------------------------------------------------


class CustomLayer(nc.Layer):
    op = "custom_of_the_tests"

    def forward(self, kernels, t, g):
        kernels.copy(t.y, t.x)


class CustomOptimizer(nc.SGD):
    """Its update may do anything."""


class CustomLoss(nc.losses.CrossEntropy):
    """It may do anything."""


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("CustomOptimizer", {"optimizer": CustomOptimizer(0.1)}),
        ("loss", {"loss": CustomLoss()}),
        ("launch kernels", {"layers": [CustomLayer()]}),
        ('"cpu"', {"where": "cpu"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_host_runs_what_the_device_cannot(reason, options):
    made = trainer(**options)
    assert reason in device.why_not_on_device(made.host)
    assert isinstance(made._loop, HostLoop)


TAGS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]])
VALUES = np.linspace(-1, 1, 21, dtype=np.float32).reshape(7, 3)


def one_output(where, end=()):
    return nc.Sequential([nc.Flatten(), nc.Dense(1), *end], (4, 4, 1), seed=1, device=where)


def sigmoid_output(where):
    return one_output(where, [nc.Sigmoid()])


ROWS = {
    "tags": ("rows", {"data": (DATA[0], TAGS)}),
    "tags, augmented": ("rows", {"data": (DATA[0], TAGS), "make": whole, "augment": "hflip, noise=0.1"}),
    "values, huber": ("rows", {"data": (DATA[0], VALUES), "make": whole, "loss": "huber"}),
    "one value": ("single output", {"data": (DATA[0], VALUES[:, :1]), "make": one_output}),
    "two classes of a logit": ("single output", {"data": (DATA[0], np.arange(7) % 2), "make": one_output}),
    "two classes of a probability": ("single output", {"data": (DATA[0], np.arange(7) % 2), "make": sigmoid_output}),
}


@pytest.mark.parametrize(("reason", "options"), ROWS.values(), ids=ROWS)
def test_rows_and_single_outputs_are_trained_as_on_the_cpu(reason, options, monkeypatch):
    """The host runs the steps, whose kernels are the device's; validation and predictions are compared, too."""
    reasons, why = [], device.why_not_on_device
    monkeypatch.setattr(device, "why_not_on_device", lambda host: reasons.append(why(host)) or reasons[-1])
    models = {where: options.get("make", small)(where) for where in ("cuda", "cpu")}
    options = {**options, "validation": options["data"], "optimizer": lambda: nc.SGD(0.01, momentum=0.9)}
    found, expected = (fit(where, **{**options, "make": models.get}) for where in ("cuda", "cpu"))
    assert reason in reasons[0]
    assert_alike(found, expected)
    for ours, theirs in zip(found[0].epochs, expected[0].epochs, strict=True):
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)
    np.testing.assert_allclose(models["cuda"].predict(DATA[0]), models["cpu"].predict(DATA[0]), rtol=1e-4, atol=1e-5)


def test_a_data_set_that_does_not_fit_stays_on_the_host(monkeypatch):
    """The buffers of the validation are allocated before free memory is measured."""
    made, buffers = trainer(validation=Dataset.from_arrays(*DATA)), []
    monkeypatch.setattr(
        type(get_device("cuda")), "free_memory", lambda self: buffers.extend(made.model._executors) or 300
    )
    with pytest.warns(RuntimeWarning, match="the host runs .* steps: the data set takes 0 MiB of 0 MiB of free"):
        assert isinstance(made._loop, HostLoop)
    assert buffers == [(True, False, None), (False, False, None)]
    monkeypatch.undo()
    assert isinstance(trainer()._loop, DeviceLoop)


class Full:
    """Device memory in which allocation number ``fails`` fails, counted from now on."""

    def __init__(self, monkeypatch, fails):
        self.count, self.fails, self._zeros = 0, fails, get_device("cuda")._array.zeros
        monkeypatch.setattr(get_device("cuda")._array, "zeros", self)

    def __call__(self, shape, dtype=np.float32):
        self.count += 1
        if self.count == self.fails:
            raise OutOfMemory(8 << 30, 2 << 30)
        return self._zeros(shape, dtype)


NO_ROOM = "the host runs the training steps: out of GPU memory: 8,192 MiB"


def test_if_an_allocation_fails_the_host_runs_the_steps():
    """Memory may be taken meanwhile, or fragmented. The data set, a table, or an argument of a launch fails."""

    def run(fails):
        made = trainer(batch_size=7, augment="hflip", optimizer=nc.SGD(0.1, clip_norm=1.0))
        steps = made._loop  # after the model's own buffers have been allocated
        with pytest.MonkeyPatch.context() as monkeypatch:
            memory = Full(monkeypatch, fails)
            (position,) = steps.epoch(Position())
        return memory.count, position, dict(made.model.parameters)

    count, expected, parameters = run(fails=0)
    for fails in (1, count // 3, count):
        with pytest.warns(RuntimeWarning, match=NO_ROOM) as warned:
            _, position, found = run(fails)
        assert len(warned) == 1
        assert position.loss == pytest.approx(expected.loss, rel=1e-5)
        for name, array in found.items():
            np.testing.assert_allclose(array, parameters[name], rtol=1e-5, atol=1e-7)


def test_if_recording_again_fails_the_host_runs_the_rest(monkeypatch):
    """The steps are recorded again after the first of three, whose sums are kept; the host runs the next epoch, too."""

    def full(*arguments):
        raise nc.errors.DeviceMemoryError("out of GPU memory: 8,192 MiB asked")

    def run(where):
        model = small(where)

        def freeze(event):
            if getattr(event, "step", 0) == 1 and event.epoch == 1:
                model.freeze("*.bias")
                monkeypatch.setattr(device, "TrainingMemory", full)

        history = model.fit(DATA, batch_size=3, epochs=2, optimizer=nc.SGD(0.1), callbacks=[freeze])
        return history, dict(model.store.arrays())

    with pytest.warns(RuntimeWarning, match=NO_ROOM) as warned:
        found = run("cuda")
    assert len(warned) == 1
    monkeypatch.undo()
    assert_alike(found, run("cpu"))
