"""``numbacnn train``: the folder of the run, resuming, interruption, early stopping and output."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import contents, finished, numbacnn, process, rejected
from faults import Faults

import numbacnn as nc
from numbacnn.data import files
from numbacnn.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parameters(path):
    return dict(nc.load(path).parameters)


def assert_same_weights(a, b):
    a, b = parameters(a), parameters(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def rows(folder):
    with Path(folder, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def config(folder):
    return tomllib.loads(Path(folder, "config.toml").read_text())


def test_defaults_learn_the_digits():
    outcome = finished("train")
    assert outcome.code == 0, outcome.err
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"lenet5-digits-\d{8}-\d{6}", run.name)
    assert {path.name for path in run.iterdir()} == {
        "config.toml",
        "metrics.csv",
        "checkpoint.safetensors",
        "checkpoint-previous.safetensors",
        "model.safetensors",
        "best.safetensors",
        "provenance.toml",
    }
    assert config(run)["optimizer"] == "sgd"
    assert [row["epoch"] for row in rows(run)] == [str(n + 1) for n in range(config(run)["epochs"])]
    accuracy = float(re.search(r"test accuracy +([\d.]+) %", outcome.out).group(1))
    assert accuracy >= 97
    assert outcome.out.endswith(f"next: numbacnn predict {run} IMAGE.png\n")
    assert sum(line.startswith("epoch ") for line in outcome.err.splitlines()) == config(run)["epochs"]


def test_json_is_one_object():
    outcome = numbacnn("train", "--epochs", 2, "--json", "--quiet", "--out", "run")
    assert (outcome.code, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    assert [record["epoch"] for record in result["epochs"]] == [1, 2]
    assert result["parameters"] == 61_706
    assert result["test"]["images"] == 360
    best = max(result["epochs"], key=lambda record: record["validation_accuracy"])
    assert (result["best"]["epoch"], result["best"]["validation_accuracy"]) == (
        best["epoch"],
        best["validation_accuracy"],
    )


def test_best_weights_are_kept():
    numbacnn("train", "--epochs", 6, "--out", "run", "-q", "--lr", 0.06)
    accuracies = [float(row["validation_accuracy"]) for row in rows("run")]
    train, _ = nc.data.load("digits")
    _, validation = train.split(0.1, seed=0)
    assert nc.load("run/best.safetensors").evaluate(validation)["accuracy"] == max(accuracies)
    assert nc.load("run/model.safetensors").evaluate(validation)["accuracy"] == accuracies[-1]


CONSTANT = ("--schedule", "constant")  # a cosine over more epochs differs from the first step


def test_resumed_run_equals_an_uninterrupted_run():
    assert numbacnn("train", "--epochs", 3, "--out", "whole", "-q", *CONSTANT).code == 0
    assert numbacnn("train", "--epochs", 2, "--out", "parts", "-q", *CONSTANT).code == 0
    assert numbacnn("train", "--out", "parts", "--resume", "--epochs", 3, "-q").code == 0
    assert_same_weights("whole/model.safetensors", "parts/model.safetensors")
    assert_same_weights("whole/best.safetensors", "parts/best.safetensors")
    assert [row["loss"] for row in rows("whole")] == [row["loss"] for row in rows("parts")]
    assert config("parts") == config("whole")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals for one process")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_resumes_where_it_stopped(sign):
    child = process("train", "--epochs", 300, "--out", "run", "--batch-size", 16, *CONSTANT)
    while not child.stderr.readline().startswith("epoch 1/"):
        assert child.poll() is None
    child.send_signal(sign)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + sign
    assert out == ""
    assert "resume with: numbacnn train --out run --resume" in err
    epochs = int(re.search(r"interrupted after (\d+) epochs", err).group(1))
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", epochs + 1, "-q").code == 0
    assert numbacnn("train", "--out", "whole", "--epochs", epochs + 1, "-q", "--batch-size", 16, *CONSTANT).code == 0
    assert_same_weights("whole/model.safetensors", "run/model.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals for one process")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process_immediately(sign):
    """The signals arrive during a step that takes a minute."""
    slow = """
import sys, time
import numbacnn as nc
from numbacnn.cli import main
def slow_run(self, targets):
    print("step", flush=True)
    time.sleep(60)
nc.training.batch.TrainingBatch.run = slow_run
sys.exit(main(["train", "--out", "run", "--quiet"]))
"""
    child = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "step\n"
    child.send_signal(sign)
    lines = [child.stderr.readline() for _ in range(2)]
    assert lines == ["\n", "stopping after this step; press Ctrl-C again to stop immediately\n"]
    assert child.poll() is None
    child.send_signal(sign)
    child.communicate(timeout=20)
    assert child.returncode == -sign  # shells add 128 to the signal's number


@pytest.mark.parametrize("interval", [7, "1s", "5m"])
def test_checkpoints_every_n_steps_or_seconds(interval):
    assert numbacnn("train", "--epochs", 1, "--checkpoint-every", interval, "--out", "run", "-q").code == 0
    assert config("run")["checkpoint-every"] == interval
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "-q").code == 0
    rejected("use a whole number of steps, or a time such as", "train", "--checkpoint-every", "5 days", code=2)


def full_disk(monkeypatch):
    """Make every write fail from now on."""
    faults = Faults(1, errno.ENOSPC, lasting=True)
    faults.calls.append("write")
    monkeypatch.setattr(files, "os", faults)
    return faults


@pytest.mark.filterwarnings("default:.*cannot be written")
@pytest.mark.parametrize("policy", ["warn", "stop"])
def test_full_disk_warns_or_stops_and_keeps_the_earlier_files(monkeypatch, policy):
    assert numbacnn("train", "--epochs", 1, "--out", "run", "-q", *CONSTANT).code == 0
    before = contents("run")
    write_config = RunFolder.write_config
    monkeypatch.setattr(RunFolder, "write_config", lambda *a: write_config(*a) or full_disk(monkeypatch))
    outcome = numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "-q", "--on-save-error", policy)
    assert "cannot be written (No space left on device)" in outcome.err
    assert outcome.code == 1, outcome
    if policy == "warn":
        *warnings, error = outcome.err.splitlines()
        assert warnings
        assert all(re.fullmatch("warning: .*; training continues, and what was saved .*", line) for line in warnings)
        unsaved = "best.safetensors, checkpoint.safetensors, metrics.csv, model.safetensors, provenance.toml"
        assert error == (
            f"error: run: {unsaved} could not be written, what was saved before is intact; make room, then resume it: "
            "numbacnn train --out run --resume"
        )
        assert "last epoch" in outcome.out
    else:
        assert outcome.err.count("\n") == 1
    after = contents("run")
    assert after.keys() == before.keys()
    for path, content in before.items():
        assert path.name == "config.toml" or after[path] == content
    monkeypatch.setattr(RunFolder, "write_config", write_config)
    monkeypatch.setattr(files, "os", os)
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "-q").code == 0
    assert numbacnn("train", "--out", "whole", "--epochs", 2, "-q", *CONSTANT).code == 0
    assert_same_weights("whole/model.safetensors", "run/model.safetensors")


def test_resume_needs_no_other_option():
    numbacnn("train", "--epochs", 1, "--out", "run", "-q", "--optimizer", "adam", "--seed", 3)
    Path("run/model.safetensors").unlink()
    Path("run/metrics.csv").unlink()
    assert numbacnn("train", "--out", "run", "--resume", "-q").code == 0
    assert len(rows("run")) == 1  # restored, as after a crash between two files
    assert Path("run/model.safetensors").is_file()
    assert config("run")["lr"] == 0.001
    assert "momentum" not in config("run")


def test_resume_rejects_options_that_make_another_run(monkeypatch):
    numbacnn("train", "--epochs", 1, "--out", "run", "-q")
    rejected("was started with lr 0.01, not 0.1", "train", "--out", "run", "--resume", "--lr", 0.1)
    monkeypatch.setenv("NUMBACNN_TRAIN_SEED", "7")
    rejected("was started with seed 0, not 7", "train", "--out", "run", "--resume")


def test_flag_over_variable_over_file_over_default(monkeypatch):
    Path("c.toml").write_text('epochs = 1\nbatch-size = 48\nseed = 5\nlr = 0.125\nschedule = "cosine"\n')
    monkeypatch.setenv("NUMBACNN_TRAIN_SEED", "6")
    monkeypatch.setenv("NUMBACNN_TRAIN_BATCH_SIZE", "32")
    assert numbacnn("train", "--config", "c.toml", "--out", "run", "-q", "--batch-size", 40).code == 0
    chosen = config("run")
    assert (chosen["batch-size"], chosen["seed"], chosen["lr"], chosen["schedule"]) == (40, 6, 0.125, "cosine")
    assert chosen["momentum"] == 0.9


def test_saved_configuration_repeats_the_run(monkeypatch):
    options = ("--epochs", 1, "--momentum", 0.5, "--nesterov", "--weight-decay", 0.001)
    assert numbacnn("train", *options, "--out", "a", "-q").code == 0
    assert numbacnn("train", "--config", "a/config.toml", "--out", "b", "-q").code == 0
    assert_same_weights("a/model.safetensors", "b/model.safetensors")
    assert config("a") == config("b")


def test_patience_ends_training_also_after_resuming():
    options = ("--epochs", 9, "--patience", 2, "--lr", 0)
    assert numbacnn("train", *options, "--out", "run", "-q").code == 0
    assert len(rows("run")) == 3
    assert numbacnn("train", "--out", "run", "--resume", "-q").code == 0
    assert len(rows("run")) == 3


def test_no_best_weights_without_validation():
    outcome = numbacnn("train", "--epochs", 1, "--validation", 0, "--json", "--out", "run", "-q")
    assert json.loads(outcome.out)["best"] is None
    assert not Path("run/best.safetensors").exists()
    rejected("patience needs validation data", "train", "--validation", 0, "--patience", 1)


def test_checkpoints_between_epochs():
    child = process("train", "--epochs", 1000, "--checkpoint-every", 1, "--out", "run")
    while not child.stderr.readline().startswith("epoch 1/"):
        assert child.poll() is None
    child.kill()
    child.communicate()
    outcome = numbacnn("train", "--out", "run", "--resume", "--epochs", 1)
    assert outcome.code == 0, outcome.err


def test_out_may_be_an_empty_folder():
    Path("run").mkdir()
    assert numbacnn("train", "--epochs", 1, "--out", "run", "-q").code == 0


def test_out_rejects_folders_in_use():
    numbacnn("train", "--epochs", 1, "--out", "run", "-q")
    rejected("already holds a run; add --resume to continue it, or change --out", "train", "--out", "run")
    Path("other").mkdir()
    Path("other/thesis.tex").write_text("x")
    rejected("holds files that are not a run's", "train", "--out", "other")
    rejected("is a file; choose another folder", "train", "--out", "other/thesis.tex")
    rejected("holds no run to resume", "train", "--out", "other", "--resume")
    rejected("holds no run to resume", "train", "--out", "nowhere", "--resume")


def test_progress_on_a_terminal():
    outcome = numbacnn("train", "--epochs", 2, "--out", "run", terminal=True)
    assert outcome.code == 0
    assert "epoch 2/2: loss" in outcome.err
    assert re.search(r"epoch 1/2 .*images/s, loss [\d.]+, accuracy [\d.]+ %, \d\d:\d\d left", outcome.err)
    assert outcome.out.startswith("test accuracy")


def test_more_threads_than_cores():
    outcome = finished("train", "--epochs", 1, "--out", "run", "-q", "--threads", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert config("run")["threads"] == 3


def test_more_threads_than_this_process_can_have():
    rejected("threads: choose 1 to", "train", "--threads", 1000)


def test_a_loss_by_name(tmp_path):
    outcome = numbacnn("train", "--epochs", 2, "--loss", "focal", "--json", "--quiet", "--out", "run")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert tomllib.loads(Path("run/config.toml").read_text("utf-8"))["loss"] == "focal"
    model, (_, test) = nc.load("run/model.safetensors"), nc.data.load("digits")
    assert result["test"]["loss"] == model.evaluate(test, "focal")["loss"] != model.evaluate(test)["loss"]
    assert json.loads(numbacnn("eval", "run", "--json").out)["loss"] == result["test"]["loss"]
    assert numbacnn("verify", "run").code == 0
    rejected("a detector has a loss of its own", "train", "--task", "detect", "--loss", "focal")


def test_drop_last_omits_a_smaller_last_batch():
    """Batches of 1,000 of the digits: the second one is smaller."""
    for out, given in (("all", []), ("run", ["--drop-last"])):
        assert numbacnn("train", "--batch-size", 1000, "--epochs", 1, "--out", out, "-q", *CONSTANT, *given).code == 0
    all_batches, first = (nc.load(f"{run}/model.safetensors").parameters for run in ("all", "run"))
    assert all((all_batches[name] != first[name]).any() for name in first)
    assert "drop-last = true" in Path("run/config.toml").read_text("utf-8")
