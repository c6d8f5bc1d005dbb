import numpy as np
import pytest
from engine import input_gradient
from op import Op
from pooling import assert_first_of_equals_gets_the_gradient, over_windows, picked
from pytorch import F, channels_first, channels_last, pads, symmetric_padding

from numbacnn import functional
from numbacnn import layers as nl


def pytorch(layer, g, x):
    stride, sides, image = (g.stride_h, g.stride_w), symmetric_padding(g), channels_first(x)
    if sides is not None:
        return channels_last(F.max_pool2d(image, (g.r, g.s), stride, sides, ceil_mode=layer.ceil_mode))
    return channels_last(F.max_pool2d(F.pad(image, pads(g), value=-np.inf), (g.r, g.s), stride))


OP = Op(nl.MaxPool2D, pytorch=pytorch, draw=over_windows(nl.MaxPool2D), picked=picked(nl.MaxPool2D))


@pytest.mark.parametrize("case", [*OP.picked, *OP.drawn()], ids=str)
def test_among_equals_the_first_gets_the_gradient(case):
    assert_first_of_equals_gets_the_gradient(case)


def test_a_window_of_minus_infinities_has_a_maximum_and_a_first():
    x, dy = np.full((1, 2, 2, 1), -np.inf, np.float32), np.full((1, 1, 1, 1), 5, np.float32)
    assert functional.max_pool2d(x, 2).item() == -np.inf
    np.testing.assert_array_equal(input_gradient(nl.MaxPool2D(2), x, dy).reshape(2, 2), [[5, 0], [0, 0]])


@pytest.mark.parametrize("tap", range(9))
@pytest.mark.parametrize("channels", [1, 8, 19])
def test_nan_anywhere_in_the_window_is_its_maximum(tap, channels):
    x = np.arange(2 * 3 * 6 * channels, dtype=np.float32).reshape(2, 3, 6, channels)
    x[1, tap // 3, tap % 3, -1] = np.nan
    expected = np.zeros((2, 1, 2, channels), bool)
    expected[1, 0, 0, -1] = True
    np.testing.assert_array_equal(np.isnan(functional.max_pool2d(x, 3)), expected)
