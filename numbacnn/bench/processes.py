"""Measurements that need a process of their own: compilation with an empty cache, and peak memory of training."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbacnn.bench.measure import random_labels
from numbacnn.bench.peers import import_peer
from numbacnn.bench.timing import Work
from numbacnn.engine.locks import engine_lock, get_num_threads, set_num_threads
from numbacnn.errors import NumbacnnError
from numbacnn.model import Model
from numbacnn.optimizers import SGD
from numbacnn.tasks.random_data import random_dataset

T = TypeVar("T")
STATUS = Path("/proc/self/status")  # on Linux
STEPS = 2  # the second one starts while all buffers of the first are allocated


class Compilation(NamedTuple):
    """The number of compiled functions, and the seconds to the end of the first step of a training."""

    kernels: int
    first_step: float


def cold_compilation(model: Model, batch: int) -> Compilation:
    """Measure what a training step compiles with an empty kernel cache."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a process may still write there
        return Compilation(*_in_process(_compilation, model, batch, NUMBACNN_CACHE_DIR=folder))


def peak_memory(model: Model, batch: int, peer: str | None = None, mode: str = "") -> int:
    """Measure the peak memory of training steps in bytes, above that of the process before them.

    The steps are ours, or those of a peer in one of its modes.
    """
    return int(_in_process(_memory, model, batch, peer, mode))


def resident_peak() -> int:
    """Return the peak memory of this process in bytes. Raises NumbacnnError if the system does not report it."""
    if STATUS.exists():
        return _status("VmHWM")  # getrusage would report the parent's, if that was larger at the exec
    try:
        import resource
    except ImportError:  # Windows
        raise NumbacnnError("this system does not report the peak memory of a process: leave out --memory") from None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_process(task: Callable[..., T], model: Model, batch: int, *arguments: str | None, **variables: str) -> T:
    """Return ``task(model, batch, *arguments)`` from a new process, in which the model's weights are zeros."""
    request = task.__name__, model.__getstate__() | {"arrays": {}}, get_num_threads(), batch, arguments
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps(request),
        env=os.environ | {"NUMBA_NUM_THREADS": str(get_num_threads())} | variables,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NumbacnnError(f"the measuring process failed with exit code {done.returncode}: {' '.join(last)}")
    result: T = pickle.loads(done.stdout)
    return result


# -- in that process --------------------------------------------------------------------------------------------------


def _compilation(model: Model, batch: int) -> tuple[int, float]:
    from numbacnn.kernels.disk_cache import cached_functions

    data = random_dataset(model.task, model.input_shape, model.output_shape[-1], batch)
    start = time.perf_counter()
    model.fit(data, epochs=1, batch_size=batch, callbacks=lambda step: True, progress=False)
    return cached_functions(), time.perf_counter() - start


def _memory(model: Model, batch: int, peer: str | None, mode: str) -> int:
    if peer is None:
        with engine_lock:  # starts the threads
            pass
        before, step = _resident(), _our_step(model, batch)
    else:
        library = import_peer(peer)
        library.configure(get_num_threads(), "fp32")
        before, images = _resident(), _images(model, batch)
        labels = random_labels(model, batch)
        step = library.training_step(model.graph, None, [images], labels, model.auxiliary_weight, [mode])[mode]
    for _ in range(STEPS):
        step()
    return resident_peak() - before


def _our_step(model: Model, batch: int) -> Work:
    images, labels, optimizer = _images(model, batch), random_labels(model, batch), SGD(1e-3, momentum=0.9)
    return lambda: model.train_step(images, labels, optimizer)


def _images(model: Model, batch: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((batch, *model.input_shape), np.float32)


def _resident() -> int:
    return _status("VmRSS") if STATUS.exists() else resident_peak()


def _status(name: str) -> int:
    """Read a line of Linux's process status, which is in kB."""
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


TASKS: dict[str, Callable[..., object]] = {task.__name__: task for task in (_compilation, _memory)}


def _main() -> None:
    task, state, threads, batch, arguments = pickle.load(sys.stdin.buffer)
    model = Model.__new__(Model)
    model.__setstate__(state)
    set_num_threads(threads)
    result = TASKS[task](model, batch, *arguments)
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    _main()
