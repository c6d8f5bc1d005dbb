import numpy as np
import pytest
from op import BATCHES, Case, Op, draw_shape
from pytorch import torch

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl


def draw_minimum(draw):
    return Case("minimum", nl.Minimum, (draw_shape(draw),) * 2, draw.choice(BATCHES))


OP = Op(nl.Minimum, pytorch=lambda layer, g, a, b: torch.minimum(a, b), draw=draw_minimum)


def test_nan_in_either_input_stays_nan():
    a, b = np.array([[np.nan, 1, np.inf]], np.float32), np.array([[1, np.nan, 2]], np.float32)
    np.testing.assert_array_equal(functional.minimum([a, b]), np.minimum(a, b))


def test_of_equal_elements_the_first_gets_the_gradient():
    a, b = nc.Input((2,)), nc.Input((2,))
    model = nc.Model([a, b], nl.Minimum()([a, b]))
    x = np.ones((1, 2), np.float32)
    model.forward([x, x], training=True)
    da, db = model.backward(x)
    np.testing.assert_array_equal(da, [[1, 1]])
    np.testing.assert_array_equal(db, [[0, 0]])


def test_inputs_of_different_shapes():
    with pytest.raises(nc.GeometryError, match="inputs differ in shape"):
        functional.minimum([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])
