"""Element by element: activations and their gradients, sums, copies, and images brought to float.

Each works row by row, since the rows of a view are contiguous and its images, inside a halo, are not. Unless said
otherwise arguments are N×H×W×C of equal shape, and each thread owns a range of rows (n, h).
"""

from functools import cache, partial

import numpy as np
from numba import prange, types

from numbacnn.geometry import Halo
from numbacnn.kernels import scalar
from numbacnn.kernels.cpu.simd import math as simd_math
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.custom import code_key
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined
from numbacnn.kernels.registry import launcher

uint8_2d = types.Array(types.uint8, 2, "C")


@inlined
def row_address(x, item):
    """Where row ``item`` of the rows (n, h) of a view N×H×W×C lies."""
    n, h = np.intp(item) // x.shape[1], np.intp(item) % x.shape[1]
    return address(x) + n * x.strides[0] + h * x.strides[1]


@inlined
def row(x, item):
    """That row as W·C floats."""
    return floats(row_address(x, item), x.shape[2] * x.shape[3])


_relu = inlined(scalar.relu, always=True)


@launcher
@cache
def activation_kernels(name, function, gradient, own=True):
    """The kernels ``name_forward(y, x)`` and ``name_gradient_in_place(dy, y)`` of scalar functions f(x), g(dy, y).

    Where g wants x instead of y, so does the second kernel. ``own``: the functions are a user's.
    """
    key = partial(code_key, function, gradient) if own else None
    function, gradient = inlined(function, always=True), inlined(gradient, always=True)

    @inlined
    def forward_row(y, x):
        for i in range(len(x)):
            y[i] = function(x[i])

    @inlined
    def gradient_row(dy, y):
        for i in range(len(y)):
            dy[i] = gradient(dy[i], y[i])

    def forward(y, x):
        for item in prange(x.shape[0] * x.shape[1]):
            forward_row(row(y, item), row(x, item))

    def gradient_in_place(dy, y):
        for item in prange(y.shape[0] * y.shape[1]):
            gradient_row(row(dy, item), row(y, item))

    return _named(name, forward, gradient_in_place, key, (float32_4d, float32_4d))


def activation_kernels_with_constant(name, function, gradient):
    """``activation_kernels`` of f(x, a) and g(dy, y, a): both kernels take the number a as their last argument."""
    function, gradient = inlined(function, always=True), inlined(gradient, always=True)

    @inlined
    def forward_row(y, x, a):
        for i in range(len(x)):
            y[i] = function(x[i], a)

    @inlined
    def gradient_row(dy, y, a):
        for i in range(len(y)):
            dy[i] = gradient(dy[i], y[i], a)

    def forward(y, x, a):
        for item in prange(x.shape[0] * x.shape[1]):
            forward_row(row(y, item), row(x, item), a)

    def gradient_in_place(dy, y, a):
        for item in prange(y.shape[0] * y.shape[1]):
            gradient_row(row(dy, item), row(y, item), a)

    return _named(name, forward, gradient_in_place, None, (float32_4d, float32_4d, types.float32))


def _named(name, forward, gradient_in_place, key, signature):
    """Both as kernels with names and docstrings of their own."""
    forward.__doc__ = f"y = {name}(x)."
    gradient_in_place.__doc__ = f"dy becomes dx = dy · {name}'(x)."
    for kernel, suffix in ((forward, "forward"), (gradient_in_place, "gradient_in_place")):
        kernel.__name__ = kernel.__qualname__ = f"{name}_{suffix}"
    compiled = cpu_kernel(*signature, key=key)
    return compiled(forward), compiled(gradient_in_place)


def _of_the_package(name, function, gradient):
    return activation_kernels(name, function, gradient, own=False)


def _shared(name, make=_of_the_package):
    """The kernels of ``scalar.name`` and its gradient, with this processor's simd_math."""
    functions = (simd_math.with_these(getattr(scalar, part)) for part in (name, f"{name}_gradient"))
    return [launcher(kernel) for kernel in make(name, *functions)]


relu_forward, relu_gradient_in_place = _shared("relu")
relu6_forward, relu6_gradient_in_place = _shared("relu6")
tanh_forward, tanh_gradient_in_place = _shared("tanh")
sigmoid_forward, sigmoid_gradient_in_place = _shared("sigmoid")
hardsigmoid_forward, hardsigmoid_gradient_in_place = _shared("hardsigmoid")
leaky_relu_forward, leaky_relu_gradient_in_place = _shared("leaky_relu", activation_kernels_with_constant)
elu_forward, elu_gradient_in_place = _shared("elu", activation_kernels_with_constant)

# The gradients of these come from x.
hardswish_forward, hardswish_gradient_in_place = _shared("hardswish")
silu_forward, silu_gradient_in_place = _shared("silu")
gelu_forward, gelu_gradient_in_place = _shared("gelu")
gelu_tanh_forward, gelu_tanh_gradient_in_place = _shared("gelu_tanh")


@launcher
@cpu_kernel(float32_4d, float32_4d)
def copy(y, x):
    """y = x."""
    for item in prange(x.shape[0] * x.shape[1]):
        _copy_row(row(y, item), row(x, item))


@inlined
def _copy_row(y, x):
    for i in range(len(x)):
        y[i] = x[i]


@launcher
@cpu_kernel(float32_4d, float32_4d)
def copy_reshaped(y, x):
    """y = x, whose images have as many elements in another shape. Each thread owns a range of rows (n, h) of y."""
    for item in prange(y.shape[0] * y.shape[1]):
        n, h = np.intp(item) // y.shape[1], np.intp(item) % y.shape[1]
        _copy_from(row(y, item), x, n, h * y.shape[2] * y.shape[3])


@inlined
def _copy_from(y, x, n, start):
    """y = the elements of image n from ``start`` on, each row of x after the other."""
    size, done = x.shape[2] * x.shape[3], 0
    while done < len(y):
        h, first = (start + done) // size, (start + done) % size
        source, count = row(x, n * x.shape[1] + h), min(len(y) - done, size - first)
        for i in range(count):
            y[done + i] = source[first + i]
        done += count


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, types.boolean)
def add(y, a, b, relu):
    """y = a + b, rectified if asked."""
    for item in prange(y.shape[0] * y.shape[1]):
        _add_rows(row(y, item), row(a, item), row(b, item), relu)


@launcher
def add_in_place(y, x, relu=False):
    """y += x, rectified if asked."""
    _add_in_place(y, x, relu)


@cpu_kernel(float32_4d, float32_4d, types.boolean)
def _add_in_place(y, x, relu):
    for item in prange(y.shape[0] * y.shape[1]):
        _add_row(row(y, item), row(x, item), relu)


@inlined
def _add_rows(y, a, b, relu):
    if relu:
        for i in range(len(y)):
            y[i] = _relu(a[i] + b[i])
    else:
        for i in range(len(y)):
            y[i] = a[i] + b[i]


@inlined
def _add_row(y, x, relu):
    if relu:
        for i in range(len(y)):
            y[i] = _relu(y[i] + x[i])
    else:
        for i in range(len(y)):
            y[i] += x[i]


@launcher
@cpu_kernel(float32_4d, Halo)
def clear_halo(x, halo):
    """Zeros in the halo of whole images N×(H + halo)×(W + halo)×C. Each thread owns a range of rows."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    for item in prange(x.shape[0] * height):
        h = np.intp(item) % height
        outside = h < halo.top or h >= height - halo.bottom
        _clear(row(x, item), 0, (width if outside else halo.left) * channels)
        _clear(row(x, item), (width - halo.right) * channels, width * channels)


@inlined
def _clear(x, first, last):
    for i in range(first, last):
        x[i] = 0


@inlined
def _scale_row(y, x, scale, shift):
    for i in range(len(y)):
        y[i] = np.float32(x[i]) * scale[i] + shift[i]


@launcher
@cpu_kernel(float32_4d, uint8_2d, float32_1d, float32_1d)
def normalize_bytes(y, x, scale, shift):
    """y = x · scale + shift for 8-bit images; x: N·H × W·C; scale, shift: W·C."""
    for item in prange(x.shape[0]):
        _scale_row(row(y, item), x[item], scale, shift)


@launcher
@cpu_kernel(float32_4d, float32_2d, float32_1d, float32_1d)
def normalize_floats(y, x, scale, shift):
    """y = x · scale + shift for float images; x: N·H × W·C; scale, shift: W·C."""
    for item in prange(x.shape[0]):
        _scale_row(row(y, item), x[item], scale, shift)
