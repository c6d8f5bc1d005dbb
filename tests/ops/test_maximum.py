import numpy as np
import pytest
from op import BATCHES, Case, Op, draw_shape
from pytorch import torch

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl

LAYERS = {"maximum": nl.Maximum, "minimum": nl.Minimum}


def extremum(name):
    """The op of one of ``LAYERS``, which NumPy and PyTorch have under the same name."""

    def draw(random):
        return Case(name, LAYERS[name], (draw_shape(random),) * 2, random.choice(BATCHES))

    return Op(LAYERS[name], pytorch=lambda layer, g, a, b: getattr(torch, name)(a, b), draw=draw)


OP = extremum("maximum")


@pytest.fixture(params=LAYERS)
def name(request):
    return request.param


def test_nan_in_either_input_stays_nan(name):
    a, b = np.array([[np.nan, 1, np.inf]], np.float32), np.array([[1, np.nan, 2]], np.float32)
    np.testing.assert_array_equal(getattr(functional, name)([a, b]), getattr(np, name)(a, b))


def test_of_equal_elements_the_first_gets_the_gradient(name):
    a, b = nc.Input((2,)), nc.Input((2,))
    model = nc.Model([a, b], LAYERS[name]()([a, b]))
    x = np.ones((1, 2), np.float32)
    model.forward([x, x], training=True)
    da, db = model.backward(x)
    np.testing.assert_array_equal(da, [[1, 1]])
    np.testing.assert_array_equal(db, [[0, 0]])


def test_inputs_of_different_shapes(name):
    with pytest.raises(nc.GeometryError, match="inputs differ in shape"):
        getattr(functional, name)([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])
