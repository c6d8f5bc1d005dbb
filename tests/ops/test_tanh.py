import numpy as np
from engine import input_gradient
from op import Limits, Op, of_any_shape
from pytorch import torch

from numbacnn import functional
from numbacnn import layers as nl

OP = Op(
    nl.Tanh,
    pytorch=lambda layer, g, x: torch.tanh(x),
    draw=of_any_shape(nl.Tanh),
    limits=[Limits(nl.Tanh, -1, 1, 0, 0)],
)


def test_it_saturates_exactly():
    x = np.array([[1e4, -1e4, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(functional.tanh(x), np.array([[1, -1, 1, -1]], np.float32))
    assert np.isnan(functional.tanh(np.array([[np.nan]]))).all()


def test_there_is_no_gradient_where_it_saturates():
    x = np.array([[1e4, -1e4]], np.float32)
    np.testing.assert_array_equal(input_gradient(nl.Tanh(), x, np.ones_like(x)), np.zeros_like(x))
