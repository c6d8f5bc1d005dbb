"""Scalar mathematics that kernels of both devices share, besides what ``formulas`` defines."""

import numpy as np

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def times(weight, loss):
    """weight · loss, with 0 · ∞ = 0."""
    return weight * loss if weight != ZERO else ZERO


def at_least(low, x):
    """The larger of two numbers; NaN if x is NaN. The device's ``max`` would return the other number."""
    return low if x < low else x


def flushed(x):
    """x, or 0 if x is subnormal. Running means decay into subnormal numbers and never reach zero, and some processors
    take more than a hundred cycles for an operation on one.
    """
    return ZERO if abs(x) < SMALLEST_NORMAL else x


RED, GREEN, BLUE = (np.float32(share) for share in (0.299, 0.587, 0.114))  # luma of ITU-R BT.601


def luma(x, n, h, w):
    """The luma of pixel (n, h, w) of three channels, or its first channel."""
    if x.shape[3] == 3:
        return RED * x[n, h, w, 0] + GREEN * x[n, h, w, 1] + BLUE * x[n, h, w, 2]
    return x[n, h, w, 0]


# -- random numbers ---------------------------------------------------------------------------------------------------

LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
FACTOR_0, FACTOR_2 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def philox(c_0, c_1, c_2, c_3, k_0, k_1):
    """Four random words of 32 bits from the counter c and the key k by Philox 4×32-10; all are stored as uint64 (Salmon
    et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
    """
    for _ in range(10):
        a, b = FACTOR_0 * c_0, FACTOR_2 * c_2
        c_0, c_1, c_2, c_3 = (b >> SHIFT) ^ c_1 ^ k_0, b & LOW, (a >> SHIFT) ^ c_3 ^ k_1, a & LOW
        k_0, k_1 = (k_0 + WEYL_0) & LOW, (k_1 + WEYL_1) & LOW
    return c_0, c_1, c_2, c_3
