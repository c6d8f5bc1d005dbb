"""Our own work to time: kernels alone, and the steps of a plan, with their operations and the bytes they must move."""

import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from numbacnn.bench.cases import FORWARD, INPUT_GRADIENT, UPDATE, Case
from numbacnn.bench.timing import Effort, Launched, Work
from numbacnn.engine.device import Device
from numbacnn.engine.executor import BoundPlan, Executor
from numbacnn.engine.graph import Graph, Input
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import Step, View, make_plan
from numbacnn.kernels.convolution import Cost
from numbacnn.kernels.recording import run
from numbacnn.layers.weights import WeightLayer


class Algorithm(NamedTuple):
    """A convolution algorithm that runs in one direction, and what it computes and moves itself."""

    name: str
    cost: Cost


class Job(NamedTuple):
    """A function to time, whose arrays are allocated and filled, the cost of a call, and its algorithms."""

    work: Work
    cost: Cost
    algorithms: Mapping[str, Algorithm] = {}


# -- the cost of a step -----------------------------------------------------------------------------------------------


def step_cost(step: Step, n: int) -> Cost:
    """Return the cost of a step of a plan on ``n`` images: operations of the direct algorithm, and bytes.

    Inputs, weights and outputs move once; normalizations in training read their inputs twice, as the statistics must be
    complete before the first output. Scratch is not counted.
    """
    return _forward_cost(step, n) if step.dy is None else _backward_cost(step, n)


def step_algorithms(step: Step, n: int) -> dict[str, Algorithm]:
    """Return the convolution algorithms of a step on ``n`` images, by direction."""
    return {
        direction: Algorithm(algorithm.name, Cost(*algorithm.cost(direction, step.node.geometry, n, step.pool)))
        for direction, algorithm in step.algorithms.items()
    }


def algorithm_names(algorithms: Mapping[str, Algorithm]) -> str:
    """Return the names of algorithms, each once."""
    return " / ".join(dict.fromkeys(algorithm.name for algorithm in algorithms.values()))


def algorithm_figures(algorithms: Mapping[str, Algorithm]) -> dict[str, dict[str, str | int]]:
    """Return algorithms as JSON values."""
    return {direction: {"name": found.name, **found.cost._asdict()} for direction, found in algorithms.items()}


def plan_cost(steps: Sequence[Step], n: int) -> Cost:
    """Return the total cost of several steps."""
    return sum((step_cost(step, n) for step in steps), Cost(0, 0))


def _forward_cost(step: Step, n: int) -> Cost:
    reads, parts = 2 if step.node.layer.normalizes and step.training else 1, (step, *step.then)
    moved = reads * _bytes(step.xs, n) + _bytes([step.y, *(part.residual for part in parts)], n)
    flops = sum(part.node.layer.flops(part.node.geometry, part.node.shape) for part in parts)
    return Cost(n * flops, moved + sum(map(_parameter_bytes, parts)))


def _backward_cost(step: Step, n: int) -> Cost:
    node, layer = step.node, step.node.layer
    assert step.dy is not None
    added = sum(_bytes([total, part, total], n) for total, part in step.adds)
    if step.layer is None:
        return Cost(0, added)
    reads = 2 if layer.normalizes and step.training else 1
    trains = len(step.frozen) < len(node.parameters)
    needs_dx = any(dx is not None for dx in step.dxs)
    in_place = _bytes([step.dy], n) if not step.dxs else 0  # the gradient of an activation that a pool follows
    moved = reads * _bytes([step.dy], n) + in_place + _bytes(step.dxs, n) + added
    if step.masks or (layer.reads_x and (trains or not node.parameters)):
        moved += reads * _bytes(step.xs, n)
    if layer.reads_y:
        moved += _bytes([step.y], n)
    if "argmax" in step.scratch:
        moved += 4 * n * prod(step.dy.shape)
    moved += (trains + needs_dx) * _parameter_bytes(step)
    passes = trains + needs_dx if isinstance(layer, WeightLayer) else 1
    return Cost(passes * n * layer.flops(node.geometry, node.shape), moved)


def _bytes(views: Sequence[View | None], n: int) -> int:
    return sum(4 * n * prod(view.shape) for view in views if view is not None)


def _parameter_bytes(step: Step) -> int:
    return sum(4 * prod(array.shape) for array in step.node.layer.parameters(step.node.input_shapes).values())


# -- one layer, in one direction --------------------------------------------------------------------------------------


def graph_of(case: Case) -> Graph:
    """Return a graph of the case's layer alone. Raises ArgumentError or GeometryError if it is impossible."""
    x = Input(case.shape)
    return Graph([x], [case.layer()(x)])


def kernel_job(case: Case, direction: str, device: Device) -> Job:
    """Return one direction of a case; the plan leaves out what only the others need.

    Forward is inference, except for normalizations, whose statistics are part of the work.
    """
    if direction == UPDATE:
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
    """Return all forward, or backward, steps of an executor on random numbers."""
    with engine_lock:
        fill(executor.device, executor.bind(n))
    run, steps = (executor.backward, executor.plan.backward) if backward else (executor.forward, executor.plan.forward)

    def start() -> None:
        with engine_lock:
            run(n)

    algorithms = {direction: found for step in steps for direction, found in step_algorithms(step, n).items()}
    return Job(Launched(start, executor.device.synchronize), plan_cost(steps, n), algorithms)


def _update_job(case: Case, device: Device) -> Job:
    """Return an update by SGD with momentum, which reads weights, velocity and gradient, and writes the first two."""
    count = prod(case.shape)
    w, velocity, dw = (device.zeros(count) for _ in range(3))
    scalars = device.zeros(2, np.float64)
    device.write(dw, np.ones(count, np.float32))
    device.write(scalars, np.array([1, 1e-3]))

    update = device.record(lambda: device.kernels.sgd_update(w, velocity, dw, scalars, 0.9, 0.0, False))

    def start() -> None:
        with engine_lock:
            run(update.launches)

    return Job(Launched(start, device.synchronize), Cost(4 * count, 5 * 4 * count))


def fill(device: Device, binding: BoundPlan) -> None:
    """Write random numbers to the inputs and to the gradients of the outputs."""
    generator = np.random.default_rng(0)
    for view in [*binding.inputs, *binding.output_gradients]:
        device.upload(view, generator.standard_normal(view.shape, np.float32))


# -- a model, layer by layer ------------------------------------------------------------------------------------------


class LayerTime(NamedTuple):
    """A layer's part of a step: median ms, cost, the kernels launched with their ms, slowest first, and algorithms."""

    layer: str
    op: str
    direction: str  # "forward", "backward" or "update"
    ms: float
    cost: Cost
    kernels: tuple[tuple[str, float], ...]
    algorithms: Mapping[str, Algorithm] = {}  # of convolutions, by direction


def time_layers(executor: Executor, n: int, effort: Effort) -> list[LayerTime]:
    """Time every step of a plan in order, so that each finds the caches as in training or inference."""
    with engine_lock:
        binding = executor.bind(n)
        fill(executor.device, binding)
        run(binding.preparations)  # weights that nobody has written yet would be read from one page of zeros
        bound = [*binding.forward, *binding.backward]
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
    times = [[(_kernel_name(launch), float(next(medians))) for launch, _ in step.launches] for step in bound]
    steps = [*executor.plan.forward, *executor.plan.backward]
    return [_layer_time(step, kernels, n) for step, kernels in zip(steps, times, strict=True)]


def _layer_time(step: Step, times: Sequence[tuple[str, float]], n: int) -> LayerTime:
    kernels = dict.fromkeys((name for name, _ in times), 0.0)
    for name, ms in times:
        kernels[name] += ms
    slowest = tuple(sorted(kernels.items(), key=lambda item: -item[1]))
    direction = FORWARD if step.dy is None else "backward"
    node = step.node
    ms, algorithms = sum(kernels.values()), step_algorithms(step, n)
    return LayerTime(node.name, node.layer.op, direction, ms, step_cost(step, n), slowest, algorithms)


def _kernel_name(launch: object) -> str:
    """Return the name of a compiled function; a custom layer that is not recorded is one launch, its whole step."""
    name = str(getattr(launch, "__name__", launch))
    return "whole step" if name == "work" else name.lstrip("_")
