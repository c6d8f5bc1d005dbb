from op import BATCHES, Case, Op, case, draw_shape
from pytorch import F

from numbacnn import layers as nl


def pytorch(layer, g, x, weight, bias):
    """Run PyTorch in training mode, on features or images; its channels are second."""
    y = F.batch_norm(x.movedim(-1, 1), None, None, weight, bias, training=True, eps=layer.eps)
    return y.movedim(1, -1)


def draw_batch_norm(draw):
    """Draw a case with at least eight values per channel: the gradient of fewer may cancel to rounding errors."""
    shape, batch, eps = draw_shape(draw), draw.choice(BATCHES), draw.choice((1e-5, 1e-3))
    pixels = shape[0] * shape[1] if len(shape) == 3 else 1
    return Case(f"batch_norm eps {eps}", lambda: nl.BatchNorm(eps=eps), (shape,), max(batch, -(-8 // pixels)))


OP = Op(
    nl.BatchNorm,
    pytorch=pytorch,
    draw=draw_batch_norm,
    picked=[
        case(nl.BatchNorm, "one channel", (5, 6, 1), 3),
        case(nl.BatchNorm, "one image", (4, 5, 3), 1),
        case(nl.BatchNorm, "features", (37,), 9),
        case(nl.BatchNorm, "more features than fill a period", (130,), 40),
        case(nl.BatchNorm, "rows longer than a period", (3, 70, 6), 2),
        case(nl.BatchNorm, "channels that fill no register", (3, 4, 67), 5),
        case(nl.BatchNorm, "more rows than groups of a sum", (9, 2, 5), 37),
        case(nl.BatchNorm, "a large eps", (4, 4, 2), 2, eps=0.5),
    ],
)
