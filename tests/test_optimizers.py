"""Optimisers: twenty steps beside the oracle, and what they refuse."""

import numpy as np
import pytest
import reference as ref
from engine import assert_close

import numbacnn as nc
from numbacnn.errors import ArgumentError

STEPS = 20
SGD_OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.01, "nesterov": True},
]
ADAM_OPTIONS = [{}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.1}, {"epsilon": 0.1}, {"betas": (0.0, 0.0)}]
CASES = [
    *((nc.SGD, ref.sgd, 0.05, options) for options in SGD_OPTIONS),
    *((nc.Adam, ref.adam, 0.01, options) for options in ADAM_OPTIONS),
]


def small_model(seed=0):
    """Parameters of 5,600, 70, 210 and 3 numbers: more than one block of an update, and gaps between them."""
    return nc.Sequential([nc.Dense(70), nc.Tanh(), nc.Dense(3)], (80,), seed=seed)


def fill_gradients(model, rng):
    """Gradients of a random batch."""
    model.forward(rng.standard_normal((4, 80)), training=True)
    model.backward(rng.standard_normal((4, 3)))


@pytest.mark.parametrize(
    ("kind", "oracle", "rate", "options"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_twenty_steps_follow_the_oracle(kind, oracle, rate, options, rng):
    model, optimizer = small_model(), kind(rate, **options)
    weights = {name: array.astype(np.float64) for name, array in model.parameters.items()}
    states = dict.fromkeys(weights)
    start = {name: array.copy() for name, array in weights.items()}
    for step in range(STEPS):
        fill_gradients(model, rng)
        scale = 0.5 if step >= STEPS // 2 else 1.0
        optimizer.step(model, scale)
        for name, gradient in model.gradients.items():
            weights[name], states[name] = oracle(
                weights[name], gradient.astype(np.float64), states[name], rate * scale, **options
            )
    assert optimizer.steps == STEPS
    for name, array in model.parameters.items():
        moved = array.astype(np.float64) - start[name]
        assert_close(moved.astype(np.float32), weights[name] - start[name], f"{kind.__name__} {options}: {name}")


def test_a_step_leaves_gradients_alone_and_reaches_the_next_forward(rng):
    model = small_model()
    fill_gradients(model, rng)
    before = {name: array.copy() for name, array in model.gradients.items()}
    x = rng.standard_normal((2, 80))
    y = model.forward(x)
    nc.SGD(0.1).step(model)
    for name, array in model.gradients.items():
        np.testing.assert_array_equal(array, before[name])
    assert np.abs(model.forward(x) - y).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nc.SGD(-0.1), "learning_rate=-0.1: give a number of at least 0"),
        (lambda: nc.SGD(float("nan")), "learning_rate=nan"),
        (lambda: nc.SGD(float("inf")), "learning_rate=inf"),
        (lambda: nc.SGD(0.1, momentum=1.0), "momentum=1: give a number of at least 0 and below 1"),
        (lambda: nc.SGD(0.1, momentum=-0.5), "momentum=-0.5"),
        (lambda: nc.SGD(0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: nc.SGD(0.1, weight_decay=-1), "weight_decay=-1"),
        (lambda: nc.Adam(0.1, betas=(0.9, 1.0)), "betas=1"),
        (lambda: nc.Adam(0.1, epsilon=-1e-8), "epsilon=-1e-08"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("kind", [nc.SGD, nc.Adam])
def test_one_optimizer_serves_one_model(kind, rng):
    model, other, optimizer = small_model(), small_model(1), kind(0.1)
    fill_gradients(model, rng)
    optimizer.step(model)
    fill_gradients(other, rng)
    kept = {name: array.copy() for name, array in other.parameters.items()}
    with pytest.raises(ArgumentError, match="already serves another model; make one for each"):
        optimizer.step(other)
    for name, array in other.parameters.items():
        np.testing.assert_array_equal(array, kept[name])
