from op import Op, case, to_any_size
from pytorch import F, channels_first, channels_last

from numbacnn import layers as nl

OP = Op(
    nl.AdaptiveAvgPool2D,
    pytorch=lambda layer, g, x: channels_last(F.adaptive_avg_pool2d(channels_first(x), (g.p, g.q))),
    draw=to_any_size(nl.AdaptiveAvgPool2D),
    picked=[
        case(nl.AdaptiveAvgPool2D, "to its own size", (6, 6, 9), 1, 6),
        case(nl.AdaptiveAvgPool2D, "VGG's at half the size", (3, 4, 9), 1, 7),
    ],
)
