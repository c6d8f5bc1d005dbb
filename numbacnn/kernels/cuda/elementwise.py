"""Element by element: activations and their gradients, sums, copies, and images brought to float.

Unless said otherwise arguments are N×H×W×C of equal shape, and each thread owns elements of a row (n, h).
"""

from functools import cache

from numbacnn.geometry import Halo
from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.jit import as_rows, cuda_kernel, float32_3d, over_rows, place
from numbacnn.kernels.cuda.shim import scalar_function


@cache
def activation_kernels(name, function, gradient):
    """The kernels ``name_forward(y, x)`` and ``name_gradient_in_place(dy, y)`` of scalar functions f(x), g(dy, y).

    Where g wants x instead of y, so does the second kernel. The functions may be a user's own.
    """
    function, gradient = scalar_function(function), scalar_function(gradient)

    def forward(y, x):
        n, h, i, step = place(x.shape[1])
        if n < x.shape[0]:
            while i < x.shape[2]:
                y[n, h, i] = function(x[n, h, i])
                i += step

    def gradient_in_place(dy, y):
        n, h, i, step = place(y.shape[1])
        if n < y.shape[0]:
            while i < y.shape[2]:
                dy[n, h, i] = gradient(dy[n, h, i], y[n, h, i])
                i += step

    return _launchers(name, forward, gradient_in_place)


def _launchers(name, forward, gradient_in_place):
    """The launchers of two kernels, all with names of their own."""
    for kernel, suffix in ((forward, "forward"), (gradient_in_place, "gradient_in_place")):
        kernel.__name__ = kernel.__qualname__ = f"{name}_{suffix}"
    forward_kernel = cuda_kernel(float32_3d, float32_3d)(forward)
    gradient_kernel = cuda_kernel(float32_3d, float32_3d)(gradient_in_place)

    def launch_forward(y, x):
        y, x = as_rows(y, x)
        forward_kernel[over_rows(x)](y, x)

    def launch_gradient_in_place(dy, y):
        dy, y = as_rows(dy, y)
        gradient_kernel[over_rows(y)](dy, y)

    launch_forward.__doc__ = f"y = {name}(x)."
    launch_gradient_in_place.__doc__ = f"dy becomes dx = dy · {name}'(x)."
    for launcher, kernel in ((launch_forward, forward), (launch_gradient_in_place, gradient_in_place)):
        launcher.__name__ = launcher.__qualname__ = kernel.__name__
    return launch_forward, launch_gradient_in_place


relu_forward, relu_gradient_in_place = activation_kernels("relu", scalar.relu, scalar.relu_gradient)


def copy(y, x):
    """y = x."""
    y, x = as_rows(y, x)
    _copy[over_rows(x)](y, x)


@cuda_kernel(float32_3d, float32_3d)
def _copy(y, x):
    n, h, i, step = place(x.shape[1])
    if n < x.shape[0]:
        while i < x.shape[2]:
            y[n, h, i] = x[n, h, i]
            i += step


def add_in_place(y, x):
    """y += x."""
    y, x = as_rows(y, x)
    _add[over_rows(x)](y, x)


@cuda_kernel(float32_3d, float32_3d)
def _add(y, x):
    n, h, i, step = place(x.shape[1])
    if n < x.shape[0]:
        while i < x.shape[2]:
            y[n, h, i] += x[n, h, i]
            i += step


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
