from op import BATCHES, CHANNELS, Case, Op, case, describe, draw_axis, draw_padding
from pytorch import F, channels_first, channels_last

from numbacnn import layers as nl


def picked(reason, shape, batch, *arguments, **options):
    return case(nl.Conv2DTranspose, reason, shape, batch, *arguments, **options)


def draw_transposed(draw):
    (h, r, stride_h), (w, s, stride_w) = draw_axis(draw), draw_axis(draw)
    dilation = draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))
    groups, padding = draw.choice((1, 1, 2, 3)), draw_padding(draw, 3)
    limits = (max(stride_h, dilation[0]), max(stride_w, dilation[1]))
    options = {
        "stride": (stride_h, stride_w),
        "padding": padding,
        "output_padding": (0, 0) if padding == "same" else tuple(draw.randrange(limit) for limit in limits),
        "dilation": dilation,
        "groups": groups,
        "bias": draw.random() < 0.8,
    }
    filters, shape = groups * draw.choice(CHANNELS), (h, w, groups * draw.choice(CHANNELS[:8]))
    name = f"conv2d_transpose {filters} of {describe((r, s), options)}"
    return Case(name, lambda: nl.Conv2DTranspose(filters, (r, s), **options), (shape,), draw.choice(BATCHES))


def pytorch(layer, g, x, weight, bias=None):
    """PyTorch cuts the same padding from both sides, so ours is cut from its whole output; the rest is the bias."""
    options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    whole = F.conv_transpose2d(channels_first(x), weight.permute(3, 2, 0, 1).contiguous(), **options)
    room = (0, max(0, g.w + g.pad_left - whole.shape[3]), 0, max(0, g.h + g.pad_top - whole.shape[2]))
    y = F.pad(whole, room)[:, :, g.pad_top : g.pad_top + g.h, g.pad_left : g.pad_left + g.w]
    return channels_last(y if bias is None else y + bias[:, None, None])


OP = Op(
    nl.Conv2DTranspose,
    pytorch=pytorch,
    draw=draw_transposed,
    picked=[
        picked("U-Net's: doubles the size", (4, 5, 6), 2, 3, 2, stride=2),
        picked("one pixel, one channel, one image", (1, 1, 1), 1, 1, 1),
        picked("overlapping windows", (5, 4, 3), 2, 7, 4, stride=2, padding=1),
        picked("output_padding", (4, 3, 5), 1, 2, 3, stride=(2, 3), padding=1, output_padding=(1, 2)),
        picked("output_padding up to the dilation", (4, 3, 2), 2, 3, 3, dilation=3, output_padding=2),
        picked("same padding, stride 2", (5, 7, 3), 2, 4, 3, stride=2, padding="same"),
        picked("same padding, stride larger than the window", (3, 4, 2), 2, 5, 2, stride=(3, 4), padding="same"),
        picked("padding on one side only", (4, 5, 2), 2, 3, 3, stride=2, padding=((2, 0), (0, 1))),
        picked("padding larger than the window: pixels that reach nothing", (9, 8, 2), 1, 3, 2, padding=3),
        picked("two groups", (4, 5, 6), 2, 10, 3, stride=2, groups=2),
        picked("narrow groups", (9, 8, 18), 2, 12, 3, stride=2, padding=1, groups=6),
        picked("depthwise", (5, 4, 9), 2, 9, 3, stride=2, padding=1, groups=9),
        picked("without bias", (4, 4, 3), 2, 2, 3, bias=False),
        picked("many channels to few", (3, 3, 67), 1, 2, 5, stride=2, padding=2),
        picked("few channels to many", (6, 7, 2), 3, 67, 3),
    ],
)
