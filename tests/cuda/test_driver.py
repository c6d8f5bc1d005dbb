"""If device "cuda" cannot run, one line says why, with the remedy. Needs neither a GPU nor numba-cuda."""

import sys
from enum import Enum
from types import SimpleNamespace

import pytest
import sanitize

from numbacnn.engine.device import cuda_facts
from numbacnn.kernels.cuda.runtime import backend, driver

pytestmark = pytest.mark.anywhere


class Result(Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_SYSTEM_NOT_READY = 802


@pytest.fixture
def machine(monkeypatch):
    """A machine with the packages, a driver and a GPU, which a test can break."""
    state = {
        "started": Result.CUDA_SUCCESS,
        "version": 12040,
        "gpus": [driver.Gpu("H200", (9, 0), 141 << 30, 140 << 30)],
    }

    def start(flags):
        if state["started"] is None:
            raise RuntimeError("libcuda.so.1 cannot be loaded")
        return (state["started"],)

    bindings = SimpleNamespace(cuInit=start, CUresult=Result, cuDriverGetVersion=lambda: (0, state["version"]))
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=bindings))
    monkeypatch.setattr(backend, "INSTALLED", True)
    monkeypatch.setattr(backend, "SIMULATED", False)
    monkeypatch.setattr(driver, "toolkit_version", lambda: (12, 9))
    monkeypatch.setattr(driver, "list_gpus", lambda: state["gpus"])
    return state


def test_a_usable_machine(machine):
    assert driver.why_not() is None
    facts = cuda_facts()
    assert facts["driver"] == "12.4"
    assert facts["gpus"][0]["name"] == "H200"


def test_no_package(machine, monkeypatch):
    monkeypatch.setattr(backend, "INSTALLED", False)
    assert driver.why_not() == 'the package numba-cuda is not installed: pip install "numbacnn[cuda]"'


def test_no_driver(machine):
    machine["started"] = None
    assert driver.why_not().startswith("there is no NVIDIA driver; install one")


def test_no_gpu(machine):
    machine["started"] = Result.CUDA_ERROR_NO_DEVICE
    assert driver.why_not().startswith("the driver finds no NVIDIA GPU")
    machine["started"], machine["gpus"] = Result.CUDA_SUCCESS, []
    assert driver.why_not().startswith("the driver finds no NVIDIA GPU")


def test_a_driver_that_does_not_start(machine):
    machine["started"] = Result.CUDA_ERROR_SYSTEM_NOT_READY
    assert driver.why_not() == "the NVIDIA driver does not start: CUDA_ERROR_SYSTEM_NOT_READY"


def test_an_old_driver(machine, monkeypatch):
    machine["version"] = 11080
    assert driver.why_not().endswith("it supports CUDA 11.8, the packages need 12.9; update the driver")
    machine["version"] = 12020
    monkeypatch.setattr(driver, "toolkit_version", lambda: (13, 0))
    assert driver.why_not().endswith('update the driver, or pip install "numbacnn[cuda12]"')


def test_an_old_gpu(machine):
    machine["gpus"] = [driver.Gpu("GTX 1080", (6, 1), 8 << 30, 7 << 30)]
    assert driver.why_not() == "GTX 1080 has compute capability 6.1; 7.5 or higher is needed"


# -- compute-sanitizer ------------------------------------------------------------------------------------------------


def test_checkers_that_are_not_installed(monkeypatch):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(sanitize.sys, "argv", ["sanitize.py"])
    monkeypatch.setattr(sanitize, "find_checker", lambda: None)
    with pytest.raises(SystemExit, match="compute-sanitizer is not installed: it comes with the CUDA toolkit"):
        sanitize.main()


def test_checkers_run_every_kernel():
    """The launchers of both devices, and the kernels that only the device loop has."""
    assert {"test_twins.py", "test_device_loop.py"} <= {sanitize.Path(file).name for file in sanitize.TESTS}
    assert all(sanitize.Path(file).exists() for file in sanitize.TESTS)


ONE_TEST = f"{sanitize.HERE / 'test_twins.py'}::test_every_launcher_has_a_twin"


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [([], sanitize.TESTS), (["-k", "relu"], ["-k", "relu", *sanitize.TESTS]), ([ONE_TEST, "-v"], [ONE_TEST, "-v"])],
)
def test_checkers_run_the_tests_and_report_which_complained(given, passed_on, monkeypatch, capsys):
    commands = []

    def run(command, check):
        commands.append(command)
        return SimpleNamespace(returncode=int("racecheck" in command))

    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(sanitize.sys, "argv", ["sanitize.py", *given])
    monkeypatch.setattr(sanitize, "find_checker", lambda: "compute-sanitizer")
    monkeypatch.setattr(sanitize.subprocess, "run", run)
    assert sanitize.main() == 1
    assert [command[2] for command in commands] == ["memcheck", "racecheck"]
    assert commands[0][commands[0].index("-x") + 1 :] == passed_on
    assert capsys.readouterr().out.endswith("complaints of racecheck\n")
