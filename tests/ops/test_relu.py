import numpy as np
import pytest
from engine import input_gradient
from op import Limits, Op, of_any_shape
from pytorch import F

from numbacnn import functional
from numbacnn import layers as nl

INF, NAN = np.inf, np.nan
OP = Op(
    nl.ReLU,
    pytorch=lambda layer, g, x: F.relu(x),
    draw=of_any_shape(nl.ReLU),
    limits=[Limits(nl.ReLU, 0, INF, 0, 1)],
)


@pytest.mark.parametrize(("value", "expected"), [(NAN, NAN), (INF, INF), (-INF, 0), (-1e30, 0), (1e30, 1e30), (0, 0)])
def test_special_values(value, expected):
    x = np.array([[1, value, -1]], np.float32)
    np.testing.assert_array_equal(functional.relu(x), np.array([[1, expected, 0]], np.float32))


def test_the_gradient_passes_where_the_output_is_above_zero_or_nan():
    x = np.array([[INF, -INF, NAN, 0, 1, -1]], np.float32)
    dy = np.array([[2, 3, 4, 5, 6, 7]], np.float32)
    np.testing.assert_array_equal(input_gradient(nl.ReLU(), x, dy), np.array([[2, 0, 4, 0, 6, 0]], np.float32))
