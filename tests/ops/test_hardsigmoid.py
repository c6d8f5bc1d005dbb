from op import Limits, Op, of_any_shape
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.Hardsigmoid,
    pytorch=lambda layer, g, x: F.hardsigmoid(x),
    draw=of_any_shape(nl.Hardsigmoid),
    limits=[Limits(nl.Hardsigmoid, 0, 1, 0, 0)],
)
