"""The measurements: a kernel's case in a direction, and a step of a whole model, each beside the peers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from numbacnn._checks import brief
from numbacnn.bench.cases import DIRECTIONS, Case, representative
from numbacnn.bench.peaks import Roofs
from numbacnn.bench.peers import NO_PEERS, Peers
from numbacnn.bench.timing import Effort, Launched, Ratio, Time, Work, fastest, geometric_mean, measured, paired
from numbacnn.bench.work import Cost, LayerTime, kernel_job, plan_cost, time_layers
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.model import Model
from numbacnn.optimizers import SGD
from numbacnn.saving.pretrained import state_dict

Modes = Callable[[], dict[str, Work]]  # makes a peer's functions for the same work, by mode


@dataclass(frozen=True)
class Against:
    """A peer's better mode, and its time over ours."""

    mode: str
    ratio: Ratio


@dataclass(frozen=True)
class Measurement:
    """A piece of work: our time, what it costs, and the peers; ``notes`` say why one of them is missing."""

    time: Time
    cost: Cost
    peers: Mapping[str, Against] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def gflops(self) -> float:
        """10⁹ operations a second, of the direct algorithm."""
        return self.cost.flops / self.time.ms / 1e6

    @property
    def bandwidth(self) -> float:
        """GB/s of the bytes that must move at least."""
        return self.cost.bytes / self.time.ms / 1e6

    def figures(self, roofs: Roofs) -> dict[str, Any]:
        """All of it as data."""
        return {
            **rates(self.time.ms, self.cost, roofs),
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
        }


def rates(ms: float, cost: Cost, roofs: Roofs) -> dict[str, float]:
    """A time as GFLOP/s and GB/s, and as shares of the roofs."""
    gflops, bandwidth = cost.flops / ms / 1e6, cost.bytes / ms / 1e6
    return {
        "ms": ms,
        "flops": cost.flops,
        "bytes": cost.bytes,
        "gflops": gflops,
        "share_of_peak": gflops / roofs.gflops,
        "bandwidth": bandwidth,
        "share_of_triad": bandwidth / roofs.bandwidth,
    }


# -- kernels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelResult:
    """A case in one direction."""

    case: Case
    direction: str
    measurement: Measurement


def measure_kernels(
    cases: Iterable[tuple[Case, str]], device: Device, peers: Peers, effort: Effort
) -> Iterator[KernelResult]:
    """Each case in its direction, one after the other."""
    for case, direction in cases:
        ours = kernel_job(case, direction, device)
        theirs = {name: partial(module.kernel, case, direction) for name, module in peers.modules.items()}
        yield KernelResult(case, direction, _compare(ours.work, ours.cost, theirs, effort))


def summarize_kernels(results: Sequence[KernelResult], peer: str) -> dict[str, Any]:
    """The figures of a whole table against one peer: geometric means, the worst case, and how many are won.

    Means are over the representative shapes of convolutions; a win has its whole interval above 1.
    """
    compared = [(r, r.measurement.peers[peer].ratio) for r in results if peer in r.measurement.peers]
    if not compared:
        return {}
    counted = [(r, ratio) for r, ratio in compared if representative(r.case)]
    wide = [ratio.ratio for r, ratio in counted if r.case.is_wide_3x3]
    worst, lowest = min(compared, key=lambda item: item[1].ratio)
    means = {d: [ratio.ratio for r, ratio in counted if r.direction == d] for d in DIRECTIONS}
    return {
        "geometric_mean": {d: geometric_mean(ratios) for d, ratios in means.items() if ratios},
        "geometric_mean_wide_3x3": geometric_mean(wide) if wide else None,
        "worst": {"case": str(worst.case), "direction": worst.direction, "ratio": lowest.ratio},
        "won": sum(ratio.low > 1 for _, ratio in compared),
        "lost": sum(ratio.high < 1 for _, ratio in compared),
        "compared": len(compared),
    }


# -- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelResult:
    """A step of a model on batches of ``batch`` images, and its layers where they were asked for."""

    batch: int
    training: bool
    measurement: Measurement
    layers: tuple[LayerTime, ...] = ()


def measure_model(
    model: Model, batch: int, training: bool, effort: Effort, peers: Peers = NO_PEERS, layers: bool = False
) -> ModelResult:
    """A training step (forward, cross-entropy, backward, SGD with momentum), or an inference.

    Both on normalised random images, of the model's only input.
    """
    _check(model, training)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch, *model.input_shape), np.float32)
    executor = _executor(model, batch, training)
    cost = plan_cost([*executor.plan.forward, *executor.plan.backward], batch)
    theirs = {
        name: _model_peer(module, model, images, training)
        for name, module in peers.modules.items()
        if not training or hasattr(module, "training_step")
    }
    rows = time_layers(executor, batch, effort) if layers else []
    del executor  # its memory is the step's
    if not training:
        return ModelResult(batch, training, _compare(partial(model.forward, images), cost, theirs, effort), tuple(rows))
    labels, optimizer = random_labels(model, batch), SGD(1e-3, momentum=0.9)
    step = Launched(partial(model.train_step, images, labels, optimizer), model.device.synchronize)
    result = _compare(step, cost, theirs, effort)  # a step returns with its loss, before a GPU has done the rest
    if layers:
        update = measured(Launched(lambda: optimizer.step(model), model.device.synchronize), effort)
        rows.append(_update_row(model, update.ms))
    return ModelResult(batch, training, result, tuple(rows))


def training_cost(model: Model, batch: int) -> Cost:
    """What a training step costs, but for loss and update."""
    plan = make_plan(model.graph, model.device.sizes, batch, training=True)
    return plan_cost([*plan.forward, *plan.backward], batch)


def random_labels(model: Model, batch: int) -> Any:
    """A class for each image, or for each of its pixels."""
    *pixels, classes = model.output_shape
    return np.random.default_rng(0).integers(0, classes, (batch, *pixels))


def _check(model: Model, training: bool) -> None:
    if len(model.graph.input_shapes) != 1 or len(model.graph.outputs) != 1:
        raise ArgumentError("models with several inputs or outputs are not measured")
    last = model.graph.nodes[model.graph.outputs[0] - 1]
    if training and last.layer.op in ("softmax", "sigmoid"):
        raise ArgumentError(
            f"a training step wants logits, and the model ends in {last.layer.op}; measure its inference"
        )


def _executor(model: Model, batch: int, training: bool) -> Executor:
    plan = make_plan(model.graph, model.device.sizes, batch, training=training)
    return Executor(plan, model.store, model.device)


def _model_peer(module: Any, model: Model, images: Any, training: bool) -> Modes:
    def modes() -> dict[str, Work]:
        arrays = state_dict(model.graph, model.store)
        if not training:
            return dict(module.inference(model.graph, arrays, [images]))
        labels = random_labels(model, len(images))
        return dict(module.training_step(model.graph, arrays, [images], labels, model.auxiliary_weight))

    return modes


def _update_row(model: Model, ms: float) -> LayerTime:
    """SGD with momentum reads weights, velocity and gradient, and writes the first two."""
    count = sum(map(prod, (shape for shape, _ in model.graph.parameters().values())))
    return LayerTime("update", "sgd", "update", ms, Cost(4 * count, 20 * count), (("sgd_update", ms),))


# -- what both share --------------------------------------------------------------------------------------------------


def _compare(work: Work, cost: Cost, theirs: Mapping[str, Modes], effort: Effort) -> Measurement:
    """Our time, and the ratio to each peer in its fastest mode; one that has no modes is left out, and one that cannot
    do the work noted."""
    time = measured(work, effort)
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
            except Exception as error:  # whatever a compiler or a capture raises; the other modes stand
                notes.append(f"{name}, {mode}, is left out: {brief(error)}")
                del candidates[mode]
        if not candidates:
            continue
        mode = fastest(candidates, effort)
        chosen = candidates.pop(mode)
        candidates.clear()  # the memory of the others is no part of the comparison
        found[name] = Against(mode, paired(work, chosen, effort))
    return Measurement(time, cost, found, tuple(notes))
