import numpy as np
import pytest
from op import Op, case, of_any_shape
from pytorch import F

from numbacnn import functional
from numbacnn import layers as nl

OP = Op(
    nl.Softmax,
    pytorch=lambda layer, g, x: F.softmax(x, -1),
    draw=of_any_shape(nl.Softmax),
    picked=[case(nl.Softmax, "one class", (1,), 3)],
)


@pytest.mark.parametrize("column", [0, 3, 5])
def test_nan_stays_in_its_own_row(column):
    x = np.zeros((2, 6), np.float32)
    x[0, column] = np.nan
    y = functional.softmax(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_allclose(y[1], 1 / 6, rtol=1e-6)


def test_huge_logits_do_not_overflow():
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3e38, 0, -3e38]], np.float32)
    expected = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    np.testing.assert_allclose(functional.softmax(x), expected, rtol=1e-6)
