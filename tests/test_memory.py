"""No array is allocated inside a training step."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from processes import run_python
from rules import RULES

import numbacnn as nc
from numbacnn.kernels import jit

OPTIMIZERS = {
    **{rule.kind.__name__: rule.make for rule in RULES},
    "groups": lambda: nc.SGD(0.05, groups=[nc.ParamGroup("*.bias", momentum=0.5)], clip_norm=1.0, clip_value=1.0),
}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def lenet(rng, request):
    """A model, and its training step, which has run twice before."""
    model, optimizer = nc.models.lenet5(), request.param()
    x, labels = rng.standard_normal((64, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 64)
    for _ in range(2):
        model.train_step(x, labels, optimizer)
    yield model, lambda: model.train_step(x, labels, optimizer)
    tracemalloc.stop()


def test_no_new_array_exists_when_a_kernel_of_a_training_step_runs(lenet, monkeypatch):
    (model, step), sizes = lenet, []
    arrays_only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)

    def watched(launch):
        def call(*arguments):
            sizes.append(sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays_only]).traces))
            launch(*arguments)

        return call

    kernel = jit.CpuKernel.__call__
    monkeypatch.setattr(jit.CpuKernel, "__call__", lambda self, *arguments: watched(kernel)(self, *arguments))
    (executor,) = model._executors.values()
    binding = executor.bind(64)
    for bound in [*binding.forward, *binding.backward]:
        bound.launches[:] = [(watched(launch), arguments) for launch, arguments in bound.launches]
    tracemalloc.start()
    step()
    assert len(sizes) > 20
    assert max(sizes) == 0


def test_a_training_step_allocates_no_temporary_array(lenet):
    """The peak of all memory: small Python objects take about 8 KiB, the arrays of a batch from 21 to 1,200 KiB.

    The minimum over three steps, since the peak is of all threads, also of those that other tests have left.
    """
    _, step = lenet
    tracemalloc.start()
    step()
    peaks = []
    for _ in range(3):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    assert min(peaks) < 16 * 1024


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_stays_constant():
    """The short version of tests/long/soak.py."""
    assert "open files" in run_python(Path(__file__).parent / "long" / "soak.py", "--minutes", 0.4)
