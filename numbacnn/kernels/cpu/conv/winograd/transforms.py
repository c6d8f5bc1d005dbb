"""The transforms of Winograd's minimal filtering, for one vector of channels at a time."""

from functools import cache, partial
from math import sqrt
from typing import NamedTuple

import numpy as np

from numbacnn.kernels.cpu.simd.memory import stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store
from numbacnn.kernels.jit import inlined

compiled_into = partial(inlined, always=True)  # functions of a few vectors
VECTOR = 4 * WIDTH  # bytes
F4_P, F4_Q = np.float32(sqrt(0.5)), np.float32(sqrt(2))
HALF, TWO, SUM = np.float32(0.5), np.float32(2), np.float32(2.5)  # p², q², p² + q²; p²·q² is 1
P3, Q3 = np.float32(sqrt(0.125)), np.float32(sqrt(8))  # p³, q³
SHARE_P, SHARE_Q = np.float32(-2 / 3), np.float32(1 / 6)  # 1 / (2p²·(p² − q²)), 1 / (2q²·(q² − p²))


class Filtering(NamedTuple):
    """F(m×m, r×r)."""

    m: int
    r: int

    @property
    def n(self) -> int:
        """Inputs of a tile along each axis, which is also the number of interpolation points."""
        return self.m + self.r - 1


# -- one dimension ----------------------------------------------------------------------------------------------------


@compiled_into
def _input_4(d):
    """Bᵀ·d for n = 4."""
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]


@compiled_into
def _output_2_4(t):
    """Aᵀ·t for m = 2, n = 4."""
    return t[0] + t[1] + t[2], t[1] - t[2] + t[3]


@compiled_into
def _gradient_2_4(d):
    """A·d for m = 2, n = 4."""
    return d[0], d[0] + d[1], d[0] - d[1], d[1]


@compiled_into
def _input_6(d):
    """Bᵀ·d for n = 6."""
    even_p, odd_p = d[4] - splat(TWO) * d[2], splat(F4_P) * (d[3] - splat(TWO) * d[1])
    even_q, odd_q = d[4] - splat(HALF) * d[2], splat(F4_Q) * (d[3] - splat(HALF) * d[1])
    first, last = d[0] + d[4] - splat(SUM) * d[2], d[1] + d[5] - splat(SUM) * d[3]
    return first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last


@compiled_into
def _output_4_6(t):
    """Aᵀ·t for m = 4, n = 6."""
    even_p, odd_p, even_q, odd_q = t[1] + t[2], t[1] - t[2], t[3] + t[4], t[3] - t[4]
    return (
        t[0] + even_p + even_q,
        splat(F4_P) * odd_p + splat(F4_Q) * odd_q,
        splat(HALF) * even_p + splat(TWO) * even_q,
        splat(P3) * odd_p + splat(Q3) * odd_q + t[5],
    )


@compiled_into
def _gradient_4_6(d):
    """A·d for m = 4, n = 6."""
    even_p, odd_p = d[0] + splat(HALF) * d[2], splat(F4_P) * d[1] + splat(P3) * d[3]
    even_q, odd_q = d[0] + splat(TWO) * d[2], splat(F4_Q) * d[1] + splat(Q3) * d[3]
    return d[0], even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, d[3]


@compiled_into
def _output_2_6(t):
    """Aᵀ·t for m = 2, n = 6."""
    return (
        t[0] + t[1] + t[2] + t[3] + t[4],
        splat(F4_P) * (t[1] - t[2]) + splat(F4_Q) * (t[3] - t[4]) + t[5],
    )


@compiled_into
def _gradient_2_6(d):
    """A·d for m = 2, n = 6."""
    odd_p, odd_q = splat(F4_P) * d[1], splat(F4_Q) * d[1]
    return d[0], d[0] + odd_p, d[0] - odd_p, d[0] + odd_q, d[0] - odd_q, d[1]


@compiled_into
def _window_3_4(t):
    """Gᵀ·t for r = 3, n = 4."""
    even, odd = splat(HALF) * (t[1] + t[2]), splat(HALF) * (t[1] - t[2])
    return t[0] + even, odd, even + t[3]


@compiled_into
def _window_3_6(t):
    """Gᵀ·t for r = 3, n = 6."""
    even_p, odd_p = splat(SHARE_P) * (t[1] + t[2]), splat(SHARE_P * F4_P) * (t[1] - t[2])
    even_q, odd_q = splat(SHARE_Q) * (t[3] + t[4]), splat(SHARE_Q * F4_Q) * (t[3] - t[4])
    return t[0] + even_p + even_q, odd_p + odd_q, splat(HALF) * even_p + splat(TWO) * even_q + t[5]


@compiled_into
def _window_5_6(t):
    """Gᵀ·t for r = 5, n = 6."""
    even_p, odd_p = splat(SHARE_P) * (t[1] + t[2]), splat(SHARE_P * F4_P) * (t[1] - t[2])
    even_q, odd_q = splat(SHARE_Q) * (t[3] + t[4]), splat(SHARE_Q * F4_Q) * (t[3] - t[4])
    square_p, square_q = splat(HALF) * even_p, splat(TWO) * even_q
    return (
        t[0] + even_p + even_q,
        odd_p + odd_q,
        square_p + square_q,
        splat(HALF) * odd_p + splat(TWO) * odd_q,
        splat(HALF) * square_p + splat(TWO) * square_q + t[5],
    )


@compiled_into
def _weights_3_4(w):
    """G·w for r = 3, n = 4."""
    even, odd = splat(HALF) * (w[0] + w[2]), splat(HALF) * w[1]
    return w[0], even + odd, even - odd, w[2]


@compiled_into
def _weights_3_6(w):
    """G·w for r = 3, n = 6."""
    even_p, odd_p = splat(SHARE_P) * (w[0] + splat(HALF) * w[2]), splat(SHARE_P * F4_P) * w[1]
    even_q, odd_q = splat(SHARE_Q) * (w[0] + splat(TWO) * w[2]), splat(SHARE_Q * F4_Q) * w[1]
    return w[0], even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, w[2]


@compiled_into
def _weights_5_6(w):
    """G·w for r = 5, n = 6."""
    even_p = splat(SHARE_P) * (w[0] + splat(HALF) * (w[2] + splat(HALF) * w[4]))
    even_q = splat(SHARE_Q) * (w[0] + splat(TWO) * (w[2] + splat(TWO) * w[4]))
    odd_p = splat(SHARE_P * F4_P) * (w[1] + splat(HALF) * w[3])
    odd_q = splat(SHARE_Q * F4_Q) * (w[1] + splat(TWO) * w[3])
    return w[0], even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, w[4]


INPUT = {4: _input_4, 6: _input_6}  # by n
OUTPUT = {(2, 4): _output_2_4, (4, 6): _output_4_6, (2, 6): _output_2_6}  # by m and n
GRADIENT = {(2, 4): _gradient_2_4, (4, 6): _gradient_4_6, (2, 6): _gradient_2_6}
WINDOW = {(3, 4): _window_3_4, (3, 6): _window_3_6, (5, 6): _window_5_6}  # by r and n
WEIGHTS = {(3, 4): _weights_3_4, (3, 6): _weights_3_6, (5, 6): _weights_5_6}


# -- two dimensions, a vector of channels at a time -------------------------------------------------------------------


@compiled_into
def _read_2(source, step, count):
    return load(source, count), load(source + step, count)


@compiled_into
def _read_3(source, step, count):
    return *_read_2(source, step, count), load(source + 2 * step, count)


@compiled_into
def _read_4(source, step, count):
    return _read_2(source, step, count) + _read_2(source + 2 * step, step, count)


@compiled_into
def _read_5(source, step, count):
    return *_read_4(source, step, count), load(source + 4 * step, count)


@compiled_into
def _read_6(source, step, count):
    return _read_4(source, step, count) + _read_2(source + 4 * step, step, count)


@compiled_into
def _write_2(target, step, values):
    store(target, values[0], WIDTH)
    store(target + step, values[1], WIDTH)


@compiled_into
def _write_3(target, step, values):
    _write_2(target, step, values[:2])
    store(target + 2 * step, values[2], WIDTH)


@compiled_into
def _write_4(target, step, values):
    _write_2(target, step, values[:2])
    _write_2(target + 2 * step, step, values[2:])


@compiled_into
def _write_5(target, step, values):
    _write_4(target, step, values[:4])
    store(target + 4 * step, values[4], WIDTH)


@compiled_into
def _write_6(target, step, values):
    _write_4(target, step, values[:4])
    _write_2(target + 4 * step, step, values[4:])


READ = {2: _read_2, 3: _read_3, 4: _read_4, 5: _read_5, 6: _read_6}
WRITE = {2: _write_2, 3: _write_3, 4: _write_4, 5: _write_5, 6: _write_6}


@cache
def square_transform(transform, inputs, outputs):
    """Return a function that transforms inputs×inputs vectors along both axes into outputs×outputs vectors.

    Rows are ``outer`` and columns ``inner`` bytes apart. ``count`` lanes of the source are read; the others are 0.
    """
    read, write = READ[inputs], WRITE[outputs]
    memory, row = stack_floats(outputs * inputs * WIDTH), inputs * VECTOR

    @inlined
    def square(target, outer, inner, source, source_outer, source_inner, count):
        half = memory()
        for j in range(inputs):
            write(half + j * VECTOR, row, transform(read(source + j * source_inner, source_outer, count)))
        for i in range(outputs):
            write(target + i * outer, inner, transform(read(half + i * row, VECTOR, WIDTH)))

    return square
