"""Logs of trainings: what event files and trackers hold, also after a training is killed and resumed."""

import io
import struct
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
from command_line import numbacnn, rejected
from PIL import Image
from processes import run_python
from trainings import TIMES, data

import numbacnn as nc
from numbacnn.logs import Log, TensorBoard, Tracker

STEPS = 5  # in an epoch of ``fit``


def fit(callbacks, epochs=2, **options):
    layers = [nc.Conv2D(3, 3), nc.ReLU(), nc.Flatten(), nc.Dense(3)]
    model = nc.Sequential(layers, (8, 8, 1), seed=1)
    model.fit(data(77), validation=data(20, seed=1), epochs=epochs, batch_size=16, callbacks=callbacks, **options)
    return model


class Killed(BaseException):
    """Ends a training where it is raised."""


def kill_after(events):
    numbers = iter(range(1, events + 1))

    def callback(event):
        if next(numbers) == events:
            raise Killed

    return callback


# -- TensorBoard ------------------------------------------------------------------------------------------------------

tensorboard = pytest.mark.skipif(
    find_spec("tensorboardX") is None or find_spec("matplotlib") is None,
    reason="tensorboardX or matplotlib is not installed",
)


def values(folder):
    """(tag, step, value) of every summary in the event files, in order."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.glob("events*")):
        content = file.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event, content = Event.FromString(content[12 : 12 + size]), content[16 + size :]
            found += [(value.tag, event.step, value) for value in event.summary.value]
    return found


def scalars(folder):
    """{tag: {step: value}} without times. No step occurs twice."""
    found = {}
    for tag, step, value in values(folder):
        if value.WhichOneof("value") == "simple_value" and tag.partition("/")[2] not in TIMES:
            assert step not in found.setdefault(tag, {}), (tag, step)
            found[tag][step] = value.simple_value
    return found


@tensorboard
def test_tensorboard_gets_every_step_and_epoch(tmp_path):
    events = []
    with TensorBoard(tmp_path) as log:
        fit([log, events.append])
    found = scalars(tmp_path)
    steps = [event for event in events if isinstance(event, nc.StepEnd)]
    records = [event.record for event in events if isinstance(event, nc.EpochEnd)]
    assert list(found["step/loss"]) == list(range(1, 11))
    np.testing.assert_allclose(list(found["step/loss"].values()), [event.loss for event in steps], rtol=1e-6)
    np.testing.assert_allclose(list(found["step/accuracy"].values()), [event.accuracy for event in steps], rtol=1e-6)
    for name in ("loss", "validation_loss", "validation_accuracy", "learning_rate"):
        expected = {record.epoch: pytest.approx(getattr(record, name)) for record in records}
        assert found[f"epoch/{name}"] == expected
    assert "epoch/validation_score" not in found  # there is none in classification


@tensorboard
def test_every_event_is_on_disk_at_once(tmp_path):
    counts = []
    with TensorBoard(tmp_path) as log:
        fit([log, lambda event: counts.append(len(scalars(tmp_path).get("step/loss", ())))])
    assert counts == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]


@tensorboard
@pytest.mark.parametrize("every", [3, 100])
def test_tensorboard_may_skip_steps(tmp_path, every):
    with TensorBoard(tmp_path, every=every) as log:
        fit([log])
    found = scalars(tmp_path)
    assert list(found.get("step/loss", ())) == list(range(every, 11, every))
    assert list(found["epoch/loss"]) == [1, 2]


@tensorboard
@pytest.mark.parametrize("events", range(1, 13))
def test_a_resumed_training_neither_repeats_nor_loses_a_step(tmp_path, events):
    """Killed after any event, of steps and of epochs, with a checkpoint every two steps."""
    with TensorBoard(tmp_path / "whole") as log:
        fit([log])
    options = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 2}
    with pytest.raises(Killed), TensorBoard(tmp_path / "log") as log:
        fit([log, kill_after(events)], **options)
    with TensorBoard(tmp_path / "log", resume=True) as log:
        fit([log], resume=True, **options)
    assert scalars(tmp_path / "log") == scalars(tmp_path / "whole")
    assert len(list((tmp_path / "log").iterdir())) == 1


@tensorboard
def test_half_a_record_at_the_end_is_left_out(tmp_path):
    with TensorBoard(tmp_path) as log:
        fit([log])
    expected = scalars(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    log = TensorBoard(tmp_path, resume=True)
    log.resume(nc.History(), nc.training.events.Position(epoch=2), STEPS)
    log.close()
    last = expected["epoch/loss"].pop(2), expected["epoch/loss"]
    assert scalars(tmp_path)["epoch/loss"] == last[1]
    assert scalars(tmp_path)["step/loss"] == expected["step/loss"]


@tensorboard
def test_another_training_needs_another_folder(tmp_path):
    with TensorBoard(tmp_path) as log:
        fit([log])
        with pytest.raises(nc.ArgumentError, match="belongs to a training that is further; make a log for each"):
            fit([log])
    with pytest.raises(nc.ArgumentError, match="has a log already; use another folder, or resume=True"):
        TensorBoard(tmp_path)


@tensorboard
def test_results_have_scores_and_pictures(tmp_path):
    test = nc.data.Dataset.from_arrays(*data(30, seed=2))
    with TensorBoard(tmp_path) as log:
        model = fit([log])
        log.results(model, test)
    assert scalars(tmp_path)["test/loss"] == {2: pytest.approx(model.evaluate(test)["loss"])}
    images = {tag: (step, value.image) for tag, step, value in values(tmp_path) if value.HasField("image")}
    assert set(images) == {"filters", "confusion matrix", "mistakes"}
    for step, image in images.values():
        assert step == 2
        assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)


@tensorboard
def test_pictures_that_a_model_does_not_have_are_left_out(tmp_path):
    labels = np.zeros(8, np.int64)
    test = nc.data.Dataset.from_arrays(np.zeros((8, 4, 4), np.uint8), labels, ["only"])
    with TensorBoard(tmp_path) as log:
        log.results(nc.Sequential([nc.Flatten(), nc.Dense(1)], (4, 4, 1)), test)  # no convolution, no mistake
    assert {tag for tag, _, value in values(tmp_path) if value.HasField("image")} == {"confusion matrix"}


@tensorboard
def test_tensorboard_reads_the_files(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    with TensorBoard(tmp_path, hyperparameters={"lr": 0.1, "model": "small", "nesterov": True}) as log:
        model = fit([log])
        log.results(model, nc.data.Dataset.from_arrays(*data(30, seed=2)))
    found = reader.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in found.Scalars("step/loss")] == list(range(1, 11))
    assert found.Tags()["images"] == ["filters", "confusion matrix", "mistakes"]
    content = found.PluginTagToContent("hparams")
    assert set(content) == {f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info")}
    given = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert given["lr"].number_value == pytest.approx(0.1)
    assert (given["model"].string_value, given["nesterov"].bool_value) == ("small", True)


TRAIN = ("train", "--epochs", 2, "--batch-size", 120, "--log", "tensorboard", "--quiet", "--out")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The scalars of a run that is not killed, of two epochs with 11 steps and an event at the end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = numbacnn(*TRAIN, folder)
    assert outcome.code == 0
    assert f"log:  tensorboard --logdir {folder}\n" in outcome.out
    return scalars(folder / "tensorboard")


@tensorboard
@pytest.mark.parametrize("events", [1, 12, 13, 24])
def test_a_killed_run_resumes_its_log(tmp_path, monkeypatch, whole_run, events):
    """Killed after an event's checkpoint is written, and before it is logged."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        call, kill = Log.__call__, kill_after(events)
        patch.setattr(Log, "__call__", lambda log, event: (kill(event), call(log, event)))
        assert numbacnn(*TRAIN, "run", "--checkpoint-every", 1).code == 1
    outcome = numbacnn("train", "--out", "run", "--resume", "--quiet")
    assert outcome.code == 0, outcome.err
    assert scalars(tmp_path / "run/tensorboard") == whole_run
    assert list(whole_run["step/loss"]) == list(range(1, 23))


@tensorboard
def test_a_log_that_begins_later_has_the_earlier_epochs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert numbacnn("train", "--epochs", 1, "--batch-size", 120, "--quiet", "--out", "run").code == 0
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "--log", "tensorboard", "--quiet").code == 0
    found = scalars(tmp_path / "run/tensorboard")
    assert list(found["epoch/loss"]) == [1, 2]
    assert list(found["step/loss"]) == list(range(12, 23))


def test_without_tensorboardx_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    rejected("pip install 'numbacnn[tensorboard]'", "train", "--log", "tensorboard", "--out", "run")
    assert "tensorboardX" not in run_python("-c", "import sys, numbacnn; print(*sys.modules)").split()


# -- trackers ---------------------------------------------------------------------------------------------------------


class FakeTracker(ModuleType):
    """A module that keeps what it is called with. It prints, as some do."""

    def __init__(self, name="wandb"):
        super().__init__(name)
        self.calls = []

    def init(self, project=None, name=None, config=None):
        print("welcome")
        self.calls.append(("init", project, name, config))

    def log(self, numbers, step=None):
        self.calls.append(("log", dict(numbers), step))

    def finish(self):
        print("goodbye")
        self.calls.append(("finish",))


def test_a_tracker_gets_every_step_and_epoch():
    module = FakeTracker()
    with Tracker(module, project="digits", name="first", hyperparameters={"lr": 0.02}) as log:
        model = fit([log])
        log.results(model, nc.data.Dataset.from_arrays(*data(30, seed=2)))
    first, *logged, last = module.calls
    assert (first, last) == (("init", "digits", "first", {"lr": 0.02}), ("finish",))
    steps = [(step, numbers["epoch"]) for _, numbers, step in logged if "step/loss" in numbers]
    assert steps == [(number, 1 + (number - 1) // STEPS) for number in range(1, 11)]
    assert [(step, numbers["epoch"]) for _, numbers, step in logged if "epoch/loss" in numbers] == [(5, 1), (10, 2)]
    assert [step for _, numbers, step in logged if "test/accuracy" in numbers] == [10]
    assert [step for _, _, step in logged] == sorted(step for _, _, step in logged)


@pytest.mark.parametrize("name", ["wandb", "trackio", "swanlab"])
def test_train_logs_with_a_tracker(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    module = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, module)
    outcome = numbacnn("train", "--epochs", 1, "--batch-size", 120, "--log", name, "--json", "--quiet", "--out", "run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("{")
    (_, project, run, config), *logged, last = module.calls
    assert (project, run, config["batch-size"], config["log"], last) == ("numbacnn", "run", 120, name, ("finish",))
    assert logged[-1][2] == 11
    assert 0 < logged[-1][1]["test/accuracy"] <= 1


def test_an_interrupted_tracker_finishes_and_continues_with_the_next_step(tmp_path):
    module, options = FakeTracker(), {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 1}
    with pytest.raises(Killed), Tracker(module) as log:
        fit([log, kill_after(3)], **options)
    with Tracker(module) as log:
        fit([log], resume=True, **options)
    names = [call[0] for call in module.calls if call[0] != "log"]
    assert names == ["init", "finish"] * 2
    steps = [
        step for name, *rest in module.calls if name == "log" for numbers, step in [rest] if "step/loss" in numbers
    ]
    assert steps == list(range(1, 11))


def test_a_tracker_is_finished_when_a_run_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = FakeTracker()
    monkeypatch.setitem(sys.modules, "wandb", module)
    outcome = numbacnn("train", "--lr", 1e30, "--epochs", 1, "--log", "wandb", "--out", "run", "--quiet")
    assert outcome.code == 1
    assert [module.calls[0][0], module.calls[-1][0]] == ["init", "finish"]


def test_trackers_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "swanlab", None)
    rejected("logging to swanlab needs a package: pip install swanlab", "train", "--log", "swanlab", "--out", "run")
    with pytest.raises(nc.NumbacnnError, match="math has no function init or finish; a tracker has these"):
        Tracker("math")


@pytest.mark.filterwarnings("default:.*cannot be written")
def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = FakeTracker()
    monkeypatch.setitem(sys.modules, "wandb", module)

    def fail(numbers, step):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "log", fail)
    outcome = numbacnn("train", "--epochs", 1, "--batch-size", 120, "--log", "wandb", "--out", "run")
    assert (outcome.code, "test accuracy" in outcome.out) == (1, True)
    assert "run: wandb could not be written" in outcome.err
    assert outcome.err.count("wandb: cannot be written (No space left on device); training continues") == 1
