"""The table of calls of convolutions and dense layers."""

import numpy as np
from twins import SIDES, Call, Image, flat, image, scratch, sized

from numbacnn.geometry import conv_geometry, pool_geometry

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
        mask = image(draw, N, g.h, g.w, g.c)
        packed, partial = sized("packed_weights_shape", g), sized("partial_weights_shape", g, N)
        backward = sized("packed_gradient_shape", g), sized("columns_shape", g, N)
        yield Call(f"{reason}, ReLU", [("conv2d_forward", [y, x, w, b, packed, g, True])])
        yield Call(f"{reason}, no bias", [("conv2d_forward", [y, x, w, None, packed, g])])
        yield Call(reason, [("conv2d_input_gradient", [dx, dy, w, *backward, g])])
        yield Call(f"{reason}, mask", [("conv2d_input_gradient", [dx, dy, w, *backward, g, mask])])
        yield Call(reason, [("conv2d_weight_gradient", [flat(draw, *w.shape), x, dy, partial, g])])


def _pooled(draw):
    g, pool = conv_geometry((6, 8, 3), 4, (3, 3), (1, 1), "same"), pool_geometry((6, 8, 4), (2, 2), (2, 2))
    x, w, b, _ = _arrays(draw, g)
    y, argmax, dy = (flat(draw, N, pool.p, pool.q, g.k) for _ in range(3))
    arguments = [y, argmax, x, w, b, sized("packed_weights_shape", g), g, pool]
    forward = ("conv2d_pool_forward", [*arguments, False])
    yield Call("ReLU", [("conv2d_pool_forward", [*arguments, True])])
    yield Call("", [forward])
    partial = sized("maxima_partial_shape", g, N), sized("maxima_places_shape", g, pool, N)
    yield Call("", [forward, ("maxima_weight_gradient", [flat(draw, *w.shape), x, dy, argmax, *partial, g, pool])])
    backward, mask = (sized("maxima_packed_shape", g), sized("maxima_image_shape", g, N)), image(draw, N, 6, 8, 3)
    dx = image(draw, N, 6, 8, 3, halo=SIDES)
    yield Call("", [forward, ("maxima_input_gradient", [dx, dy, argmax, w, *backward, g, pool, mask])])


def _winograd(draw):
    g = conv_geometry((5, 6, 3), 4, (3, 3), (1, 1), "same")
    x, w, b, dy = _arrays(draw, g)
    y, dx = image(draw, N, g.p, g.q, g.k, halo=SIDES), image(draw, N, g.h, g.w, g.c, halo=SIDES)

    def part(name, place, *arguments):
        """As ``sized``, of a function that gives several shapes, for tiles of 2×2 outputs."""
        tiles = lambda sizes: sizes.winograd_filtering(g, "winograd2")  # noqa: E731
        return scratch()._replace(shape=lambda sizes: getattr(sizes, name)(*arguments, tiles(sizes))[place])

    forward = [part("winograd_shapes", place, N, g.p, g.q, g.c, g.k) for place in range(3)]
    backward = [part("winograd_shapes", place, N, g.h, g.w, g.k, g.c) for place in range(3)]
    yield Call("", [("winograd_forward", [y, x, w, b, *forward, g, True])])
    gradient = [part("winograd_gradient_shapes", place, g, N) for place in range(3)]
    yield Call("", [("winograd_weight_gradient", [flat(draw, *w.shape), x, dy, *gradient, g])])
    yield Call("", [("winograd_input_gradient", [dx, dy, w, *backward, g, image(draw, N, g.h, g.w, g.c)])])


def _dense(draw):
    for n, c, k in ((1, 1, 1), (5, 7, 3), (3, 8, 12)):
        reason = f"{n}x{c} to {k}"
        x, w, b, dy = image(draw, n, 1, 1, c), flat(draw, c, k), flat(draw, k), image(draw, n, 1, 1, k)
        packed, gradient = sized("dense_packed_weights_shape", c, k), sized("dense_packed_gradient_shape", c, k)
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


FAMILIES = (_convolutions, _pooled, _winograd, _dense, _biases)
CALLS: list[Call] = [call for family in FAMILIES for call in family(np.random.default_rng(1))]
