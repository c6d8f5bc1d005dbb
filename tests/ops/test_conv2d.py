import numpy as np
import pytest
from op import BATCHES, CHANNELS, Case, Op, case, describe, draw_axis, draw_padding
from pytorch import conv2d

import numbacnn as nc
from numbacnn import layers as nl


def picked(reason, shape, batch, *arguments, **options):
    return case(nl.Conv2D, reason, shape, batch, *arguments, **options)


PICKED = [
    picked("LeNet's first", (28, 28, 1), 2, 6, 5, padding=2),
    picked("LeNet's second", (14, 14, 6), 3, 16, 5),
    picked("one pixel, one channel, one image", (1, 1, 1), 1, 1, 1),
    picked("1x1, a matrix product", (5, 6, 7), 2, 9, 1),
    picked("window as large as the image", (4, 5, 3), 2, 6, (4, 5)),
    picked("same padding, even window: the surplus goes to the end", (6, 7, 2), 2, 3, 4, padding="same"),
    picked("same padding, stride 2, odd size", (7, 9, 3), 1, 8, 3, stride=2, padding="same"),
    picked("stride larger than the window: pixels that no window meets", (11, 13, 2), 2, 5, 2, stride=(3, 4)),
    picked("stride leaves a rest at the end", (10, 8, 3), 1, 4, 3, stride=3),
    picked("dilation", (9, 10, 2), 2, 4, 3, dilation=(2, 3), padding="same"),
    picked("dilation and stride with a common factor", (13, 12, 2), 1, 3, 3, dilation=2, stride=4, padding=2),
    picked("dilation and stride without one", (13, 12, 2), 1, 3, 3, dilation=3, stride=2, padding=3),
    picked("padding on one side only", (5, 6, 2), 2, 3, 3, padding=((2, 0), (0, 1))),
    picked("padding at the far side only", (5, 6, 2), 2, 3, 3, padding=((0, 2), (3, 0))),
    picked("padding larger than the window: outputs that see zeros alone", (3, 4, 2), 1, 3, 2, padding=3),
    picked("depthwise", (8, 7, 5), 2, 5, 3, groups=5, padding="same"),
    picked("depthwise with two filters a channel", (6, 7, 3), 2, 6, 3, groups=3, stride=2),
    picked("two groups", (7, 6, 10), 2, 14, 3, groups=2, padding=1),
    picked("narrow groups, ResNeXt's", (9, 16, 24), 2, 24, 3, groups=6, padding=1),
    picked("narrow groups in several bands", (40, 33, 8), 1, 6, 3, groups=2, stride=(1, 2), padding=1),
    picked("narrow groups of unlike widths, dilated", (11, 10, 20), 3, 30, (2, 3), groups=10, dilation=2, padding=2),
    picked("without bias", (6, 6, 3), 2, 4, 3, bias=False),
    picked("a row of pixels", (1, 17, 2), 1, 3, (1, 5), padding="same"),
    picked("a column of pixels", (17, 1, 2), 1, 3, (5, 1), stride=(2, 1)),
    picked("as many filters as no register holds", (4, 4, 3), 1, 67, 3, padding=1),
    picked("deep: long sums", (3, 3, 130), 1, 33, 3, padding=1),
    picked("more images than groups of a sum", (3, 3, 2), 37, 3, 3, padding=1),
    picked("wide rows, 3 channels", (6, 40, 3), 1, 17, 3, padding="same"),
    picked("many channels, 1x1, every other pixel", (7, 6, 70), 3, 65, 1, stride=2),
    picked(
        "many channels, stride, dilation, padding on one side",
        (9, 8, 64),
        2,
        97,
        (3, 2),
        stride=(1, 2),
        dilation=(2, 1),
        padding=((2, 0), (0, 1)),
    ),
    picked("many channels, two groups, small images", (3, 3, 128), 24, 128, 2, groups=2),
    picked("many channels, Winograd chosen automatically", (8, 7, 64), 2, 66, 3, padding=1),
    picked("few channels, Winograd in blocks of tiles", (13, 15, 9), 10, 20, 3, padding=1, algorithm="winograd4"),
    picked(
        "few channels, windows of 5x5, blocks of tiles",
        (9, 8, 20),
        11,
        17,
        5,
        padding=((2, 1), (0, 3)),
        algorithm="winograd2",
    ),
]
WINOGRAD = [
    picked(f"{algorithm} {window}x{window} {reason}", shape, batch, filters, window, algorithm=algorithm, **options)
    for algorithm, window in (("winograd2", 3), ("winograd4", 3), ("winograd2", 5))
    for reason, shape, batch, filters, options in (
        ("whole tiles", (8, 8, 16), 2, 16, {"padding": 1}),
        ("tiles cut off at the end", (7, 9, 5), 3, 35, {"padding": "same"}),
        ("one tile, one channel, one output", (window, window, 1), 1, 1, {}),
        ("one row of outputs", (window, 11, 2), 2, 3, {"bias": False}),
        ("padding larger than the window", (4, 5, 3), 1, 9, {"padding": ((6, 3), (0, 7))}),
        ("deep: long sums", (5, 4, 130), 1, 70, {"padding": 1}),
    )
]


def draw_convolution(draw):
    (h, r, stride_h), (w, s, stride_w) = draw_axis(draw), draw_axis(draw)
    dilations = [draw.choice((1, 1, 2, 3)) if (extent - 1) * 3 < size else 1 for size, extent in ((h, r), (w, s))]
    groups = draw.choice((1, 1, 2, 3))
    channels = draw.choice(CHANNELS[:8])
    filters = channels if draw.random() < 0.3 else draw.choice(CHANNELS)
    if channels == filters and draw.random() < 0.5:
        groups, channels = channels, 1  # depthwise
    else:
        filters *= groups
    options = {
        "stride": (stride_h, stride_w),
        "padding": draw_padding(draw, 3),
        "dilation": tuple(dilations),
        "groups": groups,
        "bias": draw.random() < 0.8,
    }
    shape, name = (h, w, channels * groups), f"conv2d {filters} of {describe((r, s), options)}"
    return Case(name, lambda: nl.Conv2D(filters, (r, s), **options), (shape,), draw.choice(BATCHES))


def draw_winograd(algorithm):
    def draw_one(draw):
        window = draw.choice((3, 5)) if algorithm == "winograd2" else 3
        shape = draw.randint(window, 13), draw.randint(window, 13), draw.choice(CHANNELS[:8])
        filters, options = draw.choice(CHANNELS), {"padding": draw_padding(draw, window), "bias": draw.random() < 0.8}
        name = f"conv2d {algorithm} {filters} of {describe((window, window), options)}"
        layer = lambda: nl.Conv2D(filters, window, algorithm=algorithm, **options)  # noqa: E731
        return Case(name, layer, (shape,), draw.choice(BATCHES))

    return draw_one


OP = Op(
    nl.Conv2D,
    pytorch=conv2d,
    draw={
        "conv2d": draw_convolution,
        **{f"conv2d {algorithm}": draw_winograd(algorithm) for algorithm in ("winograd2", "winograd4")},
    },
    picked=[*PICKED, *WINOGRAD],
)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("filters", [1, 3, 16, 40])
@pytest.mark.parametrize("fused", [False, True])
def test_nan_and_infinity_reach_the_windows_that_hold_them_and_no_others(value, filters, fused):
    x = np.zeros((2, 6, 7, 3), np.float32)
    x[1, 2, 3, 1] = value
    layers = [nc.Conv2D(filters, 3, padding="same", initializer="ones"), *[nc.ReLU()] * fused]
    y = nc.Sequential(layers, (6, 7, 3)).forward(x)
    expected = np.zeros((2, 6, 7, filters), np.float32)
    expected[1, 1:4, 2:5] = value
    np.testing.assert_array_equal(y, expected)
