import numpy as np
import pytest
from op import BATCHES, Case, Op, draw_shape
from pytorch import torch

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl


def draw_maximum(draw):
    return Case("maximum", nl.Maximum, (draw_shape(draw),) * 2, draw.choice(BATCHES))


OP = Op(nl.Maximum, pytorch=lambda layer, g, a, b: torch.maximum(a, b), draw=draw_maximum)


def test_nan_in_either_input_stays_nan():
    a, b = np.array([[np.nan, 1, np.inf]], np.float32), np.array([[1, np.nan, 2]], np.float32)
    np.testing.assert_array_equal(functional.maximum([a, b]), np.maximum(a, b))


def test_of_equal_elements_the_first_gets_the_gradient():
    a, b = nc.Input((2,)), nc.Input((2,))
    model = nc.Model([a, b], nl.Maximum()([a, b]))
    x = np.ones((1, 2), np.float32)
    model.forward([x, x], training=True)
    da, db = model.backward(x)
    np.testing.assert_array_equal(da, [[1, 1]])
    np.testing.assert_array_equal(db, [[0, 0]])


def test_inputs_of_different_shapes():
    with pytest.raises(nc.GeometryError, match="inputs differ in shape"):
        functional.maximum([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])
