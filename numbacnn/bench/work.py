"""What there is to time of our own: steps of a plan, with their operations and the bytes that they must move."""

import time
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from numbacnn.bench.cases import FORWARD, INPUT_GRADIENT, STEP, Case
from numbacnn.bench.timing import Effort, Launched, Work
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Binding, Executor
from numbacnn.engine.graph import Graph, Input
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import Plan, Step, View, make_plan
from numbacnn.kernels.recording import run
from numbacnn.layers.base import WeightLayer


class Cost(NamedTuple):
    """Floating-point operations of the direct algorithm, a multiply-add counted as two, and bytes at least moved."""

    flops: int
    bytes: int

    def __add__(self, other: object) -> "Cost":
        assert isinstance(other, Cost)
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


class Job(NamedTuple):
    """A function to time, on arrays that are there and filled, and what a call costs."""

    work: Work
    cost: Cost


# -- what a step costs ------------------------------------------------------------------------------------------------


def step_cost(step: Step, n: int) -> Cost:
    """Of a step on ``n`` images.

    Bytes are those of inputs and outputs, each moved once; normalisations in training read twice, since all of the
    statistics come before the first result. Weights count, scratch does not.
    """
    return _forward_cost(step, n) if step.dy is None else _backward_cost(step, n)


def plan_cost(steps: list[Step], n: int) -> Cost:
    """Of several steps."""
    return sum((step_cost(step, n) for step in steps), Cost(0, 0))


def _forward_cost(step: Step, n: int) -> Cost:
    node, layer = step.node, step.node.layer
    reads = 2 if layer.normalizes and step.training else 1
    moved = reads * _bytes(step.xs, n) + _bytes([step.y, step.addend], n) + _parameter_bytes(step)
    return Cost(n * layer.flops(node.geometry, node.shape), moved)


def _backward_cost(step: Step, n: int) -> Cost:
    node, layer = step.node, step.node.layer
    assert step.dy is not None
    added = sum(_bytes([total, part, total], n) for total, part in step.adds)
    if step.layer is None:
        return Cost(0, added)
    reads = 2 if layer.normalizes and step.training else 1
    trains = len(step.frozen) < len(node.parameters)
    wants_x = any(dx is not None for dx in step.dxs)
    in_place = _bytes([step.dy], n) if not step.dxs else 0  # an activation's gradient behind a pool
    moved = reads * _bytes([step.dy], n) + in_place + _bytes(step.dxs, n) + added
    if step.masks or (layer.reads_x and (trains or not node.parameters)):
        moved += reads * _bytes(step.xs, n)
    if layer.reads_y:
        moved += _bytes([step.y], n)
    if "argmax" in step.scratch:
        moved += 4 * n * prod(step.dy.shape)
    moved += (trains + wants_x) * _parameter_bytes(step)
    passes = trains + wants_x if isinstance(layer, WeightLayer) else 1
    return Cost(passes * n * layer.flops(node.geometry, node.shape), moved)


def _bytes(views: list[View] | list[View | None], n: int) -> int:
    return sum(4 * n * prod(view.shape) for view in views if view is not None)


def _parameter_bytes(step: Step) -> int:
    return sum(4 * prod(array.shape) for array in step.node.layer.parameters(step.node.input_shapes).values())


# -- one layer, in one direction --------------------------------------------------------------------------------------


def graph_of(case: Case) -> Graph:
    """The graph of a case's layer alone. Raises ArgumentError or GeometryError where there is none."""
    x = Input(case.shape)
    return Graph([x], [case.layer()(x)])


def kernel_job(case: Case, direction: str, device: Device) -> Job:
    """One direction of a case, alone: what the others need is planned away.

    Forward is inference, but for normalisations, whose statistics are part of the work.
    """
    if direction == STEP:
        return _update_job(case, device)
    graph = graph_of(case)
    store = Parameters(graph.parameters(), graph.state(), device)
    store.initialize(0)
    normalizes = graph.nodes[0].layer.normalizes
    if direction == FORWARD:
        plan = make_plan(graph, device.sizes, case.batch, training=normalizes)
        return _job(Executor(plan, store, device), case.batch)
    alone = direction == INPUT_GRADIENT and not normalizes
    plan = make_plan(
        graph,
        device.sizes,
        case.batch,
        training=True,
        input_gradient=direction == INPUT_GRADIENT,
        frozen=frozenset(graph.parameters()) if alone else frozenset(),
    )
    executor = Executor(plan, store, device)
    with engine_lock:
        fill(device, executor.bind(case.batch))
        executor.forward(case.batch)
    return _job(executor, case.batch, backward=True)


def _job(executor: Executor, n: int, backward: bool = False) -> Job:
    """All of an executor's forward, or backward, steps on random numbers."""
    with engine_lock:
        fill(executor.device, executor.bind(n))
    run, steps = (executor.backward, executor.plan.backward) if backward else (executor.forward, executor.plan.forward)

    def start() -> None:
        with engine_lock:
            run(n)

    return Job(Launched(start, executor.device.synchronize), plan_cost(steps, n))


def _update_job(case: Case, device: Device) -> Job:
    """SGD with momentum: w, v and the gradient are read, w and v written."""
    count = prod(case.shape)
    w, velocity, dw = (device.zeros(count) for _ in range(3))
    device.write(dw, np.ones(count, np.float32))

    update = device.record(lambda: device.kernels.sgd_update(w, velocity, dw, 1e-3, 0.9, 0.0, False))

    def start() -> None:
        with engine_lock:
            run(update.launches)

    return Job(Launched(start, device.synchronize), Cost(4 * count, 5 * 4 * count))


def fill(device: Device, binding: Binding) -> None:
    """Random numbers as inputs and as gradients of the outputs."""
    generator = np.random.default_rng(0)
    for view in [*binding.inputs, *binding.output_gradients]:
        device.upload(view, generator.standard_normal(view.shape, np.float32))


# -- a model, layer by layer ------------------------------------------------------------------------------------------


class LayerTime(NamedTuple):
    """A layer's share of a step: median ms, its cost, and the kernels that it launched with their ms, slowest first."""

    layer: str
    op: str
    direction: str  # "forward" or "backward"
    ms: float
    cost: Cost
    kernels: tuple[tuple[str, float], ...]


def time_layers(executor: Executor, n: int, effort: Effort) -> list[LayerTime]:
    """Every step of a plan in its order, so that each finds the caches as it does in a training or an inference."""
    plan = executor.plan
    with engine_lock:
        binding = executor.bind(n)
        fill(executor.device, binding)
        planned, bound = [*plan.forward, *plan.backward], [*binding.forward, *binding.backward]
        launches = [launch for step in bound for launch in step.launches]
        turns, start = list[list[float]](), time.perf_counter()
        for turn in range(-2, effort.pairs):
            if turn > 2 and time.perf_counter() - start > effort.limit:
                break
            laps = [time.perf_counter()]
            for launch, arguments in launches:
                launch(*arguments)
                executor.device.synchronize()
                laps.append(time.perf_counter())
            turns.append(list(np.diff(laps)))
    medians = iter(np.median(turns[2:] or turns, axis=0) * 1e3)
    names = [[_kernel_name(launch) for launch, _ in step.launches] for step in bound]
    times = [[(name, float(next(medians))) for name in listed] for listed in names]
    return list(_rows(plan, planned, times, n))


def _rows(plan: Plan, steps: list[Step], times: list[list[tuple[str, float]]], n: int) -> Iterator[LayerTime]:
    for step, listed in zip(steps, times, strict=True):
        kernels = dict.fromkeys((name for name, _ in listed), 0.0)
        for name, ms in listed:
            kernels[name] += ms
        slowest = tuple(sorted(kernels.items(), key=lambda item: -item[1]))
        direction = FORWARD if step.dy is None else "backward"
        node = step.node
        yield LayerTime(node.name, node.layer.op, direction, sum(kernels.values()), step_cost(step, n), slowest)


def _kernel_name(launch: object) -> str:
    """Of compiled code; of a layer that is not recorded, its whole step."""
    name = str(getattr(launch, "__name__", launch))
    return "whole step" if name == "work" else name.lstrip("_")
