import numpy as np
from engine import input_gradient
from op import Limits, Op, of_any_shape
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.ReLU6,
    pytorch=lambda layer, g, x: F.relu6(x),
    draw=of_any_shape(nl.ReLU6),
    limits=[Limits(nl.ReLU6, 0, 6, 0, 0)],
)


def test_there_is_no_gradient_at_the_bends():
    x = np.array([[0, 6, 3]], np.float32)
    np.testing.assert_array_equal(input_gradient(nl.ReLU6(), x, np.ones_like(x)), [[0, 0, 1]])
