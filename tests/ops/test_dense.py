import numpy as np
import pytest
from op import BATCHES, Case, Op, case
from pytorch import F

import numbacnn as nc
from numbacnn import layers as nl


def draw_dense(draw):
    units, bias = draw.randint(1, 90), draw.random() < 0.8
    name, shape = f"dense {units} units{' and bias' * bias}", (draw.randint(1, 90),)
    return Case(name, lambda: nl.Dense(units, bias), (shape,), draw.choice((*BATCHES, 11)))


OP = Op(
    nl.Dense,
    pytorch=lambda layer, g, x, weight, bias=None: F.linear(x, weight.T, bias),
    draw=draw_dense,
    picked=[
        case(nl.Dense, "LeNet's last", (84,), 7, 10),
        case(nl.Dense, "one to one", (1,), 1, 1),
        case(nl.Dense, "without bias", (3,), 2, 5, bias=False),
        case(nl.Dense, "wide and deep: long sums, packed weights", (700,), 3, 130),
        case(nl.Dense, "more images than a tile has rows", (11,), 37, 9),
    ],
)


@pytest.mark.parametrize("fused", [False, True])
def test_nan_stays_in_its_own_image(fused):
    x = np.ones((3, 5), np.float32)
    x[1, 4] = np.nan
    y = nc.Sequential([nc.Dense(37), *[nc.ReLU()] * fused], (5,)).forward(x)
    np.testing.assert_array_equal(np.isnan(y), np.array([[False], [True], [False]]) & np.ones(37, bool))
