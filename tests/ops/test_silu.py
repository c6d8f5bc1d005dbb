from math import inf

from op import Limits, Op, of_any_shape
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.SiLU,
    pytorch=lambda layer, g, x: F.silu(x),
    draw=of_any_shape(nl.SiLU),
    limits=[Limits(nl.SiLU, 0, inf, 0, 1)],
)
