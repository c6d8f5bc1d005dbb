"""Measurements of kernels and of models, each compared with the peers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief
from numbacnn.bench.cases import DIRECTIONS, UPDATE, Case
from numbacnn.bench.peaks import Peaks
from numbacnn.bench.peers import NO_PEERS, RUNTIMES, Peer, Peers
from numbacnn.bench.timing import (
    Effort,
    Launched,
    Ratio,
    Time,
    Work,
    fastest_mode,
    geometric_mean,
    median_time,
    paired_ratio,
)
from numbacnn.bench.work import Algorithm, LayerTime, kernel_job, plan_cost, time_layers
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import Plan, make_plan
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.kernels.convolution import Cost
from numbacnn.model import Model
from numbacnn.optimizers import SGD
from numbacnn.saving.pretrained import state_dict

BETTER_RUNTIME = f"the better of {' and '.join(RUNTIMES)}"

Modes = Callable[[], dict[str, Work]]
"""Makes a peer's functions for the same work, by mode."""


@dataclass(frozen=True)
class Comparison:
    """A peer's fastest mode, and its time over ours."""

    mode: str
    ratio: Ratio


@dataclass(frozen=True)
class Measurement:
    """Our time and cost, and the peers; ``notes`` say why a peer is missing."""

    time: Time
    cost: Cost
    peers: Mapping[str, Comparison] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def gflops(self) -> float:
        """Throughput in GFLOP/s of the direct algorithm."""
        return self.cost.flops / self.time.ms / 1e6

    @property
    def bandwidth(self) -> float:
        """GB/s of the bytes that must move."""
        return self.cost.bytes / self.time.ms / 1e6

    @property
    def better_runtime(self) -> str | None:
        """The inference runtime with the shortest time, or None unless all of them were measured."""
        if not all(name in self.peers for name in RUNTIMES):
            return None
        return min(RUNTIMES, key=lambda name: self.peers[name].ratio.ratio)

    def ratio(self, peer: str) -> Ratio | None:
        """Return a peer's time over ours, or that of ``BETTER_RUNTIME``; None if it was not measured."""
        name = self.better_runtime if peer == BETTER_RUNTIME else peer
        return self.peers[name].ratio if name is not None and name in self.peers else None

    def figures(self, peaks: Peaks) -> dict[str, Any]:
        """Return the measurement as a JSON object."""
        return {
            **rates(self.time.ms, self.cost, peaks),
            "ms_interval": [self.time.low, self.time.high],
            "peers": {
                name: {
                    "mode": peer.mode,
                    "ratio": peer.ratio.ratio,
                    "interval": [peer.ratio.low, peer.ratio.high],
                    "ms": peer.ratio.b_ms,
                    "pairs": peer.ratio.pairs,
                }
                for name, peer in self.peers.items()
            },
            "better_runtime": self.better_runtime,
        }


def rates(ms: float, cost: Cost, peaks: Peaks) -> dict[str, float]:
    """Return a time as GFLOP/s and GB/s, and as fractions of the peaks."""
    gflops, bandwidth = cost.flops / ms / 1e6, cost.bytes / ms / 1e6
    return {
        "ms": ms,
        "flops": cost.flops,
        "bytes": cost.bytes,
        "gflops": gflops,
        "share_of_peak": gflops / peaks.gflops,
        "bandwidth": bandwidth,
        "share_of_triad": bandwidth / peaks.bandwidth,
    }


# -- kernels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelResult:
    """The measurement of a case in one direction, and the convolution algorithm that ran."""

    case: Case
    direction: str
    measurement: Measurement
    algorithms: Mapping[str, Algorithm] = field(default_factory=dict)


def measure_kernels(
    cases: Iterable[tuple[Case, str]], device: Device, peers: Peers, effort: Effort
) -> Iterator[KernelResult]:
    """Measure each case in its direction."""
    for case, direction in cases:
        ours = kernel_job(case, direction, device)
        theirs = {name: partial(peer.kernel, case, direction) for name, peer in peers.found.items()}
        measurement = _compare(ours.work, ours.cost, theirs, effort)
        yield KernelResult(case, direction, measurement, ours.algorithms)


def summarize_kernels(results: Sequence[KernelResult], peer: str) -> dict[str, Any]:
    """Summarize the comparisons with a peer or ``BETTER_RUNTIME``: geometric means, the worst case, won and lost.

    The means are over the representative convolutions. A case is won if its whole interval is above 1.
    """
    ratios = ((r, r.measurement.ratio(peer)) for r in results)
    compared = [(r, ratio) for r, ratio in ratios if ratio is not None]
    if not compared:
        return {}
    counted = [(r, ratio) for r, ratio in compared if r.case.is_representative]
    wide = [ratio.ratio for r, ratio in counted if r.case.is_wide_3x3]
    worst, lowest = min(compared, key=lambda item: item[1].ratio)
    means = {d: [ratio.ratio for r, ratio in counted if r.direction == d] for d in DIRECTIONS}
    return {
        "geometric_mean": {d: geometric_mean(found) for d, found in means.items() if found},
        "geometric_mean_wide_3x3": geometric_mean(wide) if wide else None,
        "worst": {"case": str(worst.case), "direction": worst.direction, "ratio": lowest.ratio},
        "won": sum(ratio.low > 1 for _, ratio in compared),
        "lost": sum(ratio.high < 1 for _, ratio in compared),
        "compared": len(compared),
    }


def summaries(results: Sequence[KernelResult], peers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Summarize the comparisons with each peer, and with ``BETTER_RUNTIME`` if both runtimes were measured."""
    better = summarize_kernels(results, BETTER_RUNTIME)
    return {peer: summarize_kernels(results, peer) for peer in peers} | ({BETTER_RUNTIME: better} if better else {})


# -- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelResult:
    """The measurement of a training step or an inference of ``batch`` images, and of its layers if requested."""

    batch: int
    training: bool
    measurement: Measurement
    layers: tuple[LayerTime, ...] = ()


def measure_model(
    model: Model, batch: int, training: bool, effort: Effort, peers: Peers = NO_PEERS, layers: bool = False
) -> ModelResult:
    """Measure a training step (forward, cross-entropy, backward, SGD with momentum) or an inference.

    Both run on random images.

    Raises:
        ArgumentError: the model has several inputs or outputs, or its output is not logits.
    """
    _check(model, training)
    images = np.random.default_rng(0).standard_normal((batch, *model.input_shape), np.float32)
    plan = _plan(model, batch, training)
    cost = plan_cost([*plan.forward, *plan.backward], batch)
    theirs = {name: _model_modes(peer, model, images, training) for name, peer in peers.found.items()}
    rows = time_layers(Executor(plan, model.store, model.device), batch, effort) if layers else []
    if not training:
        return ModelResult(batch, training, _compare(partial(model.forward, images), cost, theirs, effort), tuple(rows))
    labels, optimizer, wait = random_labels(model, batch), SGD(1e-3, momentum=0.9), model.device.synchronize
    step = Launched(partial(model.train_step, images, labels, optimizer), wait)
    result = _compare(step, cost, theirs, effort)  # a step returns with its loss, before a GPU has done the update
    if layers:
        update = median_time(Launched(lambda: optimizer.step(model), wait), effort)
        rows.append(_update_time(model, update.ms))
    return ModelResult(batch, training, result, tuple(rows))


def training_cost(model: Model, batch: int) -> Cost:
    """Return the cost of forward and backward of a training step."""
    plan = _plan(model, batch, training=True)
    return plan_cost([*plan.forward, *plan.backward], batch)


def random_labels(model: Model, batch: int) -> NDArray[np.int64]:
    """Draw a class for each image, or for each pixel of the output."""
    *pixels, classes = model.output_shape
    return np.random.default_rng(0).integers(0, classes, (batch, *pixels))


def _check(model: Model, training: bool) -> None:
    if len(model.graph.input_shapes) != 1 or len(model.graph.outputs) != 1:
        raise ArgumentError("bench cannot measure models with several inputs or outputs")
    last = model.graph.nodes[model.graph.outputs[0] - 1]
    if training and last.layer.op in ("softmax", "sigmoid"):
        raise ArgumentError(
            f"a training step needs logits, but the model ends in {last.layer.op}; measure its inference"
        )


def _plan(model: Model, batch: int, training: bool) -> Plan:
    return make_plan(model.graph, model.device.sizes, batch, training=training)


def _model_modes(peer: Peer, model: Model, images: NDArray[np.float32], training: bool) -> Modes:
    def modes() -> dict[str, Work]:
        arrays = state_dict(model.graph, model.store)
        if not training:
            return peer.inference(model.graph, arrays, [images])
        labels = random_labels(model, len(images))
        return peer.training_step(model.graph, arrays, [images], labels, model.auxiliary_weight)

    return modes


def _update_time(model: Model, ms: float) -> LayerTime:
    """Return the row of the optimizer, whose cost ``kernel_job`` explains."""
    count = sum(map(prod, (shape for shape, _ in model.graph.parameters().values())))
    return LayerTime(UPDATE, "sgd", UPDATE, ms, Cost(4 * count, 20 * count), (("sgd_update", ms),))


# -- comparing --------------------------------------------------------------------------------------------------------


def _compare(work: Work, cost: Cost, theirs: Mapping[str, Modes], effort: Effort) -> Measurement:
    """Measure our time, and the ratio to each peer in its fastest mode.

    A peer without modes is left out; one that fails is noted.
    """
    time = median_time(work, effort)
    found, notes = {}, []
    for name, modes in theirs.items():
        try:
            candidates = modes()
        except NumbacnnError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        for mode in list(candidates):
            try:
                candidates[mode]()
            except Exception as error:  # compilers and captures raise anything; the other modes remain
                notes.append(f"{name}, {mode}, is left out: {brief(error)}")
                del candidates[mode]
        if not candidates:
            continue
        mode = fastest_mode(candidates, effort)
        chosen = candidates.pop(mode)
        candidates.clear()  # frees their memory before the comparison
        found[name] = Comparison(mode, paired_ratio(work, chosen, effort))
    return Measurement(time, cost, found, tuple(notes))
