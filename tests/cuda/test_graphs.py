"""Capture and launch of CUDA graphs, with fake packages that record their calls. Needs no GPU."""

import sys
from types import SimpleNamespace

import pytest

from numbacnn.engine.device import CudaDevice
from numbacnn.kernels.cuda.runtime import backend, launch

pytestmark = pytest.mark.anywhere
LEGACY = "the legacy stream"


class Builder:
    """A graph builder that records its calls; ``fails`` is the one that raises."""

    def __init__(self, calls, fails=None):
        self.calls, self.fails = calls, fails

    def _record(self, name):
        self.calls.append(name)
        if name == self.fails:
            raise RuntimeError(f"{name} failed")
        return self

    def begin_building(self):
        return self._record("begin")

    def end_building(self):
        return self._record("end")

    def complete(self):
        self._record("complete")
        return SimpleNamespace(launch=lambda stream: self.calls.append(("launch", stream)))

    def close(self):
        self.calls.append("close")


def install(monkeypatch, core):
    """Install ``core`` as the package cuda.core; None: not installed."""
    monkeypatch.setattr(backend, "SIMULATED", False)
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cuda.core", core)


@pytest.fixture
def packages(monkeypatch):
    """The calls that the packages receive, and the builder that they return."""
    calls = []
    builder = Builder(calls)
    gpu = SimpleNamespace(set_current=lambda: calls.append("current"), create_graph_builder=lambda: builder)
    install(monkeypatch, SimpleNamespace(LEGACY_DEFAULT_STREAM=LEGACY, Device=lambda: gpu))
    return calls, builder


def test_launches_go_to_the_builder_and_the_graph_to_the_default_stream(packages):
    calls, builder = packages
    replay = launch.capture(lambda: calls.append(launch.current_stream()))
    assert calls == ["current", "begin", builder, "end", "complete", "close"]
    assert launch.current_stream() == LEGACY
    replay()
    replay()
    assert calls[6:] == [("launch", LEGACY)] * 2


@pytest.mark.parametrize("fails", ["begin", "end", "complete"])
def test_the_builder_is_closed_if_capturing_fails(packages, fails):
    calls, builder = packages
    builder.fails = fails
    with pytest.raises(RuntimeError, match=f"{fails} failed"):
        launch.capture(lambda: None)
    assert calls[-2:] == [fails, "close"]
    assert launch.current_stream() == LEGACY


def test_a_failed_launch_restores_the_default_stream(packages):
    with pytest.raises(ZeroDivisionError):
        launch.capture(lambda: 1 // 0)
    assert packages[0][-1] == "close"
    assert launch.current_stream() == LEGACY


@pytest.mark.parametrize(
    "core", [None, SimpleNamespace(LEGACY_DEFAULT_STREAM=LEGACY, Device=lambda: SimpleNamespace(set_current=int))]
)
def test_packages_without_graphs(monkeypatch, core):
    install(monkeypatch, core)
    assert launch.capture(lambda: None) is None


def test_the_device_warns_if_capturing_fails(packages):
    packages[1].fails = "end"
    gpu = CudaDevice.__new__(CudaDevice)
    gpu._launch = launch
    with pytest.warns(RuntimeWarning, match="no CUDA graph, training launches kernel by kernel: end failed"):
        assert gpu.capture([]) is None
