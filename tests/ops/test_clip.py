import numpy as np
import pytest
from op import BATCHES, Case, Limits, Op, case, draw_shape
from pytorch import torch

import numbacnn as nc
from numbacnn import functional
from numbacnn import layers as nl


def draw_clip(draw):
    low, high = draw.choice(((-0.5, 0.7), (0.1, None), (None, 0.3), (-2.0, -1.0), (0, 6)))
    return Case(f"clip {low} to {high}", lambda: nl.Clip(low, high), (draw_shape(draw),), draw.choice(BATCHES))


OP = Op(
    nl.Clip,
    pytorch=lambda layer, g, x: torch.clamp(x, layer.low, layer.high),
    draw=draw_clip,
    picked=[case(nl.Clip, "bounds", (3, 4, 5), 2, -0.5, 1)],
    limits=[Limits(lambda: nl.Clip(-1, 2), -1, 2, 0, 0), Limits(lambda: nl.Clip(0.5), 0.5, np.inf, 0, 1)],
)


def test_numbers_between_the_bounds_keep_all_their_bits():
    x = np.array([[1e-30, 0.1, 9.9999, 11, -1]], np.float32)
    np.testing.assert_array_equal(functional.clip(x, 0, 10), [[*x[0, :3], 10, 0]])


def test_bounds_are_checked():
    with pytest.raises(nc.ArgumentError, match="low=2 and high=1"):
        nl.Clip(2, 1)
    with pytest.raises(nc.ArgumentError, match="low=nan"):
        nl.Clip(float("nan"))
