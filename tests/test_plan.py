"""Plans: their steps are replayed on a map of the arena, and models run with different plans."""

import numpy as np
import oracles
import pytest
from engine import assert_close, assert_results_close, assert_same_bits, oracle, run, run_planned
from graphs import NAMED, SMALL, arrays, models, shortcuts
from hypothesis import given, settings

from numbacnn.engine.device import get_device
from numbacnn.engine.plan import make_plan
from numbacnn.engine.plan.arena import ALIGNMENT
from numbacnn.geometry import Halo

SIZES = get_device("cpu").sizes
NO_HALO = Halo()
named = pytest.mark.parametrize("make", NAMED)


def plan_of(model, batch=3, training=True, fuse=True):
    return make_plan(model.graph, SIZES, batch, training=training, input_gradient=training, fuse=fuse)


class Arena:
    """Records which buffer last wrote each cache line. Reading a line that another one has overwritten is an error."""

    def __init__(self, plan):
        self.plan = plan
        self.owner = np.full(plan.bytes // ALIGNMENT, -1)
        self.number = {id(buffer): i for i, buffer in enumerate(plan.buffers)}
        self.clean = {i: True for i, buffer in enumerate(plan.buffers) if any(buffer.halo)}  # zeros in the halo
        assert all(buffer.offset % ALIGNMENT == 0 for buffer in plan.buffers)
        assert all(buffer.offset + buffer.bytes <= plan.bytes for buffer in plan.buffers)

    def lines(self, buffer):
        return slice(buffer.offset // ALIGNMENT, (buffer.offset + buffer.bytes) // ALIGNMENT)

    def write(self, buffer, cleared=False):
        number, lines = self.number[id(buffer)], self.owner[self.lines(buffer)]
        for loser in set(lines.tolist()) - {number, -1}:
            self.clean[loser] = False
        lines[:] = number
        if cleared:
            self.clean[number] = True

    def read(self, buffer, why, halo=NO_HALO):
        number = self.number[id(buffer)]
        overwritten = set(self.owner[self.lines(buffer)].tolist()) - {number}
        names = [self.plan.buffers[i].owner if i >= 0 else "nothing" for i in overwritten]
        assert not overwritten, f'{why} reads "{buffer.owner}", overwritten by {names}'
        assert buffer.halo.union(halo) == buffer.halo, (
            f'{why} needs {halo} around "{buffer.owner}", which has {buffer.halo}'
        )
        assert not any(halo) or self.clean[number], f'{why} reads a halo of "{buffer.owner}" that is not zeros'


def replay(plan):
    """Replay two training steps (or inferences), the second on what the first one left in the arena."""
    arena = Arena(plan)
    for _ in range(2):
        for view in plan.inputs:
            arena.write(view.buffer)
        for step in plan.forward:
            replay_forward(arena, step)
        for view in plan.outputs:
            arena.read(view.buffer, "the caller")
        for view in plan.output_gradients:
            arena.write(view.buffer)
        for step in plan.backward:
            replay_backward(arena, step)
        for view in [*plan.outputs, *filter(None, plan.input_gradients)]:
            arena.read(view.buffer, "the caller, after backward")


def replay_forward(arena, step):
    why = f"forward of {step.node.name}"
    for buffer in step.workspaces:
        arena.write(buffer)
    arena.write(step.y.buffer, cleared=step.y.buffer in step.clears)
    for x in step.xs:
        arena.read(x.buffer, why, step.node.layer.input_halo(step.node.geometry))
    for part in (step, *step.then):
        for buffer in filter(None, part.scratch.values() if part is not step else ()):
            arena.write(buffer)
        if part.residual is not None:
            arena.read(part.residual.buffer, why)


def replay_backward(arena, step):
    why, layer = f"backward of {step.node.name}", step.node.layer
    saved = {name for name, scratch in layer.scratch(SIZES, step.node.geometry, 3).items() if scratch.when == "saved"}
    saved |= {"argmax"} if step.pool is not None else set()
    if step.layer is not None:
        written = [view.buffer for view in step.dxs if view is not None and view.buffer is not step.dy.buffer]
        read = {id(step.scratch[name].buffer): step.scratch[name].buffer for name in saved & step.scratch.keys()}
        written += [buffer for buffer in step.workspaces if id(buffer) not in read]
        for buffer in written:
            arena.write(buffer, cleared=buffer in step.clears)
        for buffer in read.values():
            arena.read(buffer, why)
        for x in step.xs if layer.reads_x else ():
            arena.read(x.buffer, why, layer.input_halo(step.node.geometry))
        if layer.reads_y:
            arena.read(step.y.buffer, why)
        needs_halo = any(view is not None for view in step.dxs) and step.pool is None
        arena.read(step.dy.buffer, why, layer.gradient_halo(step.node.geometry) if needs_halo else NO_HALO)
    for view in [view for pair in step.adds for view in pair]:
        arena.read(view.buffer, f"a sum after {why}")


@named
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_overwritten_before_its_last_reader(make, training):
    replay(plan_of(make(), training=training))


@settings(max_examples=300)
@given(models())
def test_nothing_is_overwritten_before_its_last_reader_in_any_graph(model):
    for training in (True, False):
        for fuse in (True, False):
            replay(plan_of(model, training=training, fuse=fuse))


@named
def test_models_match_the_oracle_whatever_their_buffers_contained(make):
    model = make()
    xs, dys = arrays(model, 2)
    run(model, [np.full_like(x, np.nan) for x in xs], [np.full_like(dy, np.nan) for dy in dys])
    for _ in range(2):
        assert_results_close(run(model, xs, dys), oracle(model, xs, dys), make.__name__)


@settings(max_examples=200)
@given(models())
def test_any_graph_matches_the_oracle_with_and_without_fusion_and_when_repeated(model):
    xs, dys = arrays(model)
    expected = oracle(model, xs, dys)
    unfused = run_planned(model, xs, dys, fuse=False)
    assert_results_close(unfused, expected, "unfused")
    model.backward(
        [np.full_like(y, np.nan) for y in model.forward([np.full_like(x, np.nan) for x in xs], training=True)]
    )
    fused = run(model, xs, dys)
    assert_results_close(fused, unfused, "fused against unfused", tolerance=1e-6)


@given(models(modes=False))
def test_inference_equals_the_training_forward(model):
    xs, dys = arrays(model)
    trained = run(model, xs, dys).ys
    for y, expected in zip(model.forward(xs), trained[: len(model.graph.outputs)], strict=True):
        np.testing.assert_array_equal(y, expected)


@given(models())
def test_inference_matches_the_oracle(model):
    xs, _ = arrays(model)
    values = oracles.graph_forward(model.graph, xs, model.store.arrays())
    for y, value in zip(model.forward(xs), model.graph.outputs, strict=True):
        assert_close(y, values[value], f"output {value}")


@named
def test_inference_needs_less_memory_than_training(make):
    """Apart from packed weights, which inference keeps and training packs in parts."""
    model = make()
    inference, training = (plan_of(model, 16, training=training) for training in (False, True))
    given = {id(view.buffer) for view in inference.inputs}
    kept = sum(buffer.bytes for buffer in inference.buffers if buffer.permanent and id(buffer) not in given)
    assert inference.bytes - kept < training.bytes
    assert kept <= 12 * 4 * model.store.size, "Winograd's are four times as many, and panels are filled up"
    assert inference.bytes <= sum(buffer.bytes for buffer in inference.buffers)


@pytest.mark.parametrize("make", [make for make in NAMED if make not in SMALL])
@pytest.mark.parametrize("training", [True, False])
def test_buffers_that_never_live_together_share_memory(make, training):
    plan = plan_of(make(), 16, training, fuse=False)
    assert plan.bytes < 0.8 * sum(buffer.bytes for buffer in plan.buffers)


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_gives_the_same_bits_in_the_buffers_of_a_larger_one(make, batch):
    model = make()
    xs, dys = arrays(model, batch)
    exact, roomy = run_planned(model, xs, dys), run_planned(model, xs, dys, batch=7)
    for y, expected in zip(roomy.ys + roomy.dxs, exact.ys + exact.dxs, strict=True):
        np.testing.assert_array_equal(y, expected)
    for name, gradient in roomy.gradients.items():  # sums over images may be split by the planned batch
        assert_close(gradient, exact.gradients[name], name, 1e-6)


@pytest.mark.parametrize("make", SMALL)
def test_a_larger_batch_gets_a_new_plan_and_a_smaller_one_does_not(make):
    model = make()
    small, large = arrays(model, 2), arrays(model, 6)
    first = run(model, *small)
    executor = model._executors[True, True, None]
    run(model, *large)
    assert model._executors[True, True, None].plan.batch == 6
    assert model._executors[True, True, None] is not executor
    executor = model._executors[True, True, None]
    again = run(model, *small)
    assert model._executors[True, True, None] is executor
    assert_results_close(again, first, "the smaller batch, after the larger", 1e-6)


@pytest.mark.parametrize("make", SMALL)
def test_alternating_batch_sizes_repeat_their_bits(make):
    """There are more sizes than the executor keeps."""
    model = make()
    run(model, *arrays(model, 12))
    sizes = [*range(1, 12), *range(1, 12)]
    results = [run(model, *arrays(model, n)) for n in sizes]
    for n in range(11):
        assert_same_bits(results[n], results[n + 11], f"batch {n + 1}")


def test_residual_sums_are_fused_into_the_convolution_computed_last():
    model = shortcuts()
    fused = [step for step in plan_of(model, training=False).forward if step.residual is not None]
    kinds = [step.algorithms["forward"].family for step in fused if step.fused == "relu"]
    assert kinds == ["direct", "winograd4", "winograd2", "direct", "direct", "direct"]
    assert len(fused) == len(kinds) + 2  # without ReLU, one of them before a pool
    assert not any(step.residual for step in plan_of(model, training=True).forward)
    assert not any(step.residual for step in plan_of(model, training=False, fuse=False).forward)
