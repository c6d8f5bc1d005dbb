"""The table of calls: each launcher with small arguments, to compare the CPU with a GPU, real or simulated.

Shapes are tiny, for the simulator: odd sizes, halos, channels that fill vectors of four and channels that do not, and
more elements than a block has threads where several blocks share the work.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from engine import assert_close
from numpy.typing import NDArray

from numbacnn.geometry import (
    NO_HALO,
    AdaptiveGeometry,
    ConvGeometry,
    Halo,
    PoolGeometry,
    UpSampleGeometry,
)
from numbacnn.kernels.decision import DECISION, STEP, EpochCounters, StepForm
from numbacnn.kernels.formulas import FORMULAS
from numbacnn.kernels.step_scalars import SUM_GROUPS, AdamOptions
from numbacnn.layers.algorithms import ConvEpilogue, choose
from numbacnn.layers.bindings import Norm
from numbacnn.layers.resizing import Resize2D

SIDES = Halo(1, 2, 0, 1)
RANDOM = np.array([2**40 + 5, 7], np.uint64)


class Image(NamedTuple):
    """Images inside a halo, or some channels of wider ones; the memory around them must not change."""

    whole: np.ndarray
    halo: Halo = NO_HALO
    channels: slice = slice(None)

    def view(self, whole: Any) -> Any:
        """Return the view of the images in an array like ``whole`` on any device."""
        top, bottom, left, right = self.halo
        return whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right, self.channels]


class ScratchSpec(NamedTuple):
    """Scratch, with its shape as a function of the device's ``sizes``; its content is not compared."""

    shape: Callable[[Any], tuple[int, ...]]
    dtype: type = np.float32


class Sums(NamedTuple):
    """Partial sums in rows, or in one row if ``rows`` is 0: their totals are compared."""

    rows: int

    def values(self) -> np.ndarray:
        """Return NaN, which the call must overwrite."""
        return np.full((self.rows, SUM_GROUPS) if self.rows else SUM_GROUPS, np.nan)


class AlgorithmScratch(NamedTuple):
    """The scratch of the algorithm that a device chooses for one direction of a convolution of ``batch`` images."""

    direction: str
    g: ConvGeometry
    batch: int


class Call(NamedTuple):
    """One launcher, or several in a row that share arguments; the case is named after the last."""

    reason: str
    steps: list[tuple[str, list[Any]]]
    exact: bool = False  # the same bits on both devices

    def __str__(self) -> str:
        return f"{self.steps[-1][0]} {self.reason}"


def image(draw, *shape, halo=NO_HALO):
    """Make random images of this shape, in a halo if one is given."""
    n, h, w, c = shape
    whole = (n, h + halo.top + halo.bottom, w + halo.left + halo.right, c)
    return Image(draw.standard_normal(whole).astype(np.float32), halo)


def flat(draw, *shape):
    return draw.standard_normal(shape).astype(np.float32)


def positive(draw, *shape):
    return draw.uniform(0.5, 2, shape).astype(np.float32)


def scratch(*shape, dtype=np.float32):
    return ScratchSpec(lambda sizes: shape, dtype)


def sized(name, *arguments):
    """Make scratch with the shape that the function ``name`` of ``sizes`` returns."""
    return ScratchSpec(lambda sizes: getattr(sizes, name)(*arguments))


ALIGNED, ODD = (2, 3, 6, 8), (3, 4, 5, 3)  # rows of whole vectors; rows of fifteen numbers
FORMS = [
    ("vectors", ALIGNED, NO_HALO),
    ("halo, vectors", ALIGNED, Halo(1, 1, 1, 1)),
    ("odd rows in a halo", ODD, SIDES),
]


# -- element by element -----------------------------------------------------------------------------------------------

EXACT = {"copy", "add", "add_in_place", "add_relu_in_place", "multiply", "scale_in_place", "clip_in_place", "swap"}
SLOTS = {"square"}  # arrays that are never negative
POSITIVE = ("elementwise_sqrt", "elementwise_log", "elementwise_reciprocal", "power")  # launchers of positive numbers


def _constants(formula):
    """Yield values for the constants of a formula, in each of its forms."""
    for flag in (False, True) if bool in formula.numbers.values() else (False,):
        for applied in (1.0, 0.0) if formula.condition else (1.0,):
            values = {bool: flag, NDArray[np.float64]: np.array([applied, 0.1, 1.2, 0.98, 0.02])}
            kinds = formula.numbers.values()
            form = f"{', flag' * flag}{', no update' * (not applied)}"
            yield form, [values[kind] if kind in values else _number(kind) for kind in kinds]


def _number(kind):
    return kind(*[0.9, 0.99, 1e-3, 0.05][: len(kind._fields)]) if issubclass(kind, tuple) else 0.3


def _formulas(draw):
    for name, formula in FORMULAS.items():
        for reason, shape, halo in FORMS:
            for form, constants in _constants(formula):
                if formula.flat:
                    size = {NO_HALO: np.prod(shape), SIDES: 1001}.get(halo, 1000)  # the odd one holds no vectors
                    arrays = [(positive if part in SLOTS else flat)(draw, size) for part in formula.arrays]
                else:
                    halos = [halo, NO_HALO] * len(formula.arrays)
                    arrays = [image(draw, *shape, halo=halo) for _, halo in zip(formula.arrays, halos, strict=False)]
                    if name.startswith(POSITIVE):
                        arrays = [array._replace(whole=abs(array.whole) + np.float32(0.1)) for array in arrays]
                yield Call(f"{reason}{form}", [(name, [*arrays, *constants])], name in EXACT)


def _elementwise(draw):
    for reason, shape, halo in FORMS:
        y, x, z = image(draw, *shape, halo=halo), image(draw, *shape), image(draw, *shape, halo=halo)
        n, _, _, c = shape
        yield Call(reason, [("clear_halo", [z.whole, Halo(1, 0, 2, 1)])], exact=True)
        yield Call(reason, [("scale_channels", [y, x, image(draw, n, 1, 1, c)])], exact=True)
        yield Call(reason, [("channel_dots", [image(draw, n, 1, 1, c), x, z])])
        yield Call(reason, [("prelu_forward", [y, x, flat(draw, c)])])
        yield Call(reason, [("prelu_gradient_in_place", [y, image(draw, *shape), x, flat(draw, c)])])
    y, x = image(draw, 2, 6, 5, 3, halo=SIDES), image(draw, 2, 3, 30, 1, halo=SIDES)
    yield Call("rows of other lengths", [("copy_reshaped", [y, x])], exact=True)
    yield Call("features of an image", [("copy_reshaped", [image(draw, 2, 1, 1, 48), image(draw, 2, 3, 2, 8)])], True)
    wide = image(draw, 2, 3, 4, 11)
    for some in (slice(2, 7), slice(4, 8)):
        count = some.stop - some.start
        yield Call(f"into {some.start}…{some.stop}", [
            ("copy_channels", [wide._replace(channels=some), image(draw, 2, 3, 4, count)])
        ], exact=True)  # fmt: skip
        yield Call(f"from {some.start}…{some.stop}", [
            ("copy_channels", [image(draw, 2, 3, 4, count), wide._replace(channels=some)])
        ], exact=True)  # fmt: skip
    yield Call("vectors", [("copy_channels", [Image(flat(draw, 2, 3, 4, 16), NO_HALO, slice(8, 16)),
                                              image(draw, 2, 3, 4, 8)])], exact=True)  # fmt: skip
    for reason, shape, halo in FORMS[1:]:
        n, h, w, c = shape
        y, factors = image(draw, *shape, halo=halo), [flat(draw, w * c), flat(draw, w * c)]
        yield Call(reason, [("normalize_bytes", [y, draw.integers(0, 256, (n * h, w * c), np.uint8), *factors])])
        yield Call(reason, [("normalize_floats", [y, flat(draw, n * h, w * c), *factors])])


def _dropouts(draw):
    stream = np.uint64(0x9E3779B9)
    for reason, shape, halo in FORMS:
        n, _, _, c = shape
        y, x, factors = image(draw, *shape, halo=halo), image(draw, *shape), scratch(n + 1, 1, 1, c)
        yield Call(reason, [("dropout_forward", [y, x, 0.3, RANDOM, stream])], exact=True)
        yield Call(reason, [("dropout_gradient_in_place", [y, 0.3, RANDOM, stream])], exact=True)
        yield Call(reason, [("spatial_dropout_forward", [y, x, factors, 0.4, RANDOM, stream])], exact=True)
        yield Call(reason, [("spatial_dropout_gradient_in_place", [y, factors, 0.4, RANDOM, stream])], exact=True)


# -- windows ----------------------------------------------------------------------------------------------------------

POOLS = {
    "halves, vectors": PoolGeometry(4, 6, 8, 2, 3, 2, 2, 2, 2),
    "a rest, odd channels": PoolGeometry(5, 7, 3, 2, 3, 2, 2, 2, 2),
    "overlapping, padding": PoolGeometry(5, 6, 4, 3, 3, 3, 3, 2, 2, 1, 1, 1, 1),
    "padding left out": PoolGeometry(5, 4, 3, 5, 4, 3, 3, 1, 1, 1, 1, 1, 1, False),
    "stride over the window": PoolGeometry(8, 7, 2, 2, 2, 2, 2, 4, 5),
}


def _poolings(draw):
    for reason, g in POOLS.items():
        y, x = image(draw, 2, g.p, g.q, g.c, halo=SIDES), image(draw, 2, g.h, g.w, g.c, halo=SIDES)
        argmax, dx = image(draw, 3, g.p, g.q, g.c).whole[:2], image(draw, 2, g.h, g.w, g.c, halo=SIDES)
        forward = ("max_pool_forward", [y, argmax, x, g])
        yield Call(reason, [forward], exact=True)
        yield Call(reason, [forward, ("max_pool_gradient", [dx, y, argmax, g])])
        yield Call(reason, [("average_pool_forward", [y, x, g])])
        yield Call(reason, [("average_pool_gradient", [dx, y, g])])
    g = POOLS["halves, vectors"]
    none = np.empty((0, 1, 1, 1), np.float32)
    x = image(draw, 1, g.h, g.w, g.c)
    x.whole[0, 1, 2, 3] = np.nan
    yield Call("NaN, no argmax", [("max_pool_forward", [image(draw, 1, g.p, g.q, g.c), none, x, g])], exact=True)
    for h, w, c, p, q in ((5, 7, 3, 3, 2), (4, 4, 8, 4, 2), (2, 3, 4, 3, 5)):
        g, reason = AdaptiveGeometry(h, w, c, p, q), f"{h}x{w} to {p}x{q}"
        y, x = image(draw, 2, p, q, c, halo=SIDES), image(draw, 2, h, w, c)
        argmax, dx = image(draw, 2, p, q, c).whole, image(draw, 2, h, w, c, halo=SIDES)
        forward = ("adaptive_max_pool_forward", [y, argmax, x, g])
        yield Call(reason, [forward], exact=True)
        yield Call(reason, [forward, ("adaptive_max_pool_gradient", [dx, y, argmax, g])])
        yield Call(reason, [("adaptive_average_pool_forward", [y, x, g])])
        yield Call(reason, [("adaptive_average_pool_gradient", [dx, y, g])])


def _up_samplings(draw):
    for h, w, c, factor_h, factor_w in ((2, 3, 4, 2, 2), (3, 2, 3, 1, 3)):
        g = UpSampleGeometry(h, w, c, h * factor_h, w * factor_w, factor_h, factor_w)
        y, x = image(draw, 2, g.p, g.q, c, halo=SIDES), image(draw, 2, h, w, c)
        dx = image(draw, 2, h, w, c, halo=SIDES)
        for mode in ("nearest", "bilinear"):
            yield Call(f"{factor_h}x{factor_w}", [(f"up_sample_{mode}_forward", [y, x, g])])
            yield Call(f"{factor_h}x{factor_w}", [(f"up_sample_{mode}_gradient", [dx, y, g])])


def _resizings(draw):
    for c, size, layer in (
        (8, (5, 6), Resize2D((7, 9))),
        (3, (9, 8), Resize2D((4, 13), "bilinear", "align_corners")),
        (17, (6, 5), Resize2D((9, 3), "nearest")),
        (8, (4, 5), Resize2D((6, 3), "nearest")),
        (5, (20, 7), Resize2D((3, 3), "nearest", "asymmetric", None, "floor")),
    ):
        g = layer.geometry([(*size, c)])
        y, x = image(draw, 2, g.p, g.q, c, halo=SIDES), image(draw, 2, *size, c)
        dx = image(draw, 2, *size, c, halo=SIDES)
        mode = "linear" if g.linear else "nearest"
        yield Call(f"{size} to {layer.size}", [(f"resize_{mode}_forward", [y, x, g])], exact=not g.linear)
        yield Call(f"{size} to {layer.size}, {mode}", [("resize_gradient", [dx, y, g])])


# -- normalizations ---------------------------------------------------------------------------------------------------


def _normalizations(draw):
    for reason, (n, h, w, c), halo, ceiling in (
        ("vectors", (3, 5, 4, 8), Halo(1, 1, 1, 1), np.nan),
        ("three channels, ReLU", (2, 7, 9, 3), SIDES, np.inf),
        ("features", (37, 1, 1, 5), NO_HALO, np.nan),
        ("more channels than a block", (2, 2, 2, 33), NO_HALO, 0.5),
        ("groups of pixels", (5, 8, 6, 4), SIDES, 1.0),
    ):
        y, x = image(draw, n, h, w, c, halo=halo), image(draw, n, h, w, c)
        weight, bias, mean, variance = positive(draw, c), flat(draw, c), flat(draw, c), positive(draw, c)
        norm = sized("norm_coefficients_shape", 1, 3, c), sized("norm_partial_shape", 1, (n + 2) * h, 3, w, c)
        statistics = sized("norm_coefficients_shape", 1, 5, c)
        back = sized("norm_coefficients_shape", 1, 3, c), sized("norm_partial_shape", 1, (n + 2) * h, 2, w, c)
        own = scratch(1, 1, 2, c)
        forward = ("batch_norm_forward",
                   [y, statistics, mean, variance, x, weight, bias, *norm, 0.1, 1e-5, ceiling])  # fmt: skip
        inference = ("batch_norm_inference",
                     [y, statistics, x, weight, bias, mean, variance, norm[0], 1e-5, ceiling])  # fmt: skip
        dx, dy = image(draw, n, h, w, c, halo=halo), image(draw, n, h, w, c)
        gradients = [dx, flat(draw, c), flat(draw, c), dy, x, weight, statistics, *back, own]
        yield Call(reason, [forward])
        yield Call(reason, [inference])
        yield Call(reason, [forward, ("batch_norm_gradient", [*gradients, True, ceiling])])
        yield Call(f"{reason}, fixed", [inference, ("batch_norm_gradient", [*gradients, False, ceiling])])
        yield Call(f"{reason}, no dx", [forward, ("batch_norm_gradient", [None, *gradients[1:], True, ceiling])])
        sums, dx, dweight, dbias = np.zeros(2 * c + 1), *gradients[:3]
        by_sums = [
            ("batch_norm_sums", [sums, x, norm[1]]),
            (
                "batch_norm_from_sums",
                [y, statistics, mean, variance, sums, x, weight, bias, norm[0], 0.1, 1e-5, ceiling],
            ),
            ("batch_norm_gradient_sums", [sums, dweight, dbias, dy, x, statistics, back[1], ceiling]),
            ("batch_norm_gradient_from_sums", [dx, sums, dy, x, weight, statistics, back[0], ceiling]),
        ]
        for count in range(1, 5):
            yield Call(f"{reason}, of a batch in shards", by_sums[:count])
    for reason, (n, h, w, c), groups, ceiling in (
        ("vectors", (3, 5, 4, 8), 2, 1.0),
        ("groups of pixels", (2, 12, 13, 6), 3, np.inf),
        ("features", (3, 1, 1, 12), 4, np.nan),
    ):
        y, x = image(draw, n, h, w, c, halo=SIDES), image(draw, n, h, w, c)
        weight, bias = positive(draw, c), flat(draw, c)
        statistics = sized("norm_coefficients_shape", n + 1, 5, c)
        norm = sized("norm_coefficients_shape", n + 1, 3, c), sized("norm_partial_shape", n + 1, h, 3, w, c)
        back = sized("norm_coefficients_shape", n + 1, 3, c), sized("norm_partial_shape", n + 1, h, 2, w, c)
        forward = ("group_norm_forward", [y, statistics, x, weight, bias, *norm, groups, 1e-5, ceiling])
        dx, dy = image(draw, n, h, w, c, halo=SIDES), image(draw, n, h, w, c)
        own = scratch(n + 1, 1, 2, c)
        gradients = [flat(draw, c), flat(draw, c), dy, x, weight, statistics, *back, own, groups, ceiling]
        yield Call(reason, [forward])
        yield Call(reason, [forward, ("group_norm_gradient", [dx, *gradients])])
        yield Call(f"{reason}, no dx", [forward, ("group_norm_gradient", [None, *gradients])])
    for bias in (flat(draw, 6), None):
        norm = Norm(positive(draw, 6), flat(draw, 6), flat(draw, 6), positive(draw, 6), eps=1e-3)
        folded = flat(draw, 3, 2, 4, 6), flat(draw, 6)
        yield Call("bias" if bias is not None else "no bias",
                   [("fold_batch_norm", [*folded, flat(draw, 3, 2, 4, 6), bias, norm])])  # fmt: skip
    for size, beta, c in ((5, 0.75, 8), (4, 0.6, 3), (9, 0.75, 5)):
        shape, constants = (2, 3, 2, c), [size, 0.5, beta, 1.5]
        y, x = image(draw, *shape), image(draw, *shape, halo=SIDES)
        forward = ("local_response_norm_forward", [y, x, *constants])
        dx, dy, scales = image(draw, *shape, halo=SIDES), image(draw, *shape), scratch(3, *shape[1:])
        yield Call(f"size {size}", [forward])
        yield Call(f"size {size}", [forward, ("local_response_norm_gradient", [dx, dy, x, y, scales, *constants])])


# -- softmax and losses -----------------------------------------------------------------------------------------------


def _losses(draw):
    for n, h, w, c, halo in ((5, 1, 1, 10, NO_HALO), (2, 3, 4, 3, SIDES), (2, 1, 2, 300, NO_HALO)):
        reason, shape = f"{n}x{h}x{w}x{c}", (n, h, w, c)
        dx, x, y = image(draw, *shape, halo=halo), image(draw, *shape, halo=halo), image(draw, *shape)
        losses, none = flat(draw, n * h * w), flat(draw, 0)
        labels = draw.integers(0, c, n * h * w)
        labels[1] = 255
        target = Image(positive(draw, *shape))
        bits = Image(draw.integers(0, 2, shape).astype(np.float32))
        plain, smoothed = positive(draw, 1, c), positive(draw, 2, c)
        yield Call(reason, [("softmax_forward", [y, x])])
        yield Call(reason, [("softmax_forward", [y, x]), ("softmax_gradient", [dx, x, y])])
        yield Call(reason, [("log_softmax_forward", [y, x])])
        yield Call(reason, [("log_softmax_forward", [y, x]), ("log_softmax_gradient", [dx, x, y])])
        for weights in (plain, smoothed):
            form = f"{reason}, {len(weights)} weights"
            yield Call(form, [("cross_entropy_labels", [losses, dx, x, labels, weights, 255, 0.25])])
            yield Call(form, [("cross_entropy_probabilities", [losses, dx, x, target, weights, 0.25])])
        for gamma in (0.0, 2.0):
            yield Call(f"{reason}, gamma {gamma}",
                       [("focal_labels", [losses, dx, x, labels, plain[0], 255, gamma, 0.5])])  # fmt: skip
        for name, expected, options in (
            ("mean_squared_error", target, none),
            ("mean_absolute_error", target, none),
            ("huber", target, np.array([0.7], np.float32)),
            ("binary_cross_entropy", bits, positive(draw, c)),
            ("sigmoid_focal", bits, np.array([2, 0.25], np.float32)),
        ):
            yield Call(reason, [(name, [losses, dx, x, expected, options, 0.5])])
        for softmax in (True, False):
            sums = scratch(n, 8, 3, c, dtype=np.float64)
            yield Call(f"{reason}, {'softmax' if softmax else 'sigmoid'}",
                       [("dice", [losses, dx, x, bits, sums, 1.0, softmax, 0.5])])  # fmt: skip
    for classes in (3, 1):
        x, dx = image(draw, 2, 3, 2, 5 + classes, halo=SIDES), image(draw, 2, 3, 2, 5 + classes)
        target = image(draw, 2, 3, 2, 6)
        target.whole[..., 0] = draw.integers(0, 2, (2, 3, 2))
        target.whole[..., 5] = draw.integers(0, classes, (2, 3, 2))
        arguments = [flat(draw, 12), dx, x, target, positive(draw, 1, classes), 2.0, 0.3, 0.25]
        yield Call(f"{classes} classes", [("detection", arguments)])


# -- updates ----------------------------------------------------------------------------------------------------------


def _updates(draw):
    for size in (1000, 37):
        w, dw, mean = (flat(draw, size) for _ in range(3))
        square, partial, scalars = positive(draw, size), np.zeros((2, SUM_GROUPS)), np.array([1, 0.01, 1.2])
        adam = AdamOptions(0.9, 0.999, 1e-6, 0.05)
        yield Call(f"{size}", [("lamb_trust", [partial, w, mean, square, scalars, adam])])
        for smallest in (0.1, 1e3):
            norm = scratch(2, SUM_GROUPS, dtype=np.float64)
            yield Call(f"{size}, at least {smallest}", [("normalize_in_place", [w, norm, smallest])])
        yield Call(f"{size}", [("sum_squares", [np.zeros(SUM_GROUPS), w])])
        sums = sized("penalty_sums_shape", size)
        yield Call(f"{size}", [("add_penalty_in_place", [sums, dw, w, 0.2, 0.1])])
        yield Call(f"{size}", [("triad", [w, dw, mean, 0.3])])
    for steps in (7, 19):  # fewer and more than one iteration on the GPU; every step halves the start's contribution
        yield Call(f"of a few, {steps} steps", [("multiply_adds", [np.full(5, 1e6, np.float32), steps])])


# -- training steps ---------------------------------------------------------------------------------------------------


def _batches(draw):
    indices, counters = np.array([4, 0, 6]), np.zeros(9, np.int64)
    counters[STEP] = 2
    yield Call("the third batch", [("take_indices", [np.zeros(3, np.int64), draw.permutation(9), counters, 3])], True)
    integers, levels = draw.integers(0, 9, (7, 5)), draw.integers(0, 256, (7, 5), np.uint8)
    for rows, kind in ((integers, "int64"), (levels, "bytes")):
        yield Call(kind, [("gather_rows", [np.zeros((3, 5), np.int64), rows, indices])], True)
    yield Call("float32", [("gather_rows", [flat(draw, 3, 5), flat(draw, 7, 5), indices])], True)
    for images, kind in ((draw.integers(0, 256, (28, 15), np.uint8), "bytes"), (flat(draw, 28, 15), "float32")):
        y = image(draw, 3, 4, 5, 3, halo=SIDES)
        yield Call(kind, [("gather_images", [y, images, indices, flat(draw, 15), flat(draw, 15)])])


def _labels(draw):
    for n, h, w, c in ((70, 1, 1, 3), (2, 3, 5, 4)):
        reason, count, x = f"{n}x{h}x{w}x{c}", n * h * w, image(draw, n, h, w, c, halo=SIDES)
        labels, shares = draw.integers(0, c, count), Image(positive(draw, n, h, w, c))
        x.whole[0] = 0.5  # ties
        yield Call(reason, [("one_hot", [flat(draw, count, c), labels])], True)
        yield Call(reason, [("count_correct", [Sums(2), x, labels, -1])], True)
        yield Call(f"{reason}, ignored", [("count_correct", [Sums(2), x, labels, 1])], True)
        if h == 1:
            yield Call(reason, [("count_correct_top1", [Sums(2), x, shares])], True)
        weights, ignored = draw.uniform(0, 2, c), draw.choice([-1, 1])
        yield Call(reason, [("sum_label_weights", [Sums(0), labels, weights, ignored])])
        for scale in (0.0, 2.0):
            dx, sums = image(draw, n, h, w, c), np.full((2, SUM_GROUPS), scale)
            yield Call(f"{reason}, {scale}", [("divide_by_label_weights", [np.ones(SUM_GROUPS), dx, sums, 3.0])])
    masks, floats = draw.integers(0, 300, (2, 3, 5)), np.float32(draw.integers(0, 300, (2, 3, 5)))
    yield Call("to floats", [("convert", [flat(draw, 2, 3, 5), masks])], True)
    yield Call("to integers", [("convert", [np.zeros((2, 3, 5), np.int64), floats])], True)
    labels, others = positive(draw, 3, 1, 1, 4), positive(draw, 3, 1, 1, 4)
    yield Call("of probabilities", [("mix_labels", [labels, others, np.array([0.3, 0, 1], np.float32)])])
    boxes = np.array([[[0, 1, 5, 6, 2], [3, 2, 7, 5, 1]], [[2, 2, 4, 4, 0], [0, 0, 0, 0, -1]]], np.float32)
    turned = np.array([[0.9, -0.3, 1.2, 0.3, 0.9, -0.7], [1.1, 0.2, 3.1, 0, 1, 4.3]], np.float32)
    for field in (flat(draw, 4, 42), np.empty((0, 0), np.float32)):
        for visible in (0.0, 0.25):
            reason = f"{visible} visible, {len(field)} rows of a field"
            yield Call(reason, [("move_boxes", [np.zeros_like(boxes), boxes, turned, field, 6, 7, visible])], True)
    yield Call("one channel", [("one_hot", [flat(draw, 5, 1), np.arange(5)])], True)
    yield Call("300", [("sum_losses", [Sums(0), flat(draw, 300), 0.3])])
    boxes = np.array([[[0, 1, 5, 6, 0], [1, 2, 4, 5, 1]], [[4, 4, 8, 8, 2], [0, 0, 0, 0, -1]]], np.float32)
    target, x = image(draw, 2, 2, 3, 6), image(draw, 2, 2, 3, 8)
    encoded = ("encode_boxes", [target, boxes, 8, 9])
    yield Call("two centers in a cell", [encoded])
    yield Call("two objects", [encoded, ("count_correct_objects", [Sums(2), x, target])])


def _decisions(draw):
    partial = draw.uniform(0, 1, (5, SUM_GROUPS))
    rates, numbers = draw.uniform(0, 1, (4, 2)), draw.uniform(0, 1, (4, 4, 3))
    for outcome, bad, skips in (("good", False, 0), ("skipped", True, 1), ("the last", True, 0)):
        for updates in (0, 1):
            sums = partial.copy()
            sums[3, 7] = np.nan if bad else 1
            counters = np.array(EpochCounters(step=3, correct=2, labels=5, images=7, accumulated=6))
            step = [counters, np.zeros(2), RANDOM, np.zeros(DECISION), np.zeros((2, 4))]
            decided = ("decide_update", [*step, sums, rates, numbers, StepForm(5, 2, updates, skips)])
            reason = f"{outcome}, {'update' if updates else 'no update'}"
            yield Call(reason, [decided])
            x, y, decision = flat(draw, 70), flat(draw, 70), step[3]
            gradients = "average_gradients" if updates else "accumulate_gradients"
            for name in ("restore_unless_good", gradients, "average_weights"):
                yield Call(reason, [decided, (name, [x, y, decision])])
    for limit in (0.5, 100.0):
        partial = scratch(2, SUM_GROUPS, dtype=np.float64)
        yield Call(f"to {limit}", [("clip_norm_in_place", [flat(draw, 300), partial, limit])])


# -- augmentation -----------------------------------------------------------------------------------------------------


def _augmentations(draw):
    indices = np.array([5, 2**33 + 1, 77])
    purpose = np.uint64(4)
    yield Call("two blocks", [("draw_uniforms", [flat(draw, 3, 8), indices, RANDOM])], exact=True)
    for c in (1, 3):
        n, h, w = 3, 5, 7
        field, boxes = flat(draw, 2 * n, h * w), np.array([[0, 1, 3, 6], [2, 2, 2, 5], [1, 0, 5, 7]])
        y, x, noise = image(draw, n, h, w, c), image(draw, n, h, w, c), np.array([0.5, 0, 2], np.float32)
        matrices = (draw.standard_normal((n, 6)) * [1, 1, w / 2, 1, 1, h / 2]).astype(np.float32)
        reason = f"{c} channels"
        if c == 1:
            weights = np.array([0.1, 0.2, 0.4, 0.2, 0.1], np.float32)
            yield Call(
                reason, [("draw_field", [field, scratch(2 * n, h * w), indices, RANDOM, purpose, noise, weights, w])]
            )
        for kernel in ("warp_bilinear", "warp_nearest"):
            yield Call(reason, [(kernel, [y, x, matrices, field, 0.5])])
            yield Call(f"{reason}, no field", [(kernel, [y, x, matrices, np.empty((0, 0), np.float32), 0.5])])
        yield Call(reason, [("fill_boxes_in_place", [y, boxes, 0.25])], exact=True)
        yield Call(reason, [("paste_boxes_in_place", [y, x, boxes])], exact=True)
        yield Call(reason, [("mix_in_place", [y, x, np.array([0.3, 0, 1], np.float32)])])
        yield Call(reason, [("add_noise_in_place", [x, indices, RANDOM, purpose, noise])])
        factors = np.array([[1, 1, 1], [0.5, 1.5, 0.7], [1.2, 0.8, 1]], np.float32)
        yield Call(reason, [("jitter_colors_in_place", [x, factors])])
        bytes_, levels = draw.integers(0, 256, (n * h, w * c), np.uint8), image(draw, n, h, w, c)
        levels.whole[...] = 300 * levels.whole + 100
        yield Call(reason, [("round_to_bytes", [bytes_, levels])], exact=True)


FAMILIES = (
    _formulas,
    _elementwise,
    _dropouts,
    _poolings,
    _up_samplings,
    _resizings,
    _normalizations,
    _losses,
    _updates,
    _batches,
    _labels,
    _decisions,
    _augmentations,
)
CALLS: list[Call] = [call for family in FAMILIES for call in family(np.random.default_rng(0))]


# -- running them ------------------------------------------------------------------------------------------------------

TOLERANCE = 1e-5  # relative norm; the promise is 1e-4


class Arrays:
    """The arrays of a call on one device; steps that share an argument share the array."""

    def __init__(self, sizes, upload, read=np.asarray):
        self.sizes, self.upload, self.read, self.uploaded = sizes, upload, read, {}

    def argument(self, given):
        """Convert an argument of the table to the one that a launcher takes."""
        if isinstance(given, Image):
            return given.view(self._array(given.whole, given.whole))
        if isinstance(given, Sums):
            return self._array(given, given.values())
        if isinstance(given, ScratchSpec):
            return self._array(given, np.full(given.shape(self.sizes), np.nan, given.dtype))
        if isinstance(given, AlgorithmScratch):
            algorithm = choose(self.sizes.CONV_ALGORITHMS, given.direction, given.g)
            shapes = {name: spec.shape for name, spec in algorithm.scratch(*given).items()}
            return {name: self.argument(scratch(*shape)) for name, shape in shapes.items()}
        if isinstance(given, ConvEpilogue):
            return ConvEpilogue(*map(self.argument, given))
        if isinstance(given, np.ndarray):
            return self._array(given, given)
        if hasattr(given, "running_var"):
            return type(given)(**{name: self.argument(value) for name, value in given._asdict().items()})
        return given

    def _array(self, key, values):
        if id(key) not in self.uploaded:
            self.uploaded[id(key)] = key, self.upload(values)
        return self.uploaded[id(key)][1]

    def launcher(self, kernels, name, arguments):
        """Return the launcher called ``name``, or for a convolution the method of the device's algorithm."""
        geometries = [argument for argument in arguments if isinstance(argument, ConvGeometry)]
        if not geometries:
            return getattr(kernels, name)
        direction = name.removeprefix("conv2d_")
        return getattr(choose(self.sizes.CONV_ALGORITHMS, direction, *geometries), direction)

    def run(self, kernels, call):
        """Run a call; return all arrays except scratch, and the totals of partial sums."""
        for name, arguments in call.steps:
            self.launcher(kernels, name, arguments)(*map(self.argument, arguments))
        found = [(key, self.read(array)) for key, array in self.uploaded.values() if not isinstance(key, ScratchSpec)]
        return [array.sum(axis=-1) if isinstance(key, Sums) else array for key, array in found]


def assert_same(found, expected, call):
    """Check for equal bits if the call is exact; else for NaN and infinity at the same positions, and in norm."""
    if call.exact:
        np.testing.assert_array_equal(found, expected, str(call))
        return
    known = np.isfinite(expected)
    np.testing.assert_array_equal(found[~known], expected[~known], str(call))
    assert found.dtype == expected.dtype
    if known.any():
        assert_close(found[known].astype(np.float32), expected[known].astype(np.float64), str(call), TOLERANCE)
