from math import prod

from op import BATCHES, Case, Op, case, draw_shape
from pytorch import F

from numbacnn import layers as nl


def draw_group_norm(draw):
    """Draw a case with at least eight values per group, as for batch_norm."""
    shape = draw_shape(draw)
    divisors = [d for d in range(1, shape[-1] + 1) if shape[-1] % d == 0 and prod(shape) >= 8 * d]
    if not divisors:
        return draw_group_norm(draw)
    groups = draw.choice(divisors)
    return Case(f"group_norm {groups} groups", lambda: nl.GroupNorm(groups), (shape,), draw.choice(BATCHES))


OP = Op(
    nl.GroupNorm,
    pytorch=lambda layer, g, x, weight, bias: F.group_norm(
        x.movedim(-1, 1), layer.groups, weight, bias, layer.eps
    ).movedim(1, -1),
    draw=draw_group_norm,
    picked=[
        case(nl.GroupNorm, "all of an image", (5, 6, 7), 2, 1),
        case(nl.GroupNorm, "each channel", (6, 5, 5), 2, 5),
        case(nl.GroupNorm, "pairs of channels", (3, 3, 66), 2, 33),
        case(nl.GroupNorm, "features", (36,), 3, 4),
        case(nl.GroupNorm, "more rows than groups of a sum", (70, 3, 4), 2, 2),
        case(nl.GroupNorm, "rows longer than a period", (2, 70, 6), 1, 3),
    ],
)
