"""Folders of runs that are stopped before they begin, collide, hold long options, or are resumed elsewhere."""

import json
import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import numbacnn, rejected
from faults import Faults

import numbacnn as nc
from numbacnn.data import files
from numbacnn.runs.folder import RunFolder
from numbacnn.runs.settings import Settings, read_config
from numbacnn.saving.format import read_epoch, save_model


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*options):
    outcome = numbacnn("train", "--model", "simple_cnn", "--epochs", 1, "--out", "run", "-q", *options)
    assert outcome.code == 0, outcome.err


def test_a_configuration_exists_whole_or_not_at_all(monkeypatch):
    """A disk that is full from the start leaves no run, which ``--resume`` could take for another one."""
    monkeypatch.setattr(files, "os", Faults(2, 28))  # the first write, after opening
    outcome = numbacnn("train", "--epochs", 1, "--out", "run")
    assert outcome.code == 1
    assert "No space left on device" in outcome.err
    assert list(Path("run").iterdir()) == []
    monkeypatch.undo()


def test_an_empty_configuration_is_rejected():
    train()
    Path("run/config.toml").write_bytes(b"")
    rejected("config.toml is empty", "train", "--out", "run", "--resume")


def test_a_file_is_created_once_also_where_links_do_not_work(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    files.create_file(tmp_path / "a", b"content")
    with pytest.raises(FileExistsError):
        files.create_file(tmp_path / "a", b"other")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"content")]


def test_new_folders_and_those_above_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "_sync_folder", synced.append)
    files.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert set(synced) == {tmp_path, tmp_path / "a"}
    synced.clear()
    path = RunFolder.new(Settings.resolve({})).path  # without --out
    assert set(synced) == {path.parent, path.parent.parent}


def test_runs_without_out_get_folders_of_their_own_in_one_second():
    settings = Settings.resolve({})
    folders = {RunFolder.new(settings).path for _ in range(4)}
    assert len(folders) == 4
    assert all(folder.is_dir() for folder in folders)


def test_a_run_that_does_not_begin_leaves_no_folder():
    rejected("missing.safetensors: no such file", "train", "--epochs", 1, "--weights", "missing.safetensors")


def test_long_options_are_read_again_or_rejected_before_the_training():
    names = ",".join(["conv2d_1.*", *["conv2d_2.weight"] * 220])
    train("--freeze", names)
    assert read_config(Path("run/config.toml"))["freeze"] == names
    assert numbacnn("train", "--out", "run", "--resume", "--epochs", 2, "-q").code == 0
    assert numbacnn("verify", "run").code == 0
    rejected("shorten freeze", "train", "--freeze", ",".join(["conv2d_2.weight"] * 600), "--out", "other")


def test_resuming_elsewhere_is_noted_and_remembered():
    train()
    text = Path("run/provenance.toml").read_text()
    was = f'numpy = "{version("numpy")}"'
    assert was in text
    Path("run/provenance.toml").write_text(text.replace(was, r'numpy = "1.0\u001b"'))
    outcome = numbacnn("train", "--out", "run", "--resume", "--epochs", 2)
    change = f"versions: numpy was 1.0?, is {version('numpy')}"
    assert f"note: resumed elsewhere than before: {change}; the resumed run may differ in its last bits" in outcome.err
    provenance = tomllib.loads(Path("run/provenance.toml").read_text())
    assert provenance["versions"]["numpy"] == version("numpy")
    (earlier,) = provenance["earlier"]
    assert earlier["changes_after"] == [change]
    assert earlier["command"].startswith("numbacnn train --model simple_cnn --epochs 1")
    assert "resumed elsewhere" not in numbacnn("train", "--out", "run", "--resume", "--epochs", 3).err


@pytest.mark.parametrize("lost", ["of another epoch", "missing"])
def test_best_weights_that_were_not_saved_are_not_replaced_by_others(lost):
    train("--epochs", 2, "--lr", 0)  # so that the first epoch is the best
    assert read_epoch(Path("run/best.safetensors")) == 1
    if lost == "missing":
        Path("run/best.safetensors").unlink()
    else:
        save_model(nc.load("run/model.safetensors"), "run/best.safetensors", 2)
    outcome = numbacnn("train", "--out", "run", "--resume", "--json")
    assert outcome.code == 1
    assert "those of the best epoch, 1, were not saved" in outcome.err
    assert "best.safetensors could not be written" in outcome.err
    assert json.loads(outcome.out)["best"] is None


def test_counts_that_no_machine_reaches_are_rejected():
    for option in ("--epochs", "--batch-size", "--accumulate", "--classes"):
        for count in (2**31, 10**20, 10**400):
            rejected("is not in the range 1<=x<=2147483647", "train", option, count, code=2)
    options = "use a smaller --size or --batch-size, or fewer --classes"
    rejected(f"make the batch or the model smaller; {options}", "train", "--classes", 2**31 - 1)
    data, _ = nc.data.load("digits")
    with pytest.raises(nc.errors.ArgumentError, match=r"epochs is above 2,147,483,647: pass a smaller number"):
        nc.Sequential([nc.Flatten(), nc.Dense(10)], (28, 28, 1)).fit(data, epochs=10**400)
