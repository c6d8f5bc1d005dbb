"""Every case of the table in two steps: the oracle against a central difference, the engine against the oracle."""

import numpy as np
import oracles
import pytest
from cases import CASES
from engine import (
    KEY,
    assert_close,
    assert_results_close,
    assert_same_bits,
    case_arrays,
    case_oracle,
    generator_of,
    one_layer,
    run,
    run_planned,
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
STEP = 1e-6
DIFFERENCE_TOLERANCE = 1e-6


@every_case
def test_oracle_gradients_match_a_central_difference(case):
    """d/dt Σ dy·y(x + t·u, w + t·v) along a random direction (u, v) equals Σ dx·u + Σ dw·v."""
    model, draw = one_layer(case), generator_of(f"direction of {case}")
    (node,) = model.graph.nodes
    xs, (dy,) = case_arrays(case, model)
    xs = [x.astype(np.float64) for x in xs]
    arrays, key = oracles.custom_arrays(node, model.store.arrays()), oracles.node_key(node, KEY)
    parameters = {name: arrays[name] for name in node.layer.parameters(node.input_shapes)}
    x_directions = [draw.standard_normal(x.shape) for x in xs]
    directions = {name: draw.standard_normal(array.shape) for name, array in parameters.items()}

    def value(t):
        moved = [x + t * u for x, u in zip(xs, x_directions, strict=True)]
        weights = {name: array + t * directions[name] for name, array in parameters.items()}
        return (dy * oracles.forward(node.layer, moved, arrays | weights, key)).sum()

    found = case_oracle(case)
    parts = [dx * u for dx, u in zip(found.dxs, x_directions, strict=True)]
    parts += [found.gradients[f"{node.name}.{name}"] * direction for name, direction in directions.items()]
    slope, expected = (value(STEP) - value(-STEP)) / (2 * STEP), sum(part.sum() for part in parts)
    size = sum(np.abs(part).sum() for part in parts)
    assert abs(slope - expected) <= DIFFERENCE_TOLERANCE * size + 1e-12, (
        f"{case}: {expected!r}, by difference {slope!r}"
    )


@every_case
@pytest.mark.parametrize("spare", [0, 3], ids=["", "in the buffers of a larger batch"])
def test_engine_matches_the_oracle_whatever_its_buffers_contained(case, spare):
    """NaN runs through first, in a batch larger by ``spare``, and must leave no trace."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    larger = case_arrays(case, model, case.batch + spare)
    run(model, *[[np.full_like(array, np.nan) for array in arrays] for arrays in larger])
    assert_results_close(run(model, xs, dys), case_oracle(case), str(case))


@pytest.mark.parametrize("case", [case for case in CASES if one_layer(case).parameters], ids=str)
def test_parameter_gradients_do_not_need_an_input_gradient(case):
    """The first layer of a model in training is such a case; the halo of its dy must be complete."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    with_input = run(model, xs, dys)
    without = run_planned(model, xs, dys, input_gradient=False)
    assert_same_bits(without._replace(dxs=[]), with_input._replace(dxs=[]), str(case))


@every_case
def test_runs_repeat_their_bits_in_new_arrays(case):
    """The training forward equals inference, unless the layer depends on the mode; later runs repeat the first one, and
    do not write into its results."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    inference = model.forward(xs)
    first = run(model, xs, dys)
    kept = first._replace(ys=[y.copy() for y in first.ys], dxs=[dx.copy() for dx in first.dxs])
    for array in [*inference, *first.ys, *first.dxs]:
        assert array.flags.writeable
        assert not np.shares_memory(array, model._executors[True, True, None].arena)
    if not case.layer().depends_on_mode:
        assert_same_bits(first._replace(ys=inference), first, f"{case}: inference")
    run(model, [-x for x in xs], [2 * dy for dy in dys])
    assert_same_bits(first, kept, f"{case}: after another run")
    assert_same_bits(run(model, xs, dys), first, f"{case}: again")


@pytest.mark.parametrize("case", [case for case in CASES if case.layer().depends_on_mode], ids=str)
def test_inference_matches_the_oracle_before_and_after_training(case):
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    for when in ("before", "after"):
        (expected,) = oracles.graph_forward(model.graph, xs, model.store.arrays())[-1:]
        assert_close(model.forward(xs)[0], expected, f"{case}, {when} training")
        run(model, xs, dys)
