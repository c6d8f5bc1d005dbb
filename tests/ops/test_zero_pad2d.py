import numpy as np
from op import BATCHES, Case, Op, case, draw_image
from pytorch import F

from numbacnn import functional
from numbacnn import layers as nl


def draw_zero_padding(draw):
    sides = tuple(tuple(draw.randint(0, 3) for _ in range(2)) for _ in range(2))
    words = " ".join(str(side) for axis in sides for side in axis)
    return Case(f"zero_pad2d {words}", lambda: nl.ZeroPad2D(sides), (draw_image(draw),), draw.choice(BATCHES))


OP = Op(
    nl.ZeroPad2D,
    pytorch=lambda layer, g, x: F.pad(x, (0, 0, g.left, g.right, g.top, g.bottom)),
    draw=draw_zero_padding,
    picked=[
        case(nl.ZeroPad2D, "none", (3, 4, 5), 2, 0),
        case(nl.ZeroPad2D, "one side", (3, 4, 5), 2, ((2, 0), (0, 1))),
    ],
)


def test_nan_stays_inside_the_zeros():
    x = np.full((1, 2, 2, 3), np.nan, np.float32)
    assert np.nansum(np.isnan(functional.zero_pad2d(x, ((1, 0), (0, 2))))) == x.size
    assert not np.isnan(functional.zero_pad2d(x, 1)[0, 0]).any()
