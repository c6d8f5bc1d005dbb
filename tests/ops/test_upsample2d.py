from op import BATCHES, Case, Op, case, draw_image
from pytorch import F, channels_first, channels_last

from numbacnn import layers as nl


def pytorch(layer, g, x):
    corners = {"align_corners": False} if layer.mode == "bilinear" else {}
    return channels_last(F.interpolate(channels_first(x), scale_factor=layer.factor, mode=layer.mode, **corners))


def draw_upsampling(draw):
    factor, mode = (draw.randint(1, 5), draw.randint(1, 5)), draw.choice(("nearest", "bilinear"))
    name = f"upsample2d {mode} {factor[0]}x{factor[1]}"
    return Case(name, lambda: nl.Upsample2D(factor, mode), (draw_image(draw),), draw.choice(BATCHES))


OP = Op(
    nl.Upsample2D,
    pytorch=pytorch,
    draw=draw_upsampling,
    picked=[
        case(nl.Upsample2D, "one pixel, bilinear", (1, 1, 5), 2, 3, "bilinear"),
        case(nl.Upsample2D, "large factor, bilinear", (3, 4, 2), 1, (8, 5), "bilinear"),
    ],
)
