"""The one table of cases: a row buys every test of a layer, here, against PyTorch and over threads.

Rows picked by hand come first, each with its reason; drawn ones follow, the same on every machine.
"""

import random
import zlib
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from numbacnn import layers as nl

DRAWN = 50  # geometries of each windowed op, and shapes of each other one


class Case(NamedTuple):
    """A layer, the shapes of its inputs for one image, and a batch."""

    name: str
    layer: Callable[[], nl.Layer]
    shapes: tuple[tuple[int, ...], ...]
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.name}, input {' and '.join('x'.join(map(str, shape)) for shape in self.shapes)}, batch {self.batch}"
        )

    @property
    def generator(self) -> np.random.Generator:
        """Numbers of this case's own, always the same."""
        return np.random.default_rng(zlib.crc32(str(self).encode()))

    def inputs(self, batch: int | None = None) -> list[np.ndarray]:
        """Random float32 inputs: no two are equal in practice, and none is at a kink."""
        generator = self.generator
        return [normal(generator, batch or self.batch, *shape) for shape in self.shapes]


def normal(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def _conv(reason, shape, batch, *arguments, **options):
    return Case(f"conv2d {reason}", lambda: nl.Conv2D(*arguments, **options), (shape,), batch)


def _transposed(reason, shape, batch, *arguments, **options):
    return Case(f"conv2d_transpose {reason}", lambda: nl.Conv2DTranspose(*arguments, **options), (shape,), batch)


def _depthwise(reason, shape, batch, *arguments, **options):
    return Case(f"depthwise_conv2d {reason}", lambda: nl.DepthwiseConv2D(*arguments, **options), (shape,), batch)


def _pool(layer, reason, shape, batch, **options):
    return Case(f"{layer.op} {reason}", lambda: layer(**options), (shape,), batch)


# -- picked by hand ---------------------------------------------------------------------------------------------------

CONVOLUTIONS = [
    _conv("LeNet's first", (28, 28, 1), 2, 6, 5, padding=2),
    _conv("LeNet's second", (14, 14, 6), 3, 16, 5),
    _conv("one pixel, one channel, one image", (1, 1, 1), 1, 1, 1),
    _conv("1x1, a matrix product", (5, 6, 7), 2, 9, 1),
    _conv("window as large as the image", (4, 5, 3), 2, 6, (4, 5)),
    _conv("same padding, even window: the surplus goes to the end", (6, 7, 2), 2, 3, 4, padding="same"),
    _conv("same padding, stride 2, odd size", (7, 9, 3), 1, 8, 3, stride=2, padding="same"),
    _conv("stride larger than the window: pixels that no window meets", (11, 13, 2), 2, 5, 2, stride=(3, 4)),
    _conv("stride leaves a rest at the end", (10, 8, 3), 1, 4, 3, stride=3),
    _conv("dilation", (9, 10, 2), 2, 4, 3, dilation=(2, 3), padding="same"),
    _conv("dilation and stride with a common factor", (13, 12, 2), 1, 3, 3, dilation=2, stride=4, padding=2),
    _conv("dilation and stride without one", (13, 12, 2), 1, 3, 3, dilation=3, stride=2, padding=3),
    _conv("padding on one side only", (5, 6, 2), 2, 3, 3, padding=((2, 0), (0, 1))),
    _conv("padding at the far side only", (5, 6, 2), 2, 3, 3, padding=((0, 2), (3, 0))),
    _conv("padding larger than the window: outputs that see zeros alone", (3, 4, 2), 1, 3, 2, padding=3),
    _conv("depthwise", (8, 7, 5), 2, 5, 3, groups=5, padding="same"),
    _conv("depthwise with two filters a channel", (6, 7, 3), 2, 6, 3, groups=3, stride=2),
    _conv("two groups", (7, 6, 10), 2, 14, 3, groups=2, padding=1),
    _conv("narrow groups, ResNeXt's", (9, 16, 24), 2, 24, 3, groups=6, padding=1),
    _conv("narrow groups in several bands", (40, 33, 8), 1, 6, 3, groups=2, stride=(1, 2), padding=1),
    _conv("narrow groups of unlike widths, dilated", (11, 10, 20), 3, 30, (2, 3), groups=10, dilation=2, padding=2),
    _conv("without bias", (6, 6, 3), 2, 4, 3, bias=False),
    _conv("a row of pixels", (1, 17, 2), 1, 3, (1, 5), padding="same"),
    _conv("a column of pixels", (17, 1, 2), 1, 3, (5, 1), stride=(2, 1)),
    _conv("as many filters as no register holds", (4, 4, 3), 1, 67, 3, padding=1),
    _conv("deep: long sums", (3, 3, 130), 1, 33, 3, padding=1),
    _conv("more images than groups of a sum", (3, 3, 2), 37, 3, 3, padding=1),
    _conv("wide rows, 3 channels", (6, 40, 3), 1, 17, 3, padding="same"),
    _conv("many channels, 1x1, every other pixel", (7, 6, 70), 3, 65, 1, stride=2),
    _conv(
        "many channels, stride, dilation, padding on one side",
        (9, 8, 64),
        2,
        97,
        (3, 2),
        stride=(1, 2),
        dilation=(2, 1),
        padding=((2, 0), (0, 1)),
    ),
    _conv("many channels, two groups, small images", (3, 3, 128), 24, 128, 2, groups=2),
    _conv("many channels, 3x3 by itself", (8, 7, 64), 2, 66, 3, padding=1),
]
WINOGRAD = [
    _conv(f"{algorithm} {window}x{window} {reason}", shape, batch, filters, window, algorithm=algorithm, **options)
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
TRANSPOSED = [
    _transposed("U-Net's: doubles the size", (4, 5, 6), 2, 3, 2, stride=2),
    _transposed("one pixel, one channel, one image", (1, 1, 1), 1, 1, 1),
    _transposed("overlapping windows", (5, 4, 3), 2, 7, 4, stride=2, padding=1),
    _transposed("output_padding", (4, 3, 5), 1, 2, 3, stride=(2, 3), padding=1, output_padding=(1, 2)),
    _transposed("output_padding up to the dilation", (4, 3, 2), 2, 3, 3, dilation=3, output_padding=2),
    _transposed("same padding, stride 2", (5, 7, 3), 2, 4, 3, stride=2, padding="same"),
    _transposed("same padding, stride larger than the window", (3, 4, 2), 2, 5, 2, stride=(3, 4), padding="same"),
    _transposed("padding on one side only", (4, 5, 2), 2, 3, 3, stride=2, padding=((2, 0), (0, 1))),
    _transposed("padding larger than the window: pixels that reach nothing", (9, 8, 2), 1, 3, 2, padding=3),
    _transposed("two groups", (4, 5, 6), 2, 10, 3, stride=2, groups=2),
    _transposed("narrow groups", (9, 8, 18), 2, 12, 3, stride=2, padding=1, groups=6),
    _transposed("depthwise", (5, 4, 9), 2, 9, 3, stride=2, padding=1, groups=9),
    _transposed("without bias", (4, 4, 3), 2, 2, 3, bias=False),
    _transposed("many channels to few", (3, 3, 67), 1, 2, 5, stride=2, padding=2),
    _transposed("few channels to many", (6, 7, 2), 3, 67, 3),
]
DEPTHWISE = [
    _depthwise("MobileNet's", (8, 7, 33), 2, 3, padding=1),
    _depthwise("MobileNet's, stride 2", (9, 8, 16), 2, 3, stride=2, padding=1),
    _depthwise("two vectors of channels and a rest, an odd number of rows", (5, 16, 71), 2, 3, padding=1),
    _depthwise("gradients of more rows than are summed at once", (37, 29, 64), 4, 3, padding=1),
    _depthwise("taps as far apart as pixels at stride 2", (11, 15, 33), 2, 3, stride=2, dilation=2, padding=2),
    _depthwise("rows of windows apart, their columns not", (9, 9, 33), 2, 3, stride=(2, 1), dilation=(1, 1), padding=1),
    _depthwise("one channel is an ordinary convolution", (5, 6, 1), 2, 3),
    _depthwise("three filters a channel", (6, 5, 4), 2, 3, 3, padding="same"),
    _depthwise("dilation and stride without a common factor", (13, 12, 5), 1, 3, stride=2, dilation=3, padding=3),
    _depthwise("stride larger than the window", (11, 13, 3), 2, 2, stride=(3, 4)),
    _depthwise("padding on one side only", (5, 6, 17), 1, 3, padding=((2, 0), (0, 1))),
    _depthwise("padding larger than the window", (3, 4, 2), 2, 2, padding=3),
    _depthwise("pixels that fill tiles and some that do not, taps together and alone", (4, 17, 21), 2, 5, padding=2),
    _depthwise("more taps than a tile has, in whole tiles", (9, 15, 35), 1, 7, padding=3),
    _depthwise("wide rows at stride 2", (3, 31, 19), 2, 4, stride=2, padding=1),
    _depthwise("more rows than groups of a sum", (9, 3, 2), 5, 3, padding=1, bias=False),
]
POOL_GEOMETRIES = [
    ("halves", (8, 6, 5), 2, {}),
    ("one channel, one image", (7, 5, 1), 1, {"pool_size": (3, 2)}),
    ("overlapping windows", (9, 8, 3), 2, {"pool_size": 3, "stride": 2}),
    ("overlapping windows at stride 1", (6, 7, 9), 1, {"pool_size": 3, "stride": 1, "padding": "same"}),
    ("a rest at the end is dropped", (7, 9, 2), 2, {"pool_size": 2}),
    ("ceil_mode keeps the rest", (7, 9, 2), 2, {"pool_size": 2, "ceil_mode": True}),
    ("ceil_mode drops a window that starts in the padding", (4, 5, 2), 1,
     {"pool_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("ceil_mode with padding", (6, 7, 4), 2, {"pool_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("padding on one side only", (5, 6, 3), 1, {"pool_size": 3, "stride": 2, "padding": ((1, 0), (0, 2))}),
    ("stride larger than the window", (11, 12, 3), 2, {"pool_size": 2, "stride": (3, 5)}),
    ("window as large as the image", (4, 3, 6), 2, {"pool_size": (4, 3)}),
    ("one pixel", (1, 1, 17), 1, {"pool_size": 1}),
    ("long rows of channels", (3, 3, 35), 2, {"pool_size": 2, "stride": 1}),
]  # fmt: skip
POOLINGS = [
    _pool(layer, reason, shape, batch, **options)
    for layer in (nl.MaxPool2D, nl.AvgPool2D)
    for reason, shape, batch, options in POOL_GEOMETRIES
] + [
    _pool(nl.AvgPool2D, "padding left out of the mean", (6, 5, 3), 2, pool_size=3, stride=2, padding=1,
          count_include_pad=False),
    _pool(nl.AvgPool2D, "ceil_mode, padding left out", (6, 7, 3), 2, pool_size=3, stride=2, padding=1,
          ceil_mode=True, count_include_pad=False),
    _pool(nl.GlobalMaxPool2D, "image that keeps its axes", (3, 4, 5), 2, keepdims=True),
    _pool(nl.GlobalAvgPool2D, "image that keeps its axes", (3, 4, 5), 2, keepdims=True),
]  # fmt: skip
OTHERS = [
    Case("dense LeNet's last", lambda: nl.Dense(10), ((84,),), 7),
    Case("dense one to one", lambda: nl.Dense(1), ((1,),), 1),
    Case("dense without bias", lambda: nl.Dense(5, bias=False), ((3,),), 2),
    Case("dense wide and deep: long sums, packed weights", lambda: nl.Dense(130), ((700,),), 3),
    Case("dense more images than a tile has rows", lambda: nl.Dense(9), ((11,),), 37),
    Case("softmax one class", nl.Softmax, ((1,),), 3),
    Case("prelu one feature", nl.PReLU, ((1,),), 1),
    Case("prelu long sums", nl.PReLU, ((40, 30, 33),), 2),
    Case("gelu by tanh", lambda: nl.GELU("tanh"), ((4, 5, 7),), 2),
    Case("leaky_relu slope 0", lambda: nl.LeakyReLU(0), ((4, 5, 7),), 2),
    Case("concat features", nl.Concat, ((3,), (9,)), 2),
    Case("concat GoogLeNet's first inception", nl.Concat, ((4, 4, 64), (4, 4, 128), (4, 4, 32), (4, 4, 32)), 1),
    Case("multiply gate before its image", nl.Multiply, ((1, 1, 5), (3, 4, 5)), 2),
    Case("multiply features as gate", nl.Multiply, ((3, 4, 9), (9,)), 2),
    Case("multiply one pixel by features", nl.Multiply, ((1, 1, 9), (9,)), 2),
    Case("multiply long sums", nl.Multiply, ((60, 50, 3), (1, 1, 3)), 1),
    Case("adaptive_avg_pool2d to its own size", lambda: nl.AdaptiveAvgPool2D(6), ((6, 6, 9),), 1),
    Case("adaptive_avg_pool2d VGG's at half the size", lambda: nl.AdaptiveAvgPool2D(7), ((3, 4, 9),), 1),
    Case("upsample2d one pixel, bilinear", lambda: nl.Upsample2D(3, "bilinear"), ((1, 1, 5),), 2),
    Case("upsample2d large factor, bilinear", lambda: nl.Upsample2D((8, 5), "bilinear"), ((3, 4, 2),), 1),
    Case("zero_pad2d none", lambda: nl.ZeroPad2D(0), ((3, 4, 5),), 2),
    Case("zero_pad2d one side", lambda: nl.ZeroPad2D(((2, 0), (0, 1))), ((3, 4, 5),), 2),
    Case("add three inputs", nl.Add, ((4, 5, 3),) * 3, 2),
    Case("add features", nl.Add, ((9,),) * 2, 1),
]
NORMALISATIONS = [
    Case("batch_norm one channel", nl.BatchNorm, ((5, 6, 1),), 3),
    Case("batch_norm one image", nl.BatchNorm, ((4, 5, 3),), 1),
    Case("batch_norm features", nl.BatchNorm, ((37,),), 9),
    Case("batch_norm more features than fill a pattern", nl.BatchNorm, ((130,),), 40),
    Case("batch_norm rows longer than a pattern", nl.BatchNorm, ((3, 70, 6),), 2),
    Case("batch_norm channels that fill no register", nl.BatchNorm, ((3, 4, 67),), 5),
    Case("batch_norm more rows than groups of a sum", nl.BatchNorm, ((9, 2, 5),), 37),
    Case("batch_norm a large eps", lambda: nl.BatchNorm(eps=0.5), ((4, 4, 2),), 2),
    Case("group_norm all of an image", lambda: nl.GroupNorm(1), ((5, 6, 7),), 2),
    Case("group_norm each channel", lambda: nl.GroupNorm(5), ((6, 5, 5),), 2),
    Case("group_norm pairs of channels", lambda: nl.GroupNorm(33), ((3, 3, 66),), 2),
    Case("group_norm features", lambda: nl.GroupNorm(4), ((36,),), 3),
    Case("group_norm more rows than groups of a sum", lambda: nl.GroupNorm(2), ((70, 3, 4),), 2),
    Case("group_norm rows longer than a pattern", lambda: nl.GroupNorm(3), ((2, 70, 6),), 1),
    Case("local_response_norm AlexNet's", lambda: nl.LocalResponseNorm(5, 1e-4, 0.75, 2.0), ((4, 3, 20),), 2),
    Case("local_response_norm strong", lambda: nl.LocalResponseNorm(5, 2.0), ((4, 3, 11),), 2),
    Case("local_response_norm even window", lambda: nl.LocalResponseNorm(4, 1.0, 0.6), ((2, 3, 9),), 2),
    Case("local_response_norm window beyond the channels", lambda: nl.LocalResponseNorm(9, 1.0), ((3, 2, 3),), 1),
    Case("local_response_norm one channel", lambda: nl.LocalResponseNorm(5, 1.0, 0.5), ((3, 4, 1),), 2),
]
DROPOUTS = [
    Case("dropout nothing", lambda: nl.Dropout(0), ((4, 5, 3),), 2),
    Case("dropout nearly everything", lambda: nl.Dropout(0.9), ((6, 7, 5),), 3),
    Case("dropout one element", lambda: nl.Dropout(0.1), ((1,),), 40),
    Case("spatial_dropout channels that fill no block", lambda: nl.SpatialDropout(0.3), ((3, 4, 7),), 5),
    Case("spatial_dropout one channel", lambda: nl.SpatialDropout(0.5), ((2, 2, 1),), 17),
]

# -- drawn ------------------------------------------------------------------------------------------------------------

CHANNELS = (1, 2, 3, 5, 6, 7, 9, 13, 17, 19, 31, 33)  # 1 and 3 as images have them; none fills registers of 4, 8 or 16
BATCHES = (1, 1, 2, 3, 5)


def _axis(draw, most=5):
    """(size, window, stride) of an axis; the window fits."""
    window = draw.randint(1, most)
    return draw.randint(window, 12), window, draw.choice((1, 1, 2, 3, most + 1))


def _draw_padding(draw, most):
    def side():
        return draw.randint(0, most)

    choices = ["valid", "same", side(), (side(), side()), ((side(), side()), (side(), side()))]
    return draw.choice(choices)


def _draw_convolution(draw):
    (h, r, stride_h), (w, s, stride_w) = _axis(draw), _axis(draw)
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
        "padding": _draw_padding(draw, 3),
        "dilation": tuple(dilations),
        "groups": groups,
        "bias": draw.random() < 0.8,
    }
    shape, name = (h, w, channels * groups), f"conv2d {filters} of {_told((r, s), options)}"
    return Case(name, lambda: nl.Conv2D(filters, (r, s), **options), (shape,), draw.choice(BATCHES))


def _draw_winograd(algorithm):
    def draw_one(draw):
        window = draw.choice((3, 5)) if algorithm == "winograd2" else 3
        shape = draw.randint(window, 13), draw.randint(window, 13), draw.choice(CHANNELS[:8])
        filters, options = draw.choice(CHANNELS), {"padding": _draw_padding(draw, window), "bias": draw.random() < 0.8}
        name = f"conv2d {algorithm} {filters} of {_told((window, window), options)}"
        layer = lambda: nl.Conv2D(filters, window, algorithm=algorithm, **options)  # noqa: E731
        return Case(name, layer, (shape,), draw.choice(BATCHES))

    return draw_one


def _draw_transposed(draw):
    (h, r, stride_h), (w, s, stride_w) = _axis(draw), _axis(draw)
    dilation = draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))
    groups, padding = draw.choice((1, 1, 2, 3)), _draw_padding(draw, 3)
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
    name = f"conv2d_transpose {filters} of {_told((r, s), options)}"
    return Case(name, lambda: nl.Conv2DTranspose(filters, (r, s), **options), (shape,), draw.choice(BATCHES))


def _draw_depthwise(draw):
    (h, r, stride_h), (w, s, stride_w) = _axis(draw), _axis(draw)
    options = {
        "depth_multiplier": draw.choice((1, 1, 1, 2, 3)),
        "stride": (stride_h, stride_w),
        "padding": _draw_padding(draw, 3),
        "dilation": (draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))),
        "bias": draw.random() < 0.8,
    }
    name, shape = f"depthwise_conv2d {_told((r, s), options)}", (h, w, draw.choice(CHANNELS))
    return Case(name, lambda: nl.DepthwiseConv2D((r, s), **options), (shape,), draw.choice(BATCHES))


def _draw_pooling(layer):
    def draw_one(draw):
        (h, r, stride_h), (w, s, stride_w) = _axis(draw), _axis(draw)
        options = {
            "stride": (stride_h, stride_w),
            "padding": _draw_padding(draw, min(r, s) - 1),
            "ceil_mode": draw.random() < 0.5,
        }
        if layer is nl.AvgPool2D:
            options["count_include_pad"] = draw.random() < 0.5
        return Case(f"{layer.op} {_told((r, s), options)}", lambda: layer((r, s), **options),
                    ((h, w, draw.choice(CHANNELS)),), draw.choice(BATCHES))  # fmt: skip

    return draw_one


def _told(window, options):
    """Window and options in a few words."""
    told = [f"{name} {value}" if value is not True else name for name, value in options.items() if value is not False]
    return f"{window[0]}x{window[1]} " + ", ".join(told).replace("(", "[").replace(")", "]").replace(", ", " ")


def _draw_shape(draw):
    if draw.random() < 0.3:
        return (draw.randint(1, 70),)
    return _draw_image(draw)


def _draw_dense(draw):
    units, bias = draw.randint(1, 90), draw.random() < 0.8
    return Case(f"dense {units} units{' and bias' * bias}", lambda: nl.Dense(units, bias), ((draw.randint(1, 90),),),
                draw.choice((*BATCHES, 11)))  # fmt: skip


def _draw_elementwise(layer):
    return lambda draw: Case(layer.op, layer, (_draw_shape(draw),), draw.choice(BATCHES))


def _draw_global(layer):
    return lambda draw: Case(layer.op, layer, (_draw_image(draw),), draw.choice(BATCHES))


def _draw_add(draw):
    return Case("add", nl.Add, (_draw_shape(draw),) * draw.randint(2, 4), draw.choice(BATCHES))


def _draw_image(draw):
    return draw.randint(1, 9), draw.randint(1, 9), draw.choice(CHANNELS)


def _draw_batch_norm(draw):
    """At least eight values a channel: the gradient of fewer is what rounding leaves of large terms that cancel."""
    shape, batch, eps = _draw_shape(draw), draw.choice(BATCHES), draw.choice((1e-5, 1e-3))
    pixels = shape[0] * shape[1] if len(shape) == 3 else 1
    return Case(f"batch_norm eps {eps}", lambda: nl.BatchNorm(eps=eps), (shape,), max(batch, -(-8 // pixels)))


def _draw_group_norm(draw):
    """At least eight values a group, as for batch_norm."""
    shape = _draw_shape(draw)
    divisors = [d for d in range(1, shape[-1] + 1) if shape[-1] % d == 0 and prod(shape) >= 8 * d]
    if not divisors:
        return _draw_group_norm(draw)
    groups = draw.choice(divisors)
    return Case(f"group_norm {groups} groups", lambda: nl.GroupNorm(groups), (shape,), draw.choice(BATCHES))


def _draw_local_response_norm(draw):
    options = {"size": draw.randint(1, 7), "alpha": draw.choice((1e-4, 0.5, 3.0)),
               "beta": draw.choice((0.75, 0.75, 0.5, 1.0)), "k": draw.choice((1.0, 2.0))}  # fmt: skip
    told = " ".join(f"{name} {value}" for name, value in options.items())
    return Case(f"local_response_norm {told}", lambda: nl.LocalResponseNorm(**options), (_draw_image(draw),),
                draw.choice(BATCHES))  # fmt: skip


def _draw_dropout(layer, draw_shape):
    def draw_one(draw):
        rate = draw.choice((0.1, 0.25, 0.5, 0.8))
        return Case(f"{layer.op} {rate}", lambda: layer(rate), (draw_shape(draw),), draw.choice(BATCHES))

    return draw_one


def _draw_constant(layer):
    """An activation with a number of its own."""

    def draw_one(draw):
        number = draw.choice((0.01, 0.2, 0.5, 1.0, 1.5))
        return Case(f"{layer.op} {number}", lambda: layer(number), (_draw_shape(draw),), draw.choice(BATCHES))

    return draw_one


def _draw_gelu(draw):
    form = draw.choice(("none", "tanh"))
    return Case(f"gelu {form}", lambda: nl.GELU(form), (_draw_shape(draw),), draw.choice(BATCHES))


def _draw_concat(draw):
    shape, parts = _draw_shape(draw), draw.randint(2, 4)
    shapes = tuple((*shape[:-1], draw.choice((*CHANNELS, 32, 64))) for _ in range(parts))
    return Case("concat", nl.Concat, shapes, draw.choice(BATCHES))


def _draw_multiply(draw):
    shape = _draw_shape(draw)
    other = draw.choice((shape, shape[-1:], (1, 1, shape[-1]))) if len(shape) == 3 else shape
    shapes = draw.choice(((shape, other), (other, shape)))
    return Case("multiply", nl.Multiply, shapes, draw.choice(BATCHES))


def _draw_adaptive(layer):
    def draw_one(draw):
        size = draw.randint(1, 9), draw.randint(1, 9)
        return Case(f"{layer.op} to {size[0]}x{size[1]}", lambda: layer(size), (_draw_image(draw),),
                    draw.choice(BATCHES))  # fmt: skip

    return draw_one


def _draw_up_sampling(draw):
    factor, mode = (draw.randint(1, 5), draw.randint(1, 5)), draw.choice(("nearest", "bilinear"))
    return Case(f"upsample2d {mode} {factor[0]}x{factor[1]}", lambda: nl.Upsample2D(factor, mode),
                (_draw_image(draw),), draw.choice(BATCHES))  # fmt: skip


def _draw_zero_padding(draw):
    sides = tuple(tuple(draw.randint(0, 3) for _ in range(2)) for _ in range(2))
    told = " ".join(str(side) for axis in sides for side in axis)
    return Case(f"zero_pad2d {told}", lambda: nl.ZeroPad2D(sides), (_draw_image(draw),), draw.choice(BATCHES))


def _draw_reshape(draw):
    a, b, c, d = (draw.randint(1, 6) for _ in range(4))
    given, wanted = draw.choice(
        (((a, b * c, d), (a * b, c, d)), ((a * b * c,), (b, a, c)), ((a, b, c * d), (-1,)), ((a * d, b, c), (b, -1, d)))
    )
    told = "x".join(map(str, wanted))
    return Case(f"reshape to {told}", lambda: nl.Reshape(wanted), (given,), draw.choice(BATCHES))


def _draw(name, draw_one):
    """``DRAWN`` different cases from a seed that the op's name gives."""
    draw, found = random.Random(zlib.crc32(name.encode())), {}
    while len(found) < DRAWN:
        case = draw_one(draw)
        try:
            case.layer().output_shape(case.shapes)
        except ValueError:  # a geometry that cannot be: "same" has padding of its own, and dilated windows reach far
            continue
        found[str(case)] = case
    return list(found.values())


ELEMENTWISE = (
    nl.ReLU, nl.ReLU6, nl.PReLU, nl.SiLU, nl.Hardswish, nl.Hardsigmoid, nl.Tanh, nl.Sigmoid, nl.Softmax, nl.Flatten,
)  # fmt: skip
PICKED: list[Case] = [*CONVOLUTIONS, *WINOGRAD, *TRANSPOSED, *DEPTHWISE, *POOLINGS, *OTHERS, *NORMALISATIONS, *DROPOUTS]
DRAWS = {
    "conv2d": _draw_convolution,
    **{f"conv2d {algorithm}": _draw_winograd(algorithm) for algorithm in ("winograd2", "winograd4")},
    "conv2d_transpose": _draw_transposed,
    "depthwise_conv2d": _draw_depthwise,
    "dense": _draw_dense,
    "add": _draw_add,
    "batch_norm": _draw_batch_norm,
    "group_norm": _draw_group_norm,
    "local_response_norm": _draw_local_response_norm,
    "dropout": _draw_dropout(nl.Dropout, _draw_shape),
    "spatial_dropout": _draw_dropout(nl.SpatialDropout, _draw_image),
    **{layer.op: _draw_pooling(layer) for layer in (nl.MaxPool2D, nl.AvgPool2D)},
    **{layer.op: _draw_global(layer) for layer in (nl.GlobalMaxPool2D, nl.GlobalAvgPool2D)},
    **{layer.op: _draw_elementwise(layer) for layer in ELEMENTWISE},
    **{layer.op: _draw_constant(layer) for layer in (nl.LeakyReLU, nl.ELU)},
    **{layer.op: _draw_adaptive(layer) for layer in (nl.AdaptiveAvgPool2D, nl.AdaptiveMaxPool2D)},
    "gelu": _draw_gelu,
    "concat": _draw_concat,
    "multiply": _draw_multiply,
    "upsample2d": _draw_up_sampling,
    "zero_pad2d": _draw_zero_padding,
    "reshape": _draw_reshape,
}
CASES: list[Case] = PICKED + [case for name, draw_one in DRAWS.items() for case in _draw(name, draw_one)]
