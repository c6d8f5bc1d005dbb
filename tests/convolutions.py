"""The table of calls of convolutions and dense layers."""

import numpy as np
from twins import SIDES, AlgorithmScratch, Call, Image, flat, image, sized

from numbacnn.geometry import conv_geometry
from numbacnn.layers.algorithms import ConvEpilogue

N = 2

# input, filters, window, stride, padding, dilation, groups
CASES = {
    "a pixel": ((1, 1, 1), 1, (1, 1)),
    "one channel": ((6, 5, 1), 3, (3, 2), (1, 1), "same"),
    "fours": ((5, 6, 4), 8, (3, 3), (1, 1), 1),
    "many filters": ((4, 4, 3), 21, (2, 2)),
    "strides": ((7, 6, 2), 5, (3, 3), (2, 3), "same"),
    "a stride over the window": ((7, 8, 3), 4, (1, 2), (3, 3)),
    "padding of one side": ((5, 4, 4), 4, (3, 3), (1, 1), ((2, 0), (0, 1))),
    "dilation": ((8, 7, 3), 2, (3, 2), (1, 2), 1, (2, 3)),
    "groups": ((5, 5, 8), 4, (3, 3), (2, 2), "same", (1, 1), 2),
    "depthwise": ((5, 6, 3), 3, (3, 3), (2, 1), "same", (1, 1), 3),
    "depthwise with a multiplier": ((4, 5, 2), 6, (2, 3), (1, 1), 1, (2, 1), 2),
}


def _images(draw, halo, *shape):
    """Images in a halo of zeros, as kernels expect them that read it."""
    top, bottom, left, right = halo
    return Image(np.pad(flat(draw, N, *shape), ((0, 0), (top, bottom), (left, right), (0, 0))), halo)


def _arrays(draw, g):
    """x, w, b and dy of a convolution."""
    x, dy = _images(draw, g.input_halo, g.h, g.w, g.c), _images(draw, g.gradient_halo, g.p, g.q, g.k)
    return x, flat(draw, g.r, g.s, g.c // g.groups, g.k), flat(draw, g.k), dy


def _convolutions(draw):
    for reason, case in CASES.items():
        g = conv_geometry(*case)
        x, w, b, dy = _arrays(draw, g)
        y, dx = image(draw, N, g.p, g.q, g.k, halo=SIDES), image(draw, N, g.h, g.w, g.c, halo=SIDES)
        residual, mask = image(draw, N, g.p, g.q, g.k), image(draw, N, g.h, g.w, g.c)

        def call(reason, direction, *arrays, g=g, **epilogue):
            arguments = [*arrays, AlgorithmScratch(direction, g, N), g, ConvEpilogue(**epilogue)]
            return Call(reason, [(f"conv2d_{direction}", arguments)])

        yield call(f"{reason}, ReLU", "forward", y, x, w, b, activation="relu")
        yield call(f"{reason}, no bias", "forward", y, x, w, None)
        yield call(f"{reason}, residual", "forward", y, x, w, b, activation="relu", residual=residual)
        yield call(reason, "input_gradient", dx, dy, w)
        yield call(f"{reason}, mask", "input_gradient", dx, dy, w, mask=mask)
        yield call(reason, "weight_gradient", flat(draw, *w.shape), x, dy)


def _dense(draw):
    for n, c, k in ((1, 1, 1), (5, 7, 3), (3, 8, 12)):
        reason = f"{n}x{c} to {k}"
        x, w, b, dy = image(draw, n, 1, 1, c), flat(draw, c, k), flat(draw, k), image(draw, n, 1, 1, k)
        packed, gradient = sized("dense_packed_weights_shape", c, k), sized("dense_packed_gradient_shape", n, k)
        y, dx = image(draw, n, 1, 1, k), image(draw, n, 1, 1, c)
        yield Call(reason, [("dense_forward", [y, x, w, b, packed, True])])
        yield Call(reason, [("dense_weight_gradient", [flat(draw, c, k), x, dy])])
        yield Call(reason, [("dense_input_gradient", [dx, dy, w, gradient, image(draw, n, 1, 1, c)])])


def _biases(draw):
    for shape in ((1, 1, 1, 1), (3, 9, 7, 3), (2, 2, 3, 70)):
        reason, dy = "x".join(map(str, shape)), image(draw, *shape, halo=SIDES)
        yield Call(reason, [("bias_gradient", [flat(draw, shape[3]), dy, sized("partial_bias_shape", *shape)])])
        yield Call(reason, [("add_bias_in_place", [dy, flat(draw, shape[3]), True])], exact=True)
        yield Call(f"{reason}, no bias", [("add_bias_in_place", [dy, None, True])], exact=True)


FAMILIES = (_convolutions, _dense, _biases)
CALLS: list[Call] = [call for family in FAMILIES for call in family(np.random.default_rng(1))]
