from op import BATCHES, Case, Op, case, draw_shape

from numbacnn import layers as nl


def pytorch(layer, g, *xs):
    images = [x[:, None, None] if i == g and x.ndim == 2 else x for i, x in enumerate(xs)]
    return images[0] * images[1]


def draw_multiply(draw):
    shape = draw_shape(draw)
    other = draw.choice((shape, shape[-1:], (1, 1, shape[-1]))) if len(shape) == 3 else shape
    shapes = draw.choice(((shape, other), (other, shape)))
    return Case("multiply", nl.Multiply, shapes, draw.choice(BATCHES))


OP = Op(
    nl.Multiply,
    pytorch=pytorch,
    draw=draw_multiply,
    picked=[
        case(nl.Multiply, "gate before its image", ((1, 1, 5), (3, 4, 5)), 2),
        case(nl.Multiply, "features as gate", ((3, 4, 9), (9,)), 2),
        case(nl.Multiply, "one pixel by features", ((1, 1, 9), (9,)), 2),
        case(nl.Multiply, "long sums", ((60, 50, 3), (1, 1, 3)), 1),
    ],
)
