from math import inf

from op import BATCHES, Case, Limits, Op, case, draw_shape
from pytorch import F

from numbacnn import layers as nl


def draw_gelu(draw):
    form = draw.choice(("none", "tanh"))
    return Case(f"gelu {form}", lambda: nl.GELU(form), (draw_shape(draw),), draw.choice(BATCHES))


OP = Op(
    nl.GELU,
    pytorch=lambda layer, g, x: F.gelu(x, approximate=layer.approximate),
    draw=draw_gelu,
    picked=[case(nl.GELU, "by tanh", (4, 5, 7), 2, "tanh")],
    limits=[Limits(nl.GELU, 0, inf, 0, 1), Limits(lambda: nl.GELU("tanh"), 0, inf, 0, 1)],
)
