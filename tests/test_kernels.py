"""Kernels that no layer's result shows directly: what they write, and that they write nothing beside it."""

import itertools

import numpy as np
import pytest

from numbacnn.geometry import Halo, conv_geometry
from numbacnn.kernels import cpu
from numbacnn.kernels.cpu import conv2d_direct, conv2d_pairs

HALOS = [Halo(*sides) for sides in itertools.product((0, 1, 2), repeat=4)]
SHAPES = [(3, 6, 5, 3), (2, 5, 5, 1), (1, 7, 6, 17)]


def inside(whole, halo):
    return whole[:, halo.top : whole.shape[1] - halo.bottom, halo.left : whole.shape[2] - halo.right]


@pytest.mark.parametrize("shape", SHAPES)
def test_clear_halo_zeros_the_halo_alone(shape):
    for halo in HALOS:
        whole = np.full(shape, np.nan, np.float32)
        inside(whole, halo)[...] = 7
        cpu.clear_halo(whole, halo)
        expected = np.zeros(shape, np.float32)
        inside(expected, halo)[...] = 7
        np.testing.assert_array_equal(whole, expected, str(halo))


@pytest.mark.parametrize("halo", [Halo(), Halo(1, 0, 0, 2), Halo(0, 1, 2, 0)])
@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (cpu.copy, lambda y, x: x),
        (cpu.add_in_place, lambda y, x: y + x),
        (cpu.relu_forward, lambda y, x: np.maximum(x, 0)),
    ],
    ids=["copy", "add_in_place", "relu_forward"],
)
def test_kernels_write_inside_a_halo_alone(kernel, expected, halo, rng):
    for shape in SHAPES:
        y, x = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        before = y.copy()
        kernel(inside(y, halo), inside(x, halo))
        inside(before, halo)[...] = expected(inside(before, halo), inside(x, halo))
        np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(cpu.normalize_bytes, np.uint8), (cpu.normalize_floats, np.float32)], ids=["bytes", "floats"]
)
def test_normalize_scales_and_shifts_rows_into_a_halo(kernel, dtype, rng):
    x = rng.integers(0, 256, (2, 3, 4, 5)).astype(dtype)
    scale, shift = (rng.standard_normal(20).astype(np.float32) for _ in range(2))
    whole, halo = np.zeros((2, 5, 7, 5), np.float32), Halo(2, 0, 1, 2)
    kernel(inside(whole, halo), x.reshape(6, 20), scale, shift)
    expected = x.reshape(2, 3, 20).astype(np.float64) * scale + shift
    np.testing.assert_allclose(inside(whole, halo), expected.reshape(x.shape), rtol=1e-5, atol=1e-4)
    inside(whole, halo)[...] = 0
    assert not whole.any()


@pytest.mark.parametrize(
    ("shape", "filters", "window", "stride", "padding"),
    [((28, 28, 1), 2, (5, 5), (1, 1), 2), ((12, 14, 3), 2, (3, 3), (2, 2), ((1, 0), (2, 2)))],
)
def test_pixels_in_pairs_have_the_bits_of_single_ones(monkeypatch, rng, shape, filters, window, stride, padding):
    g = conv_geometry(shape, filters, window, stride, padding)
    top, bottom, left, right = g.input_halo
    x = np.zeros((3, top + g.h + bottom, left + g.w + right, g.c), np.float32)[:, top : top + g.h, left : left + g.w]
    x[...] = rng.standard_normal(x.shape)
    w, b = (rng.standard_normal(size).astype(np.float32) for size in ((g.r, g.s, g.c, g.k), g.k))

    def forward():
        y = np.empty((3, g.p, g.q, g.k), np.float32)
        scratch = np.empty(conv2d_direct.packed_weights_shape(g), np.float32)
        conv2d_direct.conv2d_forward(y, x, w, b, scratch, g)
        return y

    assert conv2d_pairs.applies(g)
    paired = forward()
    monkeypatch.setattr(conv2d_pairs, "applies", lambda g: False)
    np.testing.assert_array_equal(forward(), paired)
