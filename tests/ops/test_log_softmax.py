import numpy as np
from op import Op, case, of_any_shape
from pytorch import F

from numbacnn import functional
from numbacnn import layers as nl

OP = Op(
    nl.LogSoftmax,
    pytorch=lambda layer, g, x: F.log_softmax(x, -1),
    draw=of_any_shape(nl.LogSoftmax),
    picked=[case(nl.LogSoftmax, "one class", (1,), 3), case(nl.LogSoftmax, "wide rows", (2, 130, 3), 2)],
)


def test_small_probabilities_keep_their_logarithm():
    """The softmax of 1000 below the largest is 0 in float32."""
    x = np.array([[0, -1000, 0]], np.float32)
    np.testing.assert_allclose(functional.log_softmax(x), [[-np.log(2), -1000 - np.log(2), -np.log(2)]], rtol=1e-6)
