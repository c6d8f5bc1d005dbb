import numpy as np
import pytest
from op import BATCHES, Case, Op, case, draw_shape

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl


def draw_power(draw):
    exponent = draw.choice((-2.0, -0.5, 0.5, 1.0, 1.7, 2.0, 3.0))
    name, shape = f"power {exponent}", draw_shape(draw)
    return Case(name, lambda: nl.Power(exponent), (shape,), draw.choice(BATCHES), lambda x: abs(x) + np.float32(0.3))


OP = Op(
    nl.Power,
    pytorch=lambda layer, g, x: x**layer.exponent,
    draw=draw_power,
    picked=[case(nl.Power, "cube of negative numbers", (3, 4, 5), 2, 3)],
)


def test_negative_numbers_have_whole_powers_only():
    x = np.array([[-2, 0, 3]], np.float32)
    np.testing.assert_array_equal(functional.power(x, 3), [[-8, 0, 27]])
    np.testing.assert_array_equal(np.isnan(functional.power(x, 0.5)), [[True, False, False]])


def test_exponents_are_numbers():
    with pytest.raises(nc.ArgumentError, match="exponent=inf"):
        nl.Power(float("inf"))
