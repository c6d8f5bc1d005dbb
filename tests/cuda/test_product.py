"""What the table of calls does not reach: products in several parts, and tiles that the simulator is not given."""

import numpy as np
import pytest
from convolutions import CALLS
from test_twins import test_twins_write_the_same as check

from numbacnn.kernels.cuda.gemm import gemm, operands
from numbacnn.kernels.cuda.norm import channel_sums

WEIGHTS = [call for call in CALLS if call.steps[-1][0] in ("conv2d_weight_gradient", "bias_gradient")]
FOURS = [call for call in CALLS if call.reason.startswith(("fours", "strides"))]


@pytest.mark.parametrize("call", WEIGHTS, ids=str)
def test_sums_in_parts(call, monkeypatch):
    monkeypatch.setattr(gemm, "MIN_K", 7)
    monkeypatch.setattr(channel_sums, "MIN_PIXELS", 1)
    check(call)


@pytest.mark.parametrize("sides", [(16, 16, 8, 8, 4), (16, 4, 4, 4, 4), (8, 8, 4, 4, 8)])
@pytest.mark.parametrize("call", FOURS, ids=str)
def test_every_tile(call, sides, monkeypatch):
    monkeypatch.setattr(gemm, "choose_tile", lambda *shape: gemm.Tile(*sides))
    check(call)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 12, 28, 224, 12544, 2**31 - 1])
def test_division_by_multiplication(divisor):
    items = np.unique([0, 1, divisor - 1, divisor, divisor + 1, 2**31 - 1, 2**31 - 1 - divisor, 123456789])
    factor, shift = operands._reciprocal(divisor)
    assert [int(item) * factor >> shift for item in items] == [int(item) // divisor for item in items]
    assert factor * (2**31 - 1) < 2**63
