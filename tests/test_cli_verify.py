"""``numbacnn verify`` and the provenance of a run: runs are repeated bit for bit, and differences are reported."""

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
    """A run of two epochs on a small data set."""
    monkeypatch.chdir(tmp_path)
    digits, _ = nc.data.load("digits")
    for split, images in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        Path("d").mkdir(exist_ok=True)
        nc.data.write_idx(f"d/{split}-images-idx3-ubyte", digits.images[images, :, :, 0])
        nc.data.write_idx(f"d/{split}-labels-idx1-ubyte", digits.labels[images].astype(np.uint8))
    assert numbacnn("train", "--data", "d", "--epochs", 2, "--out", "run", "-q", "--seed", 5).code == 0
    return Path("run")


def test_provenance_holds_everything_a_run_depends_on(run):
    provenance = tomllib.loads((run / "provenance.toml").read_text())
    assert provenance["command"] == "numbacnn train --data d --epochs 2 --out run -q --seed 5"
    assert (provenance["seed"], provenance["threads"]) == (5, nc.get_num_threads())
    assert provenance["settings"] == tomllib.loads((run / "config.toml").read_text())
    assert set(provenance["files"]) == {"config.toml", "metrics.csv", "model.safetensors", "best.safetensors"}
    assert all(len(digest) == 64 for digest in [*provenance["files"].values(), *provenance["data"].values()])
    assert {"numbacnn", "numba", "numpy", "python"} <= provenance["versions"].keys()
    assert provenance["processor"]["features"] is not None
    assert provenance["results"]["test"]["images"] == 100


def content_digest(path):
    """Digest of a model file's graph and weights; the order of its metadata differs between processes."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata()["digest"]


def test_run_is_repeated_bit_for_bit_from_its_configuration(run):
    """The second run has another process and another number of threads."""
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
    provenances = [tomllib.loads((folder / "provenance.toml").read_text()) for folder in (run, again)]
    assert provenances[0]["results"] == provenances[1]["results"]
    assert provenances[0]["data"] == provenances[1]["data"]


def test_unchanged_run_verifies(run):
    outcome = numbacnn("verify", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["ok"] * 8
    found = json.loads(numbacnn("verify", run, "--json").out)
    assert found["ok"]
    assert found["checks"][0] == {"what": "config.toml", "state": "ok"}


def rejects(run, *fragments):
    outcome = numbacnn("verify", run)
    assert outcome.code == 1, outcome
    assert outcome.err.startswith(f"error: {run}")
    assert outcome.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in outcome.err
    return outcome


def test_changed_and_missing_files_are_reported(run):
    (run / "metrics.csv").write_text("")
    (run / "best.safetensors").unlink()
    assert "model.safetensors:" not in rejects(run, "metrics.csv: changed; best.safetensors: missing").err
    outcome = numbacnn("verify", run, "--json")
    assert (outcome.code, json.loads(outcome.out)["ok"]) == (1, False)


def test_changed_data_is_reported(run):
    labels = nc.data.read_idx("d/t10k-labels-idx1-ubyte")
    labels[0] = (labels[0] + 1) % 10
    nc.data.write_idx("d/t10k-labels-idx1-ubyte", labels)
    assert "train data" not in rejects(run, "test data: changed").err


def rewritten(run, change):
    provenance = tomllib.loads((run / "provenance.toml").read_text())
    change(provenance)
    (run / "provenance.toml").write_text(tomli_w.dumps(provenance))


def test_another_accuracy_is_reported(run):
    rewritten(run, lambda provenance: provenance["results"]["test"].update(accuracy=0.123))
    rejects(run, "accuracy of model.safetensors: 0.", " instead of 0.123")


def test_another_version_is_a_note(run):
    rewritten(run, lambda provenance: provenance["versions"].update(numba="0.1"))
    outcome = numbacnn("verify", run)
    assert outcome.code == 0
    assert outcome.err.startswith("note: versions: numba was 0.1, is ")


def test_missing_or_damaged_provenance_is_rejected(run):
    rejects(run.parent / "d", "has no provenance.toml")
    rewritten(run, lambda provenance: provenance.pop("data"))
    rejects(run, "provenance.toml: damaged (KeyError('data'))")
    rewritten(run, lambda provenance: provenance.pop("results"))
    rejects(run, "training is not complete; resume it: numbacnn train --out run --resume")
