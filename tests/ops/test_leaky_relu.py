from math import inf

from op import Limits, Op, case, with_a_number
from pytorch import F

from numbacnn import layers as nl

OP = Op(
    nl.LeakyReLU,
    pytorch=lambda layer, g, x: F.leaky_relu(x, layer.slope),
    draw=with_a_number(nl.LeakyReLU),
    picked=[case(nl.LeakyReLU, "slope 0", (4, 5, 7), 2, 0)],
    limits=[Limits(nl.LeakyReLU, -inf, inf, 0.01, 1), Limits(lambda: nl.LeakyReLU(0.2), -inf, inf, 0.2, 1)],
)
