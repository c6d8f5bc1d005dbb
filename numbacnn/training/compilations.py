"""The kernels that a training still has to compile: its launches are made once without running them.

Kernels compile when they are first launched or recorded, one after the other. Here the launches of a step and of the
validation are made while calls of CPU kernels only note the kernel, so that nothing compiles. Their number is shown,
and other processes compile some of them ahead. Launchers in NumPy do run, on buffers that every step fills before it
reads them: this is for the time before the first step.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn.engine.locks import engine_lock, get_num_threads
from numbacnn.kernels.ahead import FirstLaunch, compile_ahead, processes_ahead
from numbacnn.kernels.disk_cache import KernelCache, cache_folder
from numbacnn.kernels.jit import CpuKernel
from numbacnn.training.batch import TrainingBatch

if TYPE_CHECKING:
    from numbacnn.training.host_loop import HostLoop
    from numbacnn.training.trainer import Trainer

Noted = dict[CpuKernel, tuple[object, ...]]  # kernels with the arguments of their first launch


class CompileCount:
    """Numbers the compilations of a process; from ``begin`` on it says of how many."""

    def __init__(self) -> None:
        self._begun, self._before = 0, 0
        self._needed: list[FirstLaunch] = []

    def begin(self, trainer: "Trainer") -> None:
        """Count the kernels of a training that has not begun to run."""
        self._before, self._needed = self._begun, missing_kernels(trainer)

    def next(self) -> str:
        """Return the number of the compilation that begins: "3 of 11", or "kernel 3".

        Kernels that other processes have compiled count once they are loaded.
        """
        ready = self._before + sum(kernel.is_ready for kernel, _ in self._needed)
        self._begun = max(self._begun, ready) + 1
        total = max(self._before + len(self._needed), self._begun)
        return f"{self._begun} of {total}" if self._needed else f"kernel {self._begun}"


def compile_missing_ahead(trainer: "Trainer") -> None:
    """Let other processes compile kernels of a training that is about to run, where that is safe."""
    processes = processes_ahead(get_num_threads())
    if processes:
        compile_ahead(missing_kernels(trainer), processes)


def missing_kernels(trainer: "Trainer") -> list[FirstLaunch]:
    """Return the CPU kernels of a training that are neither loaded nor on the disk; none on other devices.

    The training has not begun to run, or is between two epochs. Kernels that custom layers, losses and optimizers
    launch are not known, nor is the one that clips a large gradient.
    """
    if trainer.model.device.name != "cpu":
        return []
    with engine_lock, _noting() as noted, _kept_bindings(trainer), np.errstate(all="ignore"):
        _launch_steps(trainer, trainer.host)
        if trainer.evaluated is not None:
            _launch_evaluation(trainer, trainer.host)
    return [launch for launch in noted.items() if not launch[0].is_ready and not _is_on_disk(*launch)]


def _launch_steps(trainer: "Trainer", host: "HostLoop") -> None:
    """Launch a step on the first batch and one on the last, which may be smaller, or on their shards."""
    model, update, step = trainer.model, trainer.update, host.second_half
    sizes = [host.loader.size(number) for number in (0, len(host.loader) - 1)]
    for size in dict.fromkeys(sizes):
        buffers = host.buffers(size)
        n = buffers.n
        if not n:  # of a small batch, this rank may have no image
            continue
        inputs, labels = [part[:n] for part in trainer.dataset.inputs], np.asarray(trainer.dataset.labels[:n])
        if host.augmenter is not None:
            inputs[0], labels = host.augmenter(inputs[0], labels, np.arange(n, dtype=np.int64), seed=0, epoch=0)
        step.keep_state()
        model.load_inputs(buffers.inputs, inputs)
        targets = buffers.targets(labels)
        _launch_losses(buffers, targets)
        buffers.launch_penalties()
        step.count(buffers, labels, targets)
        step.decide(buffers, updates=True)
        step.decide(buffers, updates=False)
    if update.optimizer.only_launches:
        scalars = np.array([[1.0, *one.step_scalars(1, 1.0)] for one in update.optimizer.by_group()])
        update.optimizer.launch(model, scalars)
    if update.average is not None:
        update.average.launch(step.decision)
        model.device.kernels.swap(update.average.values, model.store.values)


def _launch_losses(buffers: TrainingBatch, targets: list[Any]) -> None:
    """Launch the losses; a custom one does more than that."""
    if all(loss.only_launches for loss in buffers.objective.losses):
        buffers.launch_losses(targets)
    else:
        buffers.executor.device.kernels.sum_losses(buffers.sums[0], buffers.executor.pixel_losses, 1.0)


def _launch_evaluation(trainer: "Trainer", host: "HostLoop") -> None:
    """Launch what the evaluation after an epoch does with the first batch, and with the last one."""
    model, data, objective = trainer.model, trainer.evaluated, host.objective
    assert data is not None
    values = objective.inputs[: objective.main]
    batch = model.reserve_outputs(len(data), outputs=values)
    executor = model.executor(batch, training=False, outputs=values)
    for n in dict.fromkeys((batch, len(data) % batch or batch)):
        bound = executor.bind(n)
        model.load_inputs(bound.inputs, [part[:n] for part in data.inputs])
        for loss, output in zip(objective.losses, bound.outputs, strict=False):
            metrics = trainer.task.metrics(loss, model.device, trainer.metrics)
            if loss.only_launches:
                metrics.launch(output, np.asarray(data.labels[:n]))
            if metrics.needs_predictions:
                model.predictions(output, trainer.task.name, loss.activation)


@contextmanager
def _noting() -> Iterator[Noted]:
    """Let calls of CPU kernels by this thread only note the kernel.

    The methods are replaced, because every launcher calls its kernels directly. The caller holds ``engine_lock``, so
    that no other thread launches any; but it may call a custom kernel directly, which then runs.
    """
    noted: Noted = {}
    own = {name: vars(CpuKernel)[name] for name in ("__call__", "recorded")}
    counting = threading.get_ident()

    def noting(method: Callable[..., object]) -> Callable[..., object]:
        def note(kernel: CpuKernel, *arguments: object) -> object:
            if threading.get_ident() != counting:
                return method(kernel, *arguments)
            noted.setdefault(kernel, arguments)
            return _nothing, ()

        return note

    try:
        for name, method in own.items():
            setattr(CpuKernel, name, noting(method))
        yield noted
    finally:
        for name, method in own.items():
            setattr(CpuKernel, name, method)


def _nothing() -> None:
    """Stand for a launch in a recording that is thrown away."""


@contextmanager
def _kept_bindings(trainer: "Trainer") -> Iterator[None]:
    """Throw away what executors record in the block."""
    before = {id(each): set(each.bound_sizes) for each in trainer.host.executors}
    try:
        yield
    finally:
        for executor in trainer.host.executors:
            executor.unbind(set(executor.bound_sizes) - before.get(id(executor), set()))


def _is_on_disk(kernel: CpuKernel, arguments: tuple[Any, ...]) -> bool:
    key, folder = kernel._key(), cache_folder()
    if key is None or folder is None:
        return False
    cache = KernelCache(kernel._dispatcher.py_func, key, folder)
    return cache._path(kernel._signature(arguments), kernel._dispatcher.targetctx.codegen()).is_file()
