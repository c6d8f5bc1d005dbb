from op import Op, case, draw_shape, with_a_rate
from pytorch import same_mask

from numbacnn import layers as nl

OP = Op(
    nl.Dropout,
    pytorch=same_mask,
    draw=with_a_rate(nl.Dropout, draw_shape),
    picked=[
        case(nl.Dropout, "nothing", (4, 5, 3), 2, 0),
        case(nl.Dropout, "nearly everything", (6, 7, 5), 3, 0.9),
        case(nl.Dropout, "one element", (1,), 40, 0.1),
    ],
)
