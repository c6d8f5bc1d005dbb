"""``numbacnn info``, ``data``, help, version, completion, and the line while kernels compile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Terminal, finished, numbacnn
from numbacnn.cli import info, progress

import numbacnn as nc
from numbacnn.training.progress import duration


def test_info_as_json():
    facts = json.loads(numbacnn("info", "--json").out)
    assert facts["versions"]["numbacnn"] == nc.__version__
    assert facts["threads"]["layer"] in ("numbacnn", "omp", "tbb", "workqueue")
    assert facts["processor"]["vector_bits"] in (128, 256, 512)
    assert facts["processor"]["features"]
    assert facts["cache"]["bytes"] >= 0


def test_info_as_text(monkeypatch):
    monkeypatch.setattr("numbacnn.kernels.threads.layer", lambda: "workqueue")
    text = numbacnn("info").out
    assert "threading layer  workqueue: " in text
    assert "pip install tbb" in text
    assert "kernel cache" in text


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_advice_on_every_platform(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert ("OpenMP" in info._advice()) == (platform != "win32")


def test_clear_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", str(tmp_path))
    kernel = tmp_path / "jit" / "key" / "kernel.nbc"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(bytes(1000))
    (tmp_path / "mine.txt").write_text("kept")
    facts = json.loads(numbacnn("info", "--clear-cache", "--json").out)
    assert facts["cache"] == {"folder": str(tmp_path / "jit"), "bytes": 0, "cleared_bytes": 1000}
    assert not kernel.exists()
    assert (tmp_path / "mine.txt").exists()
    assert "0.0 MiB cleared" in numbacnn("info", "--clear-cache").out


def test_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "digits         available" in numbacnn("data", "list").out
    assert numbacnn("data", "verify", "digits").out == "digits.npz  ok\n"
    assert numbacnn("data", "download", "digits").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is named by XDG_CACHE_HOME on Linux only")
def test_missing_and_damaged_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    outcome = numbacnn("data", "verify", "mnist")
    assert outcome.code == 1
    assert outcome.out.count("missing") == 4
    assert outcome.err == "error: mnist: 4 of 4 files missing or damaged: numbacnn data download mnist\n"
    assert "mnist          not downloaded" in numbacnn("data", "list").out
    folder = tmp_path / "numbacnn" / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    assert "mnist          damaged" in numbacnn("data", "list").out


def test_help_and_version_start_no_engine():
    assert numbacnn().out == numbacnn("--help").out
    assert numbacnn("--version").out == f"numbacnn {nc.__version__}\n"
    code = "import sys; from numbacnn.cli import main; main(['train', '--help']); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def completions(line):
    words = {"COMP_WORDS": f"numbacnn {line}", "COMP_CWORD": str(len(line.split()))}
    return finished(_NUMBACNN_COMPLETE="bash_complete", **words).out.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train --data fas", "plain,fashion-mnist"),
        ("train --optimizer adag", "plain,adagrad"),
        ("train --recipe fash", "plain,fashion"),
        ("train --model lenet", "plain,lenet5"),
        ("train --loss foc", "plain,focal"),
        ("train --out runs/", "plain,runs/mine"),
        ("summary mobile", "plain,mobilenet_v2"),
        ("export ru", "plain,runs/mine"),
        ("eval ru", "plain,runs/mine"),
        ("eval m --data cif", "plain,cifar10"),
        ("predict m.saf", "file,m.saf"),
        ("verify ru", "plain,runs/mine"),
        ("data download mn", "plain,mnist"),
        ("data preview --data fold", "dir,fold"),
        ("bench train --model unet_", "plain,unet_small"),
        ("plot m gradc", "plain,gradcam"),
    ],
)
def test_completion(line, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/config.toml").touch()
    assert completions(line) == [found]


def test_the_script_of_the_completion():
    assert "complete" in finished(_NUMBACNN_COMPLETE="bash_source").out


def test_broken_pipe_is_not_an_error():
    command = f'"{sys.executable}" -m numbacnn train --help | true'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, env=os.environ, check=True)
    assert done.stderr == b""


def test_compile_line_is_replaced_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    line = progress.CompileLine(quiet=False)
    line("conv2d_forward", False)
    assert stream.getvalue() == "\r\x1b[Kcompiling kernels (first run only): conv2d_forward …"
    line("conv2d_forward", True)
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("quiet", [False, True])
def test_compile_line_elsewhere(capsys, quiet):
    line = progress.CompileLine(quiet)
    for kernel in ("copy", "conv2d_forward"):
        line(kernel, False)
        line(kernel, True)
    assert capsys.readouterr().err == ("" if quiet else "compiling kernels (first run only) …\n")


@pytest.mark.parametrize(("terminal", "expected"), [(True, "0.5 MiB of 1.0 MiB"), (False, "downloading f …\n")])
def test_download_progress(monkeypatch, capsys, terminal, expected):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    show = progress.download_progress()
    show("f", 1 << 19, 1 << 20)
    show("f", 1 << 20, 1 << 20)
    assert expected in capsys.readouterr().err


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]


@pytest.mark.parametrize(
    ("platform", "wheel", "advice"),
    [
        ("linux", {"tbbpool", "omppool"}, "TBB (pip install tbb) or OpenMP (apt install libgomp1)"),
        ("darwin", {"omppool"}, "OpenMP (brew install libomp)"),
        ("linux", {"omppool"}, "OpenMP (apt install libgomp1)"),
        ("win32", {"tbbpool"}, "TBB (pip install tbb)"),
        ("linux", set(), ""),
    ],
)  # fmt: skip
def test_only_layers_that_the_wheel_has_are_advised(monkeypatch, platform, wheel, advice):
    monkeypatch.setattr(info.sys, "platform", platform)
    monkeypatch.setattr(info, "find_spec", lambda name: name.rpartition(".")[2] in wheel or None)
    remedy = f"; install {advice} for a faster one" if advice else ""
    assert info._advice() == f"Numba's basic layer{remedy}"
