import numpy as np
from op import BATCHES, CHANNELS, Case, Op, case, draw_shape
from pytorch import torch

from numbacnn import functional
from numbacnn import layers as nl


def draw_concat(draw):
    shape, parts = draw_shape(draw), draw.randint(2, 4)
    shapes = tuple((*shape[:-1], draw.choice((*CHANNELS, 32, 64))) for _ in range(parts))
    return Case("concat", nl.Concat, shapes, draw.choice(BATCHES))


OP = Op(
    nl.Concat,
    pytorch=lambda layer, g, *xs: torch.cat(xs, -1),
    draw=draw_concat,
    picked=[
        case(nl.Concat, "features", ((3,), (9,)), 2),
        case(nl.Concat, "GoogLeNet's first inception", ((4, 4, 64), (4, 4, 128), (4, 4, 32), (4, 4, 32)), 1),
    ],
)


def test_nan_stays_in_its_own_channels():
    x = np.full((1, 2, 2, 3), np.nan, np.float32)
    zeros = np.zeros((1, 2, 2, 2), np.float32)
    np.testing.assert_array_equal(functional.concat([zeros, x, zeros]), np.concatenate([zeros, x, zeros], -1))
