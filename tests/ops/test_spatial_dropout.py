from op import Op, case, draw_image, with_a_rate
from pytorch import same_mask

from numbacnn import layers as nl

OP = Op(
    nl.SpatialDropout,
    pytorch=same_mask,
    draw=with_a_rate(nl.SpatialDropout, draw_image),
    picked=[
        case(nl.SpatialDropout, "channels that fill no block", (3, 4, 7), 5, 0.3),
        case(nl.SpatialDropout, "one channel", (2, 2, 1), 17, 0.5),
    ],
)
