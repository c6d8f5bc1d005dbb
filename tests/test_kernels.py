"""Kernels that no layer's result shows directly: what they write, and that they write nothing else."""

import itertools

import numpy as np
import pytest

from numbacnn.geometry import Halo, conv_geometry, pool_geometry
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.cpu.conv.depthwise import Depthwise
from numbacnn.kernels.cpu.conv.direct import Direct
from numbacnn.kernels.cpu.conv.direct.forward import Strides, forward_gemm, packed_shape, weights_packing
from numbacnn.kernels.cpu.conv.pixel_pairs import PixelPairs
from numbacnn.kernels.cpu.gemm.gemm import Blocking, multiply
from numbacnn.kernels.cpu.gemm.packing import pack
from numbacnn.kernels.cpu.norm.channels import norm_coefficients_shape, norm_partial_shape
from numbacnn.kernels.cpu.simd.memory import NONTEMPORAL_BYTES
from numbacnn.layers.algorithms import ConvEpilogue

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
def test_pixel_pairs_have_the_bits_of_single_pixels(rng, shape, filters, window, stride, padding):
    g = conv_geometry(shape, filters, window, stride, padding)
    top, bottom, left, right = g.input_halo
    x = np.zeros((3, top + g.h + bottom, left + g.w + right, g.c), np.float32)[:, top : top + g.h, left : left + g.w]
    x[...] = rng.standard_normal(x.shape)
    w, b = (rng.standard_normal(size).astype(np.float32) for size in ((g.r, g.s, g.c, g.k), g.k))

    def forward(algorithm):
        y = np.empty((3, g.p, g.q, g.k), np.float32)
        scratch = {name: np.empty(spec.shape, np.float32) for name, spec in algorithm.scratch("forward", g, 3).items()}
        algorithm.forward(y, x, w, b, scratch, g, ConvEpilogue())
        return y

    assert PixelPairs().applies("forward", g, None)
    np.testing.assert_array_equal(forward(PixelPairs()), forward(Direct()))


def nontemporal_kernels():
    """name → kernel(out, x), for images of 64×64 pixels and 48 channels."""
    c, no_images = 48, np.empty((0, 1, 1, 1), np.float32)
    image = (64, 64, c)
    apart = pool_geometry(image, (2, 2), (2, 2))
    wide = pool_geometry(image, (3, 3), (1, 1), 1)
    weight = np.linspace(-1, 1, 9 * c, dtype=np.float32).reshape(3, 3, 1, c)
    channel = np.linspace(0.5, 2, c, dtype=np.float32)
    depthwise = conv_geometry(image, c, (3, 3), (1, 1), "valid", (1, 1), c)

    def batch_norm(out, x):
        coefficients = np.zeros(norm_coefficients_shape(1, 3, c), np.float32)
        cpu.batch_norm_inference(out, no_images, x, *[channel] * 4, coefficients, 1e-5)

    def batch_norm_gradient(out, x):
        statistics = np.ones(norm_coefficients_shape(1, 5, c), np.float32)
        coefficients = np.zeros(norm_coefficients_shape(1, 3, c), np.float32)
        partial = np.zeros(norm_partial_shape(1, len(x) * image[0], 2, *image[1:]), np.float32)
        scratch = statistics, coefficients, partial, np.zeros((1, 1, 2, c), np.float32), False
        cpu.batch_norm_gradient(out, channel.copy(), channel.copy(), x, x, channel, *scratch)

    def max_gradient(g):
        def kernel(out, x):
            dy = np.ascontiguousarray(x[:, : g.p, : g.q])
            argmax = np.resize(np.arange(g.r * g.s, dtype=np.float32), dy.shape[1:])
            cpu.max_pool_gradient(out, dy, np.broadcast_to(argmax, dy.shape).copy(), g)

        return kernel

    def depthwise_forward(out, x):
        Depthwise().forward(out[:, :62, :62], x, weight, None, {}, depthwise, ConvEpilogue())

    def argmax(out, x):
        cpu.max_pool_forward(np.empty_like(x), out, x, wide)

    return {
        "batch_norm": batch_norm,
        "batch_norm_gradient": batch_norm_gradient,
        "depthwise": depthwise_forward,
        "max_pool": lambda out, x: cpu.max_pool_forward(out, no_images, x, wide),
        "argmax of max_pool": argmax,
        "max_pool_gradient": max_gradient(wide),
        "max_pool_gradient without overlap": max_gradient(apart),
        "average_pool": lambda out, x: cpu.average_pool_forward(out, x, wide),
        "average_pool_gradient": lambda out, x: cpu.average_pool_gradient(out, x, wide),
    }


@pytest.mark.parametrize("name", nontemporal_kernels())
def test_non_temporal_stores_have_the_bits_of_ordinary_ones(name, rng):
    kernel, shape = nontemporal_kernels()[name], (48, 64, 64, 48)
    assert 4 * np.prod(shape) * 62**2 / 64**2 > NONTEMPORAL_BYTES > 2 * np.prod(shape)
    x = rng.standard_normal(shape[1:], np.float32) + np.arange(48, dtype=np.float32).reshape(-1, 1, 1, 1)
    memory = np.full(x.size + 64, np.nan, np.float32)
    first = -memory.ctypes.data // 4 % 16
    for shift in (0, 1):  # aligned to a cache line, and not
        memory[:] = np.nan
        whole, parts = memory[first + shift :][: x.size].reshape(shape), np.full(shape, np.nan, np.float32)
        kernel(whole, x)
        for half in (slice(24), slice(24, None)):
            kernel(parts[half], x[half])
        np.testing.assert_array_equal(whole, parts)
        assert np.isnan(memory[: first + shift]).all()
        assert np.isnan(memory[first + shift + x.size :]).all()


@pytest.mark.parametrize("filters", [320, 333])  # whole panels, and one with a few columns
@pytest.mark.parametrize("size", [5, 6])  # 25 and 36 pixels: a row alone, and half of a microkernel's rows
def test_the_order_of_items_leaves_every_bit(rng, size, filters):
    """Few pixels read large weights once along their rows, as 5×5 pixels of 128 channels do; other orders do not."""
    g = conv_geometry((size, size, 128), filters, (3, 3), padding="same")
    whole = np.pad(rng.standard_normal((1, size, size, 128), np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = inside(whole, g.input_halo)
    w, bias = rng.standard_normal((3, 3, 128, filters), np.float32), rng.standard_normal(filters, np.float32)
    strides = Strides((4 * size * size * filters, 4 * size * filters, 4 * filters, 4), x.strides, w.strides)
    packed = np.empty(packed_shape(g), np.float32)
    pack(packed, w, weights_packing(g, w.strides))
    gemm = forward_gemm(g, 1, strides, packed=True)
    assert gemm.blocking.rows_first
    results = []
    for blocking in (gemm.blocking, Blocking(gemm.blocking.mc), Blocking(1 << 20)):
        y = np.full((1, size, size, filters), np.nan, np.float32)
        multiply(y, x, packed, gemm._replace(blocking=blocking), bias)
        results.append(y)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    windows = np.lib.stride_tricks.sliding_window_view(whole[0].astype(np.float64), (3, 3), (0, 1))
    np.testing.assert_allclose(results[0][0], np.einsum("pqcrs,rsck->pqk", windows, w) + bias, rtol=1e-4, atol=1e-3)


def test_images_larger_than_their_weights_do_not_take_rows_first():
    g = conv_geometry((56, 56, 128), 128, (3, 3), (2, 2), "same")
    strides = Strides((4, 4, 4, 4), (4, 4, 4, 4), (4, 4, 4, 4))
    assert not forward_gemm(g, 8, strides, packed=True).blocking.rows_first
