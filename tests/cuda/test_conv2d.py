"""Convolutions on the device against the CPU's kernels, which tests/test_kernels.py holds against a float64 oracle."""

import numpy as np
import pytest
from arrays import both, inside, normal

from numbacnn.geometry import conv_geometry, pool_geometry
from numbacnn.kernels import cpu, cuda
from numbacnn.kernels.cpu import sizes as cpu_sizes
from numbacnn.kernels.cuda import channel_sums, product, sizes
from numbacnn.kernels.cuda.array import to_device, zeros

# input, filters, window, stride, padding, dilation, groups
CASES = {
    "a pixel": ((1, 1, 1), 1, (1, 1)),
    "one channel": ((6, 5, 1), 3, (3, 2), (1, 1), "same"),
    "fours": ((5, 6, 4), 8, (3, 3), (1, 1), 1),
    "many filters": ((4, 4, 3), 21, (2, 2)),
    "strides": ((7, 6, 2), 5, (3, 3), (2, 3), "same"),
    "a stride over the window": ((7, 8, 3), 4, (1, 2), (3, 3)),
    "padding of one side": ((5, 4, 4), 4, (3, 3), (1, 1), ((2, 0), (0, 1))),
    "dilation": ((8, 7, 3), 2, (3, 2), (1, 2), 1, (2, 3)),
    "groups": ((5, 5, 8), 4, (3, 3), (2, 2), "same", (1, 1), 2),
    "depthwise": ((5, 6, 3), 3, (3, 3), (2, 1), "same", (1, 1), 3),
    "depthwise with a multiplier": ((4, 5, 2), 6, (2, 3), (1, 1), 1, (2, 1), 2),
}
N = 2


def close(actual, expected):
    """Relative norm at most 1e-5."""
    error = np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30)
    assert error < 1e-5, error


def scratch(shape):
    return np.full(shape, np.nan, np.float32), zeros(shape)


def zero_halo(array, halo):
    """As ``both``, in a halo of zeros, and the whole on the host."""
    top, bottom, left, right = halo
    whole = np.pad(array, ((0, 0), (top, bottom), (left, right), (0, 0)))
    part = (slice(None), slice(top, top + array.shape[1]), slice(left, left + array.shape[2]))
    return whole[part], to_device(whole)[part]


@pytest.fixture(params=CASES.values(), ids=CASES)
def g(request):
    return conv_geometry(*request.param)


def weights(g):
    return normal(g.r, g.s, g.c // g.groups, g.k)


@pytest.mark.parametrize("relu", [False, True])
def test_forward(g, relu):
    x, device_x = zero_halo(normal(N, g.h, g.w, g.c), g.input_halo)
    w, b = weights(g), normal(g.k)
    y, device_y, whole = both(np.zeros((N, g.p, g.q, g.k), np.float32), (0, 1, 1, 0))
    cpu.conv2d_forward(y, x, w, b, scratch(cpu_sizes.packed_weights_shape(g))[0], g, relu)
    packed = zeros(sizes.packed_weights_shape(g))
    cuda.conv2d_forward(device_y, device_x, to_device(w), to_device(b), packed, g, relu)
    close(inside(whole, (0, 1, 1, 0)), y)


@pytest.mark.parametrize("masked", [False, True])
def test_input_gradient(g, masked):
    dy, device_dy = zero_halo(normal(N, g.p, g.q, g.k), g.gradient_halo)
    w = weights(g)
    dx, device_dx, whole = both(np.zeros((N, g.h, g.w, g.c), np.float32), (1, 0, 0, 2))
    mask, device_mask, _ = both(normal(N, g.h, g.w, g.c), (0, 1, 0, 0))
    packed, columns = (scratch(shape(*args))[0] for shape, args in CPU_GRADIENT(g))
    cpu.conv2d_input_gradient(dx, dy, w, packed, columns, g, mask if masked else None)
    empty = zeros((0, 1, 1, 1))
    cuda.conv2d_input_gradient(device_dx, device_dy, to_device(w), empty, empty, g, device_mask if masked else None)
    close(inside(whole, (1, 0, 0, 2)), dx)


def CPU_GRADIENT(g):  # noqa: N802
    return (cpu_sizes.packed_gradient_shape, (g,)), (cpu_sizes.columns_shape, (g, N))


@pytest.mark.parametrize("parts", [1, 3])
def test_weight_gradient(g, parts, monkeypatch):
    monkeypatch.setattr(product, "LEAST_TERMS", -(-N * g.p * g.q // parts))
    monkeypatch.setattr(channel_sums, "LEAST_PIXELS", 512 // parts**4)
    x, device_x = zero_halo(normal(N, g.h, g.w, g.c), g.input_halo)
    dy, device_dy = zero_halo(normal(N, g.p, g.q, g.k), g.gradient_halo)
    dw, device_dw = scratch((g.r, g.s, g.c // g.groups, g.k))
    cpu.conv2d_weight_gradient(dw, x, dy, scratch(cpu_sizes.partial_weights_shape(g, N))[0], g)
    cuda.conv2d_weight_gradient(device_dw, device_x, device_dy, zeros(sizes.partial_weights_shape(g, N)), g)
    close(device_dw.read(), dw)


@pytest.mark.parametrize("sides", [(16, 16, 8, 8, 4), (16, 4, 4, 4, 4), (8, 8, 4, 4, 8)])
def test_every_tile(sides, monkeypatch):
    monkeypatch.setattr(product, "choose_tile", lambda *shape: product.Tile(*sides))
    g = conv_geometry((6, 7, 4), 20, (3, 3), (1, 1), "same")
    for test in (test_forward, test_input_gradient):
        test(g, True)
    test_weight_gradient(g, 2, monkeypatch)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 1), (5, 7, 3), (3, 8, 12)])
def test_dense(n, c, k):
    x, device_x, _ = both(normal(n, 1, 1, c))
    w, b = normal(c, k), normal(k)
    y, device_y = scratch((n, 1, 1, k))
    cpu.dense_forward(y, x, w, b, scratch(cpu_sizes.dense_packed_weights_shape(c, k))[0], True)
    cuda.dense_forward(device_y, device_x, to_device(w), to_device(b), zeros((0, 1, 1, 1)), True)
    close(device_y.read(), y)
    dy, device_dy, _ = both(normal(n, 1, 1, k))
    dw, device_dw = scratch((c, k))
    cpu.dense_weight_gradient(dw, x, dy)
    cuda.dense_weight_gradient(device_dw, device_x, device_dy)
    close(device_dw.read(), dw)
    dx, device_dx = scratch((n, 1, 1, c))
    cpu.dense_input_gradient(dx, dy, w, scratch(cpu_sizes.dense_packed_gradient_shape(c, k))[0], x)
    cuda.dense_input_gradient(device_dx, device_dy, to_device(w), zeros((0, 1, 1, 1)), device_x)
    close(device_dx.read(), dx)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 9, 7, 3), (2, 2, 3, 70)])
def test_bias(shape, monkeypatch):
    dy, device_dy, _ = both(normal(*shape), (1, 0, 0, 1))
    db, device_db = scratch(shape[3:])
    cpu.bias_gradient(db, dy, scratch(cpu_sizes.partial_bias_shape(*shape))[0])
    cuda.bias_gradient(device_db, device_dy, zeros(sizes.partial_bias_shape(*shape)))
    close(device_db.read(), db)
    b = normal(shape[3])
    cpu.add_bias_in_place(dy, b, True)
    cuda.add_bias_in_place(device_dy, to_device(b), True)
    close(device_dy[:].flat().read()[~np.isnan(device_dy.flat().read())], dy.reshape(-1))


@pytest.mark.parametrize("relu", [False, True])
def test_convolution_with_its_pool(relu):
    g, pool = conv_geometry((6, 8, 3), 4, (3, 3), (1, 1), "same"), pool_geometry((6, 8, 4), (2, 2), (2, 2))
    x, device_x = zero_halo(normal(N, g.h, g.w, g.c), g.input_halo)
    w, b = weights(g), normal(g.k)
    (y, device_y), (argmax, device_argmax) = (scratch((N, pool.p, pool.q, g.k)) for _ in range(2))
    cpu.conv2d_pool_forward(y, argmax, x, w, b, scratch(cpu_sizes.packed_weights_shape(g))[0], g, pool, relu)
    device_w = to_device(w)
    none = zeros((0, 1, 1, 1))
    cuda.conv2d_pool_forward(device_y, device_argmax, device_x, device_w, to_device(b), none, g, pool, relu)
    close(device_y.read(), y)
    if not relu:
        np.testing.assert_array_equal(device_argmax.read(), argmax)

    dy, device_dy, _ = both(normal(N, pool.p, pool.q, g.k))
    device_argmax.write(argmax)
    dw, device_dw = scratch(w.shape)
    shapes = cpu_sizes.maxima_partial_shape(g, N), cpu_sizes.maxima_places_shape(g, pool, N)
    cpu.maxima_weight_gradient(dw, x, dy, argmax, *(scratch(shape)[0] for shape in shapes), g, pool)
    cuda.maxima_weight_gradient(device_dw, device_x, device_dy, device_argmax, none, none, g, pool)
    close(device_dw.read(), dw)
    dx, device_dx = scratch((N, g.h, g.w, g.c))
    shapes = cpu_sizes.maxima_packed_shape(g), cpu_sizes.maxima_image_shape(g, N)
    cpu.maxima_input_gradient(dx, dy, argmax, w, *(scratch(shape)[0] for shape in shapes), g, pool, x)
    cuda.maxima_input_gradient(device_dx, device_dy, device_argmax, device_w, none, none, g, pool, device_x)
    close(device_dx.read(), dx)


def test_winograd_s_launchers_give_the_same_outputs():
    g = conv_geometry((5, 6, 3), 4, (3, 3), (1, 1), "same")
    x, device_x = zero_halo(normal(N, g.h, g.w, g.c), g.input_halo)
    dy, device_dy = zero_halo(normal(N, g.p, g.q, g.k), g.gradient_halo)
    w = weights(g)
    (y, device_y), (dx, device_dx) = scratch((N, g.p, g.q, g.k)), scratch((N, g.h, g.w, g.c))
    none = [zeros((0, 1, 1, 1))] * 4
    forward = [scratch(shape)[0] for shape in cpu_sizes.winograd_shapes(N, g.p, g.q, g.c, g.k, 2)]
    backward = [scratch(shape)[0] for shape in cpu_sizes.winograd_shapes(N, g.h, g.w, g.k, g.c, 2)]
    cpu.winograd_forward(y, x, w, None, *forward, g)
    cuda.winograd_forward(device_y, device_x, to_device(w), None, *none, g)
    close(device_y.read(), y)
    cpu.winograd_input_gradient(dx, dy, w, *backward, g)
    cuda.winograd_input_gradient(device_dx, device_dy, to_device(w), *none, g)
    close(device_dx.read(), dx)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 12, 28, 224, 12544, 2**31 - 1])
def test_division_by_multiplication(divisor):
    items = np.unique([0, 1, divisor - 1, divisor, divisor + 1, 2**31 - 1, 2**31 - 1 - divisor, 123456789])
    factor, shift = product._reciprocal(divisor)
    assert [int(item) * factor >> shift for item in items] == [int(item) // divisor for item in items]
    assert factor * (2**31 - 1) < 2**63
