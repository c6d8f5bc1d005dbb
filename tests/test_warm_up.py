"""``numbacnn warm-up`` compiles what a later process needs."""

import json

import pytest
from command_line import finished, numbacnn

import numbacnn as nc

COMPILES = "compiling kernels"


def saved(path):
    """A small model in a file."""
    x = nc.Input((28, 28, 1))
    nc.Model(x, nc.Dense(10)(nc.Flatten()(x))).save(path)
    return path


def test_a_later_process_compiles_nothing(tmp_path):
    model, cache = saved(tmp_path / "m.safetensors"), {"NUMBACNN_CACHE_DIR": str(tmp_path / "cache")}
    content = model.read_bytes()
    first = finished("warm-up", model, "--json", **cache)
    assert (first.code, COMPILES in first.err) == (0, True)
    report = json.loads(first.out)
    assert report["kernels"] > 0
    assert report["cache"] == {"folder": str(tmp_path / "cache" / "jit"), "bytes": report["cache"]["bytes"]}
    assert report["cache"]["bytes"] > 1000
    assert model.read_bytes() == content
    again = finished("warm-up", model, **cache)
    assert (again.code, again.err) == (0, "")
    assert again.out == f"{model}: all kernels were compiled before, in {tmp_path / 'cache' / 'jit'}\n"
    done = finished("eval", model, "--data", "digits", **cache)
    assert (done.code, COMPILES in done.err) == (0, False)


@pytest.mark.parametrize("name", ["lenet5", "unet_small", "grid_detector"])
def test_every_task(name):
    for arguments in ((), ("--inference",)):
        outcome = numbacnn("warm-up", name, "--batch-size", 1, "--threads", 1, *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"{name}: ")


def test_without_a_cache_folder_it_fails(tmp_path):
    (tmp_path / "file").touch()
    outcome = finished("warm-up", NUMBACNN_CACHE_DIR=str(tmp_path / "file"))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "cannot keep compiled kernels: warm-up would be of no use" in outcome.err
