"""Element by element: activations and their gradients, sums, copies, and images brought to float.

Unless said otherwise arguments are N×H×W×C of equal shape; see ``elements``.
"""

from functools import cache

import numpy as np
from numba import types

from numbacnn.geometry import Halo
from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_3d, over, over_rows, place
from numbacnn.kernels.cuda.runtime.shim import cuda, scalar_function
from numbacnn.kernels.registry import launcher

uint8_2d = types.Array(types.uint8, 2, "C")
_relu = scalar_function(scalar.relu)


@launcher
@cache
def activation_kernels(name, function, gradient, own=True):
    """The kernels ``name_forward(y, x)`` and ``name_gradient_in_place(dy, y)`` of scalar functions f(x), g(dy, y).

    Where g wants x instead of y, so does the second kernel. ``own``: the functions are a user's.
    """
    function, gradient = _kernels(name, function, gradient)

    def forward(y, x):
        function([y], [x])

    def gradient_in_place(dy, y):
        gradient([dy], [dy, y])

    return _named(name, forward, gradient_in_place)


def activation_kernels_with_constant(name, function, gradient):
    """``activation_kernels`` of f(x, a) and g(dy, y, a): both kernels take the number a as their last argument."""
    function, gradient = _kernels(name, function, gradient, [types.float32])

    def forward(y, x, a):
        function([y], [x], constants=[a])

    def gradient_in_place(dy, y, a):
        gradient([dy], [dy, y], constants=[a])

    return _named(name, forward, gradient_in_place)


def _kernels(name, function, gradient, constants=()):
    parts = ("forward", function), ("gradient_in_place", gradient)
    return [
        element_kernel(inputs=inputs, constants=constants, name=f"_{name}_{part}")(scalar_function(f))
        for inputs, (part, f) in enumerate(parts, 1)
    ]


def _named(name, forward, gradient_in_place):
    """Both launchers, with names and docstrings of their own."""
    forward.__doc__ = f"y = {name}(x)."
    gradient_in_place.__doc__ = f"dy becomes dx = dy · {name}'(x)."
    for launch, suffix in ((forward, "forward"), (gradient_in_place, "gradient_in_place")):
        launch.__name__ = launch.__qualname__ = f"{name}_{suffix}"
    return forward, gradient_in_place


def _of_the_package(name, function, gradient):
    return activation_kernels(name, function, gradient, own=False)


def _shared(name, make=_of_the_package):
    """The kernels of ``scalar.name`` and its gradient."""
    return [launcher(kernel) for kernel in make(name, getattr(scalar, name), getattr(scalar, f"{name}_gradient"))]


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
def copy(y, x):
    """y = x."""
    _copy([y], [x])


@element_kernel()
def _copy(x):
    return x


@launcher
def add(y, a, b, relu):
    """y = a + b, rectified if asked."""
    _add([y], [a, b], constants=[relu])


@launcher
def add_in_place(y, x, relu=False):
    """y += x, rectified if asked."""
    add(y, y, x, relu)


@element_kernel(inputs=2, constants=[types.boolean])
def _add(a, b, relu):
    return _relu(a + b) if relu else a + b


@launcher
def copy_reshaped(y, x):
    """y = x, whose images have as many elements in another shape."""
    if y.contiguous and x.contiguous:
        copy(y, x.reshape(y.shape))
    else:
        _copy_reshaped[over(y.size)](y.rows(), x.rows())


@cuda_kernel(float32_3d, float32_3d)
def _copy_reshaped(y, x):
    """Each thread owns an element of y."""
    item = cuda.grid(1)
    image, size, x_size = y.shape[1] * y.shape[2], y.shape[2], x.shape[2]
    n, i = item // image, item % image
    if n < y.shape[0]:
        y[n, i // size, i % size] = x[n, i // x_size, i % x_size]


@launcher
def clear_halo(x, halo):
    """Zeros in the halo of whole images N×(H + halo)×(W + halo)×C."""
    channels = x.shape[3]
    edges = Halo(halo.top, halo.bottom, halo.left * channels, halo.right * channels)
    _clear[over_rows(x.rows())](x.rows(), edges)


@cuda_kernel(float32_3d, Halo)
def _clear(x, halo):
    """x: rows; halo.left and halo.right count elements."""
    height, size = x.shape[1], x.shape[2]
    n, h, i, step = place(height)
    if n < x.shape[0]:
        outside = h < halo.top or h >= height - halo.bottom
        while i < size:
            if outside or i < halo.left or i >= size - halo.right:
                x[n, h, i] = 0
            i += step


@launcher
def normalize_bytes(y, x, scale, shift):
    """y = x · scale + shift for 8-bit images; x: N·H × W·C; scale, shift: W·C."""
    rows = y.rows()
    _normalize_bytes[over_rows(rows)](rows, x, scale, shift)


@cuda_kernel(float32_3d, uint8_2d, float32_1d, float32_1d)
def _normalize_bytes(y, x, scale, shift):
    n, h, i, step = place(y.shape[1])
    if n < y.shape[0]:
        row = n * y.shape[1] + h
        while i < y.shape[2]:
            y[n, h, i] = np.float32(x[row, i]) * scale[i] + shift[i]
            i += step


@launcher
def normalize_floats(y, x, scale, shift):
    """y = x · scale + shift for float images; x: N·H × W·C; scale, shift: W·C."""
    _normalize_floats([y], [x.reshape(y.shape)], [scale.reshape(1, -1), shift.reshape(1, -1)])


@element_kernel(tables=2)
def _normalize_floats(x, scale, shift):
    return x * scale + shift
