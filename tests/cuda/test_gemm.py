"""GEMM with several splits, and with tiles that the simulator would not choose."""

import numpy as np
import pytest
from convolutions import CALLS
from test_twins import test_twins_write_the_same as check

from numbacnn.kernels.cuda.gemm import descriptor, gemm
from numbacnn.kernels.cuda.norm import channel_sums

WEIGHTS = [call for call in CALLS if call.steps[-1][0] in ("conv2d_weight_gradient", "bias_gradient")]
FOURS = [call for call in CALLS if call.reason.startswith(("fours", "strides"))]


@pytest.mark.parametrize("call", WEIGHTS, ids=str)
def test_partial_sums(call, monkeypatch):
    monkeypatch.setattr(gemm, "MIN_K", 7)
    monkeypatch.setattr(channel_sums, "MIN_PIXELS", 1)
    check(call)


@pytest.mark.parametrize("sizes", [(16, 16, 8, 8, 4), (16, 4, 4, 4, 4), (8, 8, 4, 4, 8)])
@pytest.mark.parametrize("call", FOURS, ids=str)
def test_every_tile(call, sizes, monkeypatch):
    monkeypatch.setattr(gemm, "choose_tile", lambda *shape: gemm.Tile(*sizes))
    check(call)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 12, 28, 224, 12544, 2**31 - 1])
def test_division_by_multiplication(divisor):
    numerators = np.unique([0, 1, divisor - 1, divisor, divisor + 1, 2**31 - 1, 2**31 - 1 - divisor, 123456789])
    _, multiplier, shift = descriptor.fast_divmod(divisor)
    assert [int(n) * multiplier >> shift for n in numerators] == [int(n) // divisor for n in numerators]
    assert multiplier * (2**31 - 1) < 2**63
