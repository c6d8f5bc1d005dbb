from math import inf

from op import Limits, Op, with_a_number
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.ELU,
    pytorch=lambda layer, g, x: F.elu(x, layer.alpha),
    draw=with_a_number(nl.ELU),
    limits=[Limits(nl.ELU, -1, inf, 0, 1), Limits(lambda: nl.ELU(1.5), -1.5, inf, 0, 1)],
)
