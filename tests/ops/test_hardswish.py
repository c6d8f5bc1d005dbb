from math import inf

from op import Limits, Op, of_any_shape
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.Hardswish,
    pytorch=lambda layer, g, x: F.hardswish(x),
    draw=of_any_shape(nl.Hardswish),
    limits=[Limits(nl.Hardswish, 0, inf, 0, 1)],
)
