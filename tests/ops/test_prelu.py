from math import inf

from op import Limits, Op, case, of_any_shape
from pytorch import F, channels_first, channels_last

from numbacnn import layers as nl


def pytorch(layer, g, x, weight):
    return channels_last(F.prelu(channels_first(x), weight)) if x.ndim == 4 else F.prelu(x, weight)


OP = Op(
    nl.PReLU,
    pytorch=pytorch,
    draw=of_any_shape(nl.PReLU),
    picked=[case(nl.PReLU, "one feature", (1,), 1), case(nl.PReLU, "long sums", (40, 30, 33), 2)],
    limits=[Limits(nl.PReLU, -inf, inf, 0.25, 1)],
)
