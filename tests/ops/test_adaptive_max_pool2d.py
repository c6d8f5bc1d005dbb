import numpy as np
from engine import input_gradient
from op import Op, to_any_size
from pytorch import F, channels_first, channels_last

from numbacnn import functional
from numbacnn import layers as nl

OP = Op(
    nl.AdaptiveMaxPool2D,
    pytorch=lambda layer, g, x: channels_last(F.adaptive_max_pool2d(channels_first(x), (g.p, g.q))),
    draw=to_any_size(nl.AdaptiveMaxPool2D),
)


def test_nan_is_the_maximum_of_all_bins_that_hold_it():
    x = np.zeros((1, 3, 3, 9), np.float32)
    x[0, 1, 1, 4] = np.nan
    expected = np.zeros((1, 2, 2, 9), bool)
    expected[..., 4] = True  # the middle is in each of the four bins
    np.testing.assert_array_equal(np.isnan(functional.adaptive_max_pool2d(x, 2)), expected)


def test_among_equals_the_first_gets_the_gradient():
    dy = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 2, 2, 1)
    dx = input_gradient(nl.AdaptiveMaxPool2D(2), np.zeros((1, 3, 3, 1), np.float32), dy)
    np.testing.assert_array_equal(dx.reshape(3, 3), [[1, 2, 0], [3, 4, 0], [0, 0, 0]])
