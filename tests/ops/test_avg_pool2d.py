import numpy as np
from op import Op, case
from pooling import over_windows, picked
from pytorch import F, channels_first, channels_last, pads, symmetric_padding, torch

from numbacnn import functional
from numbacnn import layers as nl


def pytorch(layer, g, x):
    stride, sides, image = (g.stride_h, g.stride_w), symmetric_padding(g), channels_first(x)
    if sides is not None:
        y = F.avg_pool2d(image, (g.r, g.s), stride, sides, layer.ceil_mode, layer.count_include_pad)
        return channels_last(y)

    def sums(values, padding):
        return F.avg_pool2d(F.pad(values, padding), (g.r, g.s), stride, divisor_override=1)

    counted = torch.ones(1, 1, g.h, g.w, dtype=torch.float64)
    if layer.count_include_pad:
        counted = F.pad(counted, (g.pad_left, g.pad_right, g.pad_top, g.pad_bottom), value=1.0)
        _, right, _, bottom = pads(g)
        return channels_last(sums(image, pads(g)) / sums(counted, (0, right - g.pad_right, 0, bottom - g.pad_bottom)))
    return channels_last(sums(image, pads(g)) / sums(counted, pads(g)))


OP = Op(
    nl.AvgPool2D,
    pytorch=pytorch,
    draw=over_windows(nl.AvgPool2D, count_include_pad=lambda draw: draw.random() < 0.5),
    picked=[
        *picked(nl.AvgPool2D),
        case(nl.AvgPool2D, "padding left out of the mean", (6, 5, 3), 2, pool_size=3, stride=2, padding=1,
             count_include_pad=False),
        case(nl.AvgPool2D, "ceil_mode, padding left out", (6, 7, 3), 2, pool_size=3, stride=2, padding=1,
             ceil_mode=True, count_include_pad=False),
    ],
)  # fmt: skip


def test_an_infinite_pixel_stays_in_its_window():
    x = np.ones((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = np.inf
    np.testing.assert_array_equal(functional.avg_pool2d(x, 2).reshape(2, 2), [[np.inf, 1], [1, 1]])
