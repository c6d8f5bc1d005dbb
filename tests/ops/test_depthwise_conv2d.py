from op import BATCHES, CHANNELS, Case, Op, case, describe, draw_axis, draw_padding
from pytorch import conv2d

from numbacnn import layers as nl


def picked(reason, shape, batch, *arguments, **options):
    return case(nl.DepthwiseConv2D, reason, shape, batch, *arguments, **options)


def draw_depthwise(draw):
    (h, r, stride_h), (w, s, stride_w) = draw_axis(draw), draw_axis(draw)
    options = {
        "depth_multiplier": draw.choice((1, 1, 1, 2, 3)),
        "stride": (stride_h, stride_w),
        "padding": draw_padding(draw, 3),
        "dilation": (draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))),
        "bias": draw.random() < 0.8,
    }
    name, shape = f"depthwise_conv2d {describe((r, s), options)}", (h, w, draw.choice(CHANNELS))
    return Case(name, lambda: nl.DepthwiseConv2D((r, s), **options), (shape,), draw.choice(BATCHES))


OP = Op(
    nl.DepthwiseConv2D,
    pytorch=conv2d,
    draw=draw_depthwise,
    picked=[
        picked("MobileNet's", (8, 7, 33), 2, 3, padding=1),
        picked("MobileNet's, stride 2", (9, 8, 16), 2, 3, stride=2, padding=1),
        picked("two vectors of channels and a rest, an odd number of rows", (5, 16, 71), 2, 3, padding=1),
        picked("gradients of more rows than are summed at once", (37, 29, 64), 4, 3, padding=1),
        picked("taps as far apart as pixels at stride 2", (11, 15, 33), 2, 3, stride=2, dilation=2, padding=2),
        picked("rows of windows apart, their columns not", (9, 9, 33), 2, 3, stride=(2, 1), dilation=(1, 1), padding=1),
        picked("one channel is an ordinary convolution", (5, 6, 1), 2, 3),
        picked("three filters a channel", (6, 5, 4), 2, 3, 3, padding="same"),
        picked("dilation and stride without a common factor", (13, 12, 5), 1, 3, stride=2, dilation=3, padding=3),
        picked("stride larger than the window", (11, 13, 3), 2, 2, stride=(3, 4)),
        picked("padding on one side only", (5, 6, 17), 1, 3, padding=((2, 0), (0, 1))),
        picked("padding larger than the window", (3, 4, 2), 2, 2, padding=3),
        picked("pixels that fill tiles and some that do not, taps together and alone", (4, 17, 21), 2, 5, padding=2),
        picked(
            "3×3 windows of two vectors of channels and a rest at stride 2", (11, 15, 35), 3, 3, stride=2, padding=1
        ),
        picked("5×5 windows of two vectors of channels and a rest", (7, 9, 35), 3, 5, padding=2),
        picked("5×5 taps as far apart as pixels at stride 2", (12, 14, 18), 2, 5, stride=2, dilation=2, padding=3),
        picked("more taps than a tile has, in whole tiles", (9, 15, 35), 1, 7, padding=3),
        picked("wide rows at stride 2", (3, 31, 19), 2, 4, stride=2, padding=1),
        picked("more rows than groups of a sum", (9, 3, 2), 5, 3, padding=1, bias=False),
    ],
)
