from functools import partial
from math import inf

import numpy as np
import pytest
from op import BATCHES, Case, Limits, Op, draw_shape
from pytorch import F, torch

from numbacnn import functional
from numbacnn import layers as nl
from numbacnn.layers.elementwise import FUNCTIONS

POSITIVE = {"sqrt", "log", "reciprocal"}  # tested where they are defined, and where small changes change little


def pytorch(layer, g, x):
    of = F if layer.function in ("softplus", "mish") else torch
    return getattr(of, layer.function)(x)


def draw_elementwise(draw):
    name = draw.choice(FUNCTIONS)
    domain = _positive if name in POSITIVE else np.asarray
    layer = partial(nl.Elementwise, name)
    return Case(f"elementwise {name}", layer, (draw_shape(draw),), draw.choice(BATCHES), domain)


def _positive(x):
    return abs(x) + np.float32(0.1)


OP = Op(
    nl.Elementwise,
    pytorch=pytorch,
    draw=draw_elementwise,
    picked=[
        Case(f"elementwise {name}", partial(nl.Elementwise, name), ((3, 5, 7),), 2,
             _positive if name in POSITIVE else np.asarray)
        for name in sorted(FUNCTIONS, key=POSITIVE.__contains__)
    ],
    limits=[
        Limits(partial(nl.Elementwise, "softplus"), 0, inf, 0, 1),
        Limits(partial(nl.Elementwise, "mish"), 0, inf, 0, 1),
        Limits(partial(nl.Elementwise, "erf"), -1, 1, 0, 0),
        Limits(partial(nl.Elementwise, "sign"), -1, 1, 0, 0),
    ],
)  # fmt: skip


def test_functions_are_those_of_mathematics():
    x = np.array([[0.25, 1, 4]], np.float32)
    expected = {"sqrt": [0.5, 1, 2], "reciprocal": [4, 1, 0.25], "exp": np.exp(x[0]), "log": np.log(x[0])}
    for name, y in expected.items():
        np.testing.assert_allclose(functional.elementwise(x, name)[0], y, rtol=1e-6)


@pytest.mark.parametrize("name", ["floor", "ceil", "sign"])
def test_steps_are_exact_for_every_size(name):
    far = [2.0**22 + 0.5, 2.0**23 - 0.5, -(2.0**31), 3e38, -3e38, inf, -inf, np.nan]
    x = np.array([[-2.5, -2, -0.5, -0.0, 0, 0.5, 2, 2.5, *far]], np.float32)
    np.testing.assert_array_equal(functional.elementwise(x, name), getattr(np, name)(x))


def test_values_outside_the_domain():
    x = np.array([[-1, 0, inf, np.nan]], np.float32)
    np.testing.assert_array_equal(functional.elementwise(x, "sqrt"), [[np.nan, 0, inf, np.nan]])
    np.testing.assert_array_equal(functional.elementwise(x, "log"), [[np.nan, -inf, inf, np.nan]])
    np.testing.assert_array_equal(functional.elementwise(x, "reciprocal"), [[-1, inf, 0, np.nan]])
