"""``numbacnn verify`` and the record of a run: repeated bit for bit, and told where something differs."""

import csv
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from command_line import finished, numbacnn
from safetensors import safe_open

import numbacnn as nc


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of one epoch on its own small data."""
    monkeypatch.chdir(tmp_path)
    digits, _ = nc.data.load("digits")
    for part, images in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        Path("d").mkdir(exist_ok=True)
        nc.data.write_idx(f"d/{part}-images-idx3-ubyte", digits.images[images, :, :, 0])
        nc.data.write_idx(f"d/{part}-labels-idx1-ubyte", digits.labels[images].astype(np.uint8))
    assert numbacnn("train", "--data", "d", "--epochs", 2, "--out", "run", "-q", "--seed", 5).code == 0
    return Path("run")


def test_the_record_holds_all_that_a_run_depends_on(run):
    record = tomllib.loads((run / "record.toml").read_text())
    assert record["command"] == "numbacnn train --data d --epochs 2 --out run -q --seed 5"
    assert (record["seed"], record["threads"]) == (5, nc.get_num_threads())
    assert record["settings"] == tomllib.loads((run / "config.toml").read_text())
    assert set(record["files"]) == {"config.toml", "metrics.csv", "model.safetensors", "best.safetensors"}
    assert all(len(digest) == 64 for digest in [*record["files"].values(), *record["data"].values()])
    assert {"numbacnn", "numba", "numpy", "python"} <= record["versions"].keys()
    assert record["processor"]["features"] is not None
    assert record["results"]["test"]["images"] == 100


def content_digest(path):
    """Of a model file's graph and weights; the order of its metadata differs from process to process."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata()["digest"]


def test_a_run_is_repeated_bit_for_bit_from_its_configuration(run):
    """In another process, on another number of threads."""
    outcome = finished("train", "--config", run / "config.toml", "--out", "again", "-q", NUMBA_NUM_THREADS="2")
    assert outcome.code == 0, outcome.err
    again = Path("again")
    assert (run / "config.toml").read_bytes() == (again / "config.toml").read_bytes()
    for name in ("model.safetensors", "best.safetensors"):
        assert content_digest(run / name) == content_digest(again / name), name
    found, expected = (list(csv.DictReader(io.StringIO((f / "metrics.csv").read_text()))) for f in (again, run))
    for row in (*found, *expected):
        del row["seconds"], row["images_per_second"]
    assert found == expected
    records = [tomllib.loads((folder / "record.toml").read_text()) for folder in (run, again)]
    assert records[0]["results"] == records[1]["results"]
    assert records[0]["data"] == records[1]["data"]


def test_an_untouched_run_is_as_recorded(run):
    outcome = numbacnn("verify", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["ok"] * 8
    found = json.loads(numbacnn("verify", run, "--json").out)
    assert found["ok"]
    assert found["checks"][0] == {"what": "config.toml", "state": "ok"}


def told(run, *fragments):
    outcome = numbacnn("verify", run)
    assert outcome.code == 1, outcome
    assert outcome.err.startswith(f"error: {run}")
    assert outcome.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in outcome.err
    return outcome


def test_what_differs_is_told(run):
    (run / "metrics.csv").write_text("")
    (run / "best.safetensors").unlink()
    assert "model.safetensors:" not in told(run, "metrics.csv: changed; best.safetensors: missing").err
    outcome = numbacnn("verify", run, "--json")
    assert (outcome.code, json.loads(outcome.out)["ok"]) == (1, False)


def test_other_data_are_told(run):
    labels = nc.data.read_idx("d/t10k-labels-idx1-ubyte")
    labels[0] = (labels[0] + 1) % 10
    nc.data.write_idx("d/t10k-labels-idx1-ubyte", labels)
    assert "train data" not in told(run, "test data: changed").err


def rewritten(run, change):
    record = tomllib.loads((run / "record.toml").read_text())
    change(record)
    (run / "record.toml").write_text(tomli_w.dumps(record))


def test_another_accuracy_is_told(run):
    rewritten(run, lambda record: record["results"]["test"].update(accuracy=0.123))
    told(run, "accuracy of model.safetensors: 0.", ", not the recorded 0.123")


def test_another_version_is_a_note(run):
    rewritten(run, lambda record: record["versions"].update(numba="0.1"))
    outcome = numbacnn("verify", run)
    assert outcome.code == 0
    assert outcome.err.startswith("note: versions: numba was 0.1, is ")


def test_what_is_no_record_is_refused(run):
    told(run.parent / "d", "holds no record.toml")
    rewritten(run, lambda record: record.pop("data"))
    told(run, "record.toml: damaged (KeyError('data'))")
    rewritten(run, lambda record: record.pop("results"))
    told(run, "its training has not come to its end: numbacnn train --out run --resume")
