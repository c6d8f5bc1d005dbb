from op import BATCHES, Case, Op, case, draw_image
from pytorch import F, channels_first, channels_last

from numbacnn import layers as nl


def pytorch(layer, g, x):
    return channels_last(F.local_response_norm(channels_first(x), layer.size, layer.alpha, layer.beta, layer.k))


def draw_local_response_norm(draw):
    options = {"size": draw.randint(1, 7), "alpha": draw.choice((1e-4, 0.5, 3.0)),
               "beta": draw.choice((0.75, 0.75, 0.5, 1.0)), "k": draw.choice((1.0, 2.0))}  # fmt: skip
    name = "local_response_norm " + " ".join(f"{option} {value}" for option, value in options.items())
    return Case(name, lambda: nl.LocalResponseNorm(**options), (draw_image(draw),), draw.choice(BATCHES))


OP = Op(
    nl.LocalResponseNorm,
    pytorch=pytorch,
    draw=draw_local_response_norm,
    picked=[
        case(nl.LocalResponseNorm, "AlexNet's", (4, 3, 20), 2, 5, 1e-4, 0.75, 2.0),
        case(nl.LocalResponseNorm, "strong", (4, 3, 11), 2, 5, 2.0),
        case(nl.LocalResponseNorm, "even window", (2, 3, 9), 2, 4, 1.0, 0.6),
        case(nl.LocalResponseNorm, "window beyond the channels", (3, 2, 3), 1, 9, 1.0),
        case(nl.LocalResponseNorm, "one channel", (3, 4, 1), 2, 5, 1.0, 0.5),
    ],
)
