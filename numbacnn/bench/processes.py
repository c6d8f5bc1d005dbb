"""What only a process of its own can tell: compilation with an empty cache, and the peak memory of a training step."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numbacnn.bench.measure import random_labels
from numbacnn.bench.peers import MODULES
from numbacnn.bench.timing import Work
from numbacnn.engine.locks import engine_lock, get_num_threads, set_num_threads
from numbacnn.errors import NumbacnnError
from numbacnn.model import Model
from numbacnn.optimizers import SGD

STATUS = Path("/proc/self/status")  # where the system is Linux
STEPS = 2  # the second meets all the buffers of the first


class Compilation(NamedTuple):
    """Of ``kernels`` functions: the seconds of all, and of the whole first step."""

    kernels: int
    seconds: float
    first_step: float


def cold_compilation(model: Model, batch: int) -> Compilation:
    """What a training step compiles where the kernel cache is empty."""
    with tempfile.TemporaryDirectory() as folder:
        return Compilation(*_in_process(_compilation, model, batch, NUMBACNN_CACHE_DIR=folder))


def peak_memory(model: Model, batch: int, peer: str | None = None, mode: str = "") -> int:
    """Bytes that training steps take at their peak, above those of the process before them; ours, or a peer's in one
    of its modes."""
    return int(_in_process(_memory, model, batch, peer, mode))


def resident_peak() -> int:
    """Bytes of this process's memory at their peak. Raises NumbacnnError where the system does not tell."""
    if STATUS.exists():
        return _status("VmHWM")  # getrusage's would be the parent's, where that had more before the exec
    try:
        import resource
    except ImportError:  # Windows
        raise NumbacnnError("this system does not tell a process's peak memory: leave out --memory") from None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_process(task: Callable[..., Any], model: Model, batch: int, *arguments: str | None, **variables: str) -> Any:
    """The result of ``task(model, batch, *arguments)`` there; the model's weights stay here, and are zeros there."""
    order = task.__name__, model.__getstate__() | {"arrays": {}}, get_num_threads(), batch, arguments
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps(order),
        env=os.environ | {"NUMBA_NUM_THREADS": str(get_num_threads())} | variables,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NumbacnnError(f"a process that was to measure ended with {done.returncode}: {' '.join(last)}")
    return pickle.loads(done.stdout)


# -- in that process --------------------------------------------------------------------------------------------------


def _compilation(model: Model, batch: int) -> tuple[int, float, float]:
    from numbacnn.kernels.jit import add_compile_listener

    spent, started = list[float](), list[float]()

    def listen(_: str, done: bool) -> None:
        if done:
            spent.append(time.perf_counter() - started.pop())
        else:
            started.append(time.perf_counter())

    add_compile_listener(listen)
    step, start = _our_step(model, batch), time.perf_counter()
    step()
    return len(spent), sum(spent), time.perf_counter() - start


def _memory(model: Model, batch: int, peer: str | None, mode: str) -> int:
    if peer is None:
        with engine_lock:  # starts the threads
            pass
        before, step = _resident(), _our_step(model, batch)
    else:
        module = import_module(MODULES["cpu"][peer][1])
        module.set_num_threads(get_num_threads())
        before, images = _resident(), _images(model, batch)
        labels = random_labels(model, batch)
        step = module.training_step(model.graph, None, [images], labels, model.auxiliary_weight, [mode])[mode]
    for _ in range(STEPS):
        step()
    return resident_peak() - before


def _our_step(model: Model, batch: int) -> Work:
    images, labels, optimizer = _images(model, batch), random_labels(model, batch), SGD(1e-3, momentum=0.9)
    return lambda: model.train_step(images, labels, optimizer)


def _images(model: Model, batch: int) -> Any:
    return np.random.default_rng(0).standard_normal((batch, *model.input_shape), np.float32)


def _resident() -> int:
    return _status("VmRSS") if STATUS.exists() else resident_peak()


def _status(name: str) -> int:
    """A line of kB in the status."""
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


TASKS: dict[str, Callable[..., Any]] = {task.__name__: task for task in (_compilation, _memory)}


def _main() -> None:
    task, state, threads, batch, arguments = pickle.load(sys.stdin.buffer)
    model = Model.__new__(Model)
    model.__setstate__(state)
    set_num_threads(threads)
    result = TASKS[task](model, batch, *arguments)
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    _main()
