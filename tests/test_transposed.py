"""The product with a transposed matrix that is not packed: the input gradient of dense layers."""

import numpy as np
import pytest

from numbacnn.engine.locks import engine_lock
from numbacnn.kernels.cpu.gemm.gemm import NO_AUX, NR
from numbacnn.kernels.cpu.gemm.transposed import FEW_BLOCKS, MAX_ROWS, packed_rows_shape, transposed_product

MANY = MAX_ROWS * FEW_BLOCKS - 5  # channels that fill blocks of ``MAX_ROWS``


def product(x, w, mask=None, room=0):
    """Return y = x · wᵀ from an array with room between its rows, where nothing may be written."""
    count, channels = len(x), len(w)
    y, packed = np.full((count, 1, 1, channels + 3), 7, np.float32), packed_rows_shape(count + room, x.shape[1])
    with engine_lock:
        transposed_product(
            y[..., :channels],
            x[:, None, None],
            w[None, None],
            np.full(packed, np.nan, np.float32),
            NO_AUX if mask is None else mask[:, None, None],
        )
    assert np.all(y[..., channels:] == 7)
    return y[:, 0, 0, :channels]


@pytest.mark.parametrize("count", [1, 5, NR, 2 * NR + 3])
@pytest.mark.parametrize(("channels", "terms"), [(1, 1), (9, 7), (MANY, 3 * NR), (70, NR), (33, 2 * NR + 1)])
def test_products_of_any_size(count, channels, terms):
    draw = np.random.default_rng(0)
    x, w = draw.standard_normal((count, terms), np.float32), draw.standard_normal((channels, terms), np.float32)
    expected = x.astype(np.float64) @ w.T.astype(np.float64)
    scale = np.abs(x.astype(np.float64)) @ np.abs(w.T.astype(np.float64))
    found = product(x, w, room=2)
    assert np.all(np.abs(found - expected) <= terms * np.finfo(np.float32).eps * scale)
    mask = draw.standard_normal((count, channels), np.float32)
    assert np.array_equal(product(x, w, mask), np.where(mask > 0, found, 0))


def test_each_matrix_may_be_some_columns_of_another():
    draw = np.random.default_rng(0)
    x, whole = draw.standard_normal((4, 6), np.float32), draw.standard_normal((11, 9), np.float32)
    assert np.array_equal(product(x, whole[:, 2:8]), product(x, whole[:, 2:8].copy()))
    assert np.array_equal(product(whole[:5, 1:7], x), product(whole[:5, 1:7].copy(), x))
