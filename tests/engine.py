"""Helpers to run the engine and the oracle, and to compare their results."""

import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
import oracles

import numbacnn as nc
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph_format import to_dict
from numbacnn.engine.plan import make_plan

KEY = (2**40 + 5, 7)  # (seed, step) of every run, so that layers draw the same numbers
TOLERANCE = 1e-5  # relative norm, forward and gradients; the promise is 1e-4


class Result(NamedTuple):
    """Outputs, gradients of the inputs, and gradients of the parameters by name."""

    ys: list[np.ndarray]
    dxs: list[np.ndarray]
    gradients: dict[str, np.ndarray]

    def named(self):
        """Return every array by name."""
        named = {f"output {i}": y for i, y in enumerate(self.ys)}
        named |= {f"dx {i}": dx for i, dx in enumerate(self.dxs)}
        return named | {f"d {name}": gradient for name, gradient in self.gradients.items()}


def assert_close(found, expected, what, tolerance=TOLERANCE):
    """Check shape, float32, finite values, and relative norm; a failure shows both values where they differ most."""
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, not {expected.shape}"
    assert found.dtype == np.float32, f"{what}: {found.dtype}, not float32"
    wrong = np.abs(np.nan_to_num(found, nan=np.inf, posinf=np.inf, neginf=np.inf) - np.asarray(expected, np.float64))
    at = np.unravel_index(wrong.argmax(), wrong.shape)
    apart = np.linalg.norm(wrong) if np.isfinite(wrong).all() else np.inf
    assert apart <= tolerance * np.linalg.norm(expected), (
        f"{what}: off by {apart:.3g} of {np.linalg.norm(expected):.3g}; "
        f"most at {tuple(map(int, at))}: {found[at]!r}, not {expected[at]!r}"
    )


def assert_results_close(found, expected, what, tolerance=TOLERANCE):
    found, expected = found.named(), expected.named()
    assert found.keys() == expected.keys(), f"{what}: {sorted(found)}, not {sorted(expected)}"
    for name, array in found.items():
        assert_close(array, expected[name], f"{what}: {name}", tolerance)


def assert_same_bits(found, expected, what):
    found, expected = found.named(), expected.named()
    assert found.keys() == expected.keys(), f"{what}: {sorted(found)}, not {sorted(expected)}"
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], f"{what}: {name}", strict=True)


def generator_of(text):
    """Return a generator of random numbers that depend on the text alone."""
    return np.random.default_rng(zlib.crc32(text.encode()))


def normals(generator, shapes, batch):
    return [generator.standard_normal((batch, *shape)).astype(np.float32) for shape in shapes]


def randomize(model, generator):
    """Set every parameter, biases too, to nonzero values of a scale that keeps activations near 1.

    State is positive, since variances are.
    """
    arrays = {
        name: generator.standard_normal(array.shape) / np.sqrt(max(1, array[..., 0].size))
        for name, array in model.parameters.items()
    }
    model.set_parameters(arrays | {name: generator.uniform(0.5, 2, a.shape) for name, a in model.state.items()})


def one_layer(case, device="cpu"):
    """Make a model of the case's layer alone, which takes and returns lists."""
    inputs = [nc.Input(shape) for shape in case.shapes]
    model = nc.Model(inputs, [case.layer()(inputs)], device=device)
    randomize(model, case.generator)
    return model


def listed_names(model):
    """Return the names of inputs and nodes, of outputs, and of auxiliary outputs."""
    form = to_dict(model.graph)
    return [item["name"] for item in form["inputs"] + form["nodes"]], form["outputs"], form["auxiliary"]


def output_shapes(model):
    """Return the shapes of the outputs in training, auxiliary ones too."""
    return [model.graph.shapes[value] for value in model.graph.training_outputs]


def case_arrays(case, model, batch=None):
    """Return inputs, and gradients of the outputs."""
    batch = batch or case.batch
    return case.inputs(batch), normals(generator_of(f"dy of {case}"), output_shapes(model), batch)


def draw_again(model):
    """Make the next training forward run with ``KEY``."""
    seed, step = KEY
    model.store.set_random(seed, step - 1)


def input_gradient(layer, x, dy):
    """Return dx of one layer."""
    model = nc.Sequential([layer], x.shape[1:])
    model.forward(x, training=True)
    return model.backward(dy)


def run(model, xs, dys):
    """Run forward and backward through the public methods of a model that takes lists."""
    draw_again(model)
    ys = model.forward(xs, training=True)
    dxs = model.backward(dys)
    return Result(ys, dxs, {name: np.array(gradient) for name, gradient in model.gradients.items()})


class Fixed(Executor):
    """Runs a training plan whose layers behave as in inference."""

    def _bindings(self, step, n):
        bindings = super()._bindings(step, n)
        bindings.training = False
        return bindings


def run_planned(model, xs, dys, executor=Executor, **options):
    """``run`` with another plan, by its options ``fuse`` and ``batch`` (at least that of the inputs), or executor."""
    n = len(xs[0])
    options = {"batch": n, "training": True, "input_gradient": True} | options
    executor = executor(make_plan(model.graph, model.device.sizes, **options), model.store, model.device)
    binding = executor.bind(n)
    for view, x in zip(binding.inputs, xs, strict=True):
        np.copyto(view, x.reshape(view.shape))
    draw_again(model)
    executor.forward(n)
    shapes = output_shapes(model)
    ys = [np.array(view).reshape(n, *shape) for view, shape in zip(binding.outputs, shapes, strict=True)]
    for view, dy in zip(binding.output_gradients, dys, strict=True):
        np.copyto(view, dy.reshape(view.shape))
    executor.backward(n)
    dxs = [
        np.zeros_like(x) if view is None else np.array(view).reshape(x.shape)  # None: nothing reads this input
        for view, x in zip(binding.input_gradients, xs, strict=True)
    ]
    return Result(ys, dxs, {name: np.array(gradient) for name, gradient in model.gradients.items()})


@cache
def case_oracle(case):
    """Return ``oracle`` of the case's arrays, which several tests compare with."""
    model = one_layer(case)
    return oracle(model, *case_arrays(case, model))


def oracle(model, xs, dys):
    """Compute the expected result of ``run`` in float64."""
    arrays = model.store.arrays()
    values, calls = oracles.graph_calls(model.graph, xs, arrays, KEY)
    dxs, gradients = oracles.graph_gradients(model.graph, values, calls, dys)
    return Result([values[value] for value in model.graph.training_outputs], dxs, gradients)
