"""Standard streams that are full, closed or whose reader is gone; names that would control a terminal."""

import json
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from command_line import numbacnn
from numbacnn.cli import main
from PIL import Image

import numbacnn as nc
from numbacnn._checks.text import BestEffort
from numbacnn.errors import escaped

TRAIN = f"{sys.executable} -m numbacnn train --epochs 1 --threads 1 --out run"
INFO = f"{sys.executable} -m numbacnn info"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "command", [f"{TRAIN} 2>/dev/full", f"{TRAIN} 2>&1 | (read line); exit ${{PIPESTATUS[0]}}", f"{TRAIN} 0<&- 2>&-"]
)
def test_a_training_continues_without_its_messages(command):
    done = shell(command)
    assert done.returncode == (1 if "PIPESTATUS" in command else 0), done  # that one cannot print its result
    assert nc.load("run/model.safetensors").evaluate(nc.data.load("digits")[1])["accuracy"] > 0.5
    assert "[results" in Path("run/provenance.toml").read_text()


def test_a_result_that_cannot_be_printed_is_one_error():
    done = shell(f"{INFO} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def test_a_closed_output_is_the_null_device():
    done = shell(f"{INFO} >&- 2>&-")
    assert (done.returncode, done.stderr) == (0, "")


class Full(StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("default")
def test_warnings_on_a_full_disk_do_not_end_a_training(monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numbacnn.runs.folder.RunFolder.write_metrics", fail)
    with redirect_stderr(Full()):
        assert main(["train", "--epochs", "2", "--out", "run"]) == 1
    assert Path("run/model.safetensors").is_file()


def test_fit_shows_its_progress_where_it_can(monkeypatch):
    data, _ = nc.data.load("digits")
    for stream in (Full(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        model = nc.Sequential([nc.Flatten(), nc.Dense(10)], (28, 28, 1))
        assert len(model.fit(data.subset(range(32)), epochs=1, progress=True)) == 1


def test_a_stream_that_is_closed_drops_text():
    stream = StringIO()
    stream.close()
    assert BestEffort(stream).write("text") == 4
    assert not BestEffort(stream).isatty()
    assert not BestEffort(None).isatty()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x9b1m\u202egnp.exe", r"\x9b1m\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("plain Größe ×, क्ष, می‌خواهم", "plain Größe ×, क्ष, می‌خواهم"),
    ],
)
def test_controls_are_escaped_and_letters_are_not(text, shown):
    assert escaped(text) == shown


def test_names_from_files_cannot_control_a_terminal():
    model = nc.Sequential([nc.Flatten(), nc.Dense(2)], (4, 4, 1))
    model.classes = ("good\x1b[2J", "bad\x07\nerror: forged")
    model.normalization = nc.data.normalization.Normalization((0.0,), (1.0,))
    model.save("m.safetensors")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("a\x1b]0;title.png")
    outcome = numbacnn("predict", "m.safetensors", "a\x1b]0;title.png")
    assert outcome.code == 0, outcome.err
    assert not set(outcome.out + outcome.err) & {"\x1b", "\x07"}
    assert r"bad\x07\nerror: forged" in outcome.out
    found = numbacnn("predict", "m.safetensors", "a\x1b]0;title.png", "--json")
    assert "\x1b" not in found.out
    assert "good\x1b[2J" in json.dumps(json.loads(found.out)).encode().decode("unicode_escape")
    assert "\x1b" not in numbacnn("predict", "m.safetensors", "b\x1b[2J.png").err
