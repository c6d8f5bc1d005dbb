import numpy as np
from op import BATCHES, Case, Op, case, draw_image

from numbacnn import functional
from numbacnn import layers as nl


def draw_range(draw, size):
    first = draw.randint(0, size - 1)
    return draw.choice([None, (first, draw.randint(first + 1, size))])


def draw_slice(draw):
    shape = draw_image(draw)
    ranges = [draw_range(draw, size) for size in shape]
    return Case(f"slice {ranges}", lambda: nl.Slice(*ranges), (shape,), draw.choice(BATCHES))


OP = Op(
    nl.Slice,
    pytorch=lambda layer, g, x: x[:, *(slice(*part) for part in g)],
    draw=draw_slice,
    picked=[
        case(nl.Slice, "everything", (3, 4, 5), 2),
        case(nl.Slice, "last channel", (3, 4, 5), 2, channels=(4, 5)),
        case(nl.Slice, "middle", (5, 6, 19), 3, (1, 4), (2, 3), (1, 18)),
    ],
)


def test_it_is_a_slice_of_numpy():
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(functional.slice(x, (1, 3), None, (2, 4)), x[:, 1:3, :, 2:4])
