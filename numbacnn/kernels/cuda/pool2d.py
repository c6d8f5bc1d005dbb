"""Max and average pooling, and their gradients.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read.
"""

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import pixel_kernel
from numbacnn.kernels.cuda.windows import Box, average_forward, average_gradient, max_forward, max_gradient
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.registry import launcher

outputs_at, window_share = scalar_function(windows.outputs_at), scalar_function(windows.window_share)


@device_function
def _window(p, q, g):
    """The pixels of the input in window (p, q)."""
    h, w = p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left
    return Box(max(0, h), min(h + g.r, g.h), max(0, w), min(w + g.s, g.w))


@device_function
def _covering(h, w, g):
    """The outputs whose windows contain pixel (h, w)."""
    first_p, last_p = outputs_at(h + g.pad_top, g.r, g.stride_h, g.p)
    first_q, last_q = outputs_at(w + g.pad_left, g.s, g.stride_w, g.q)
    return Box(first_p, last_p, first_q, last_q)


@device_function
def _tap(h, w, p, q, g):
    """r·S + s: the tap of window (p, q) at pixel (h, w)."""
    return (h + g.pad_top - p * g.stride_h) * g.s + w + g.pad_left - q * g.stride_w


@device_function
def _share(p, q, g):
    """1 / the number of pixels in the mean of window (p, q)."""
    return window_share(p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, g)


@launcher
@pixel_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def max_pool_forward(vector):
    """y[n,p,q,c] = maximum of x over the window; argmax: its tap r·S + s in the window, the first of equals.

    y, argmax: N×P×Q×C (argmax contiguous, or without images if no gradient will be needed); x: N×H×W×C.
    A NaN in the window wins.
    """
    return max_forward(vector, _window, _tap)


@launcher
@pixel_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry, launch_bounds=(THREADS, 3))  # four would spill
def max_pool_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the windows whose maximum is at (h, w).

    dx: N×H×W×C; dy, argmax: N×P×Q×C as in ``max_pool_forward``.
    """
    return max_gradient(vector, _covering, _tap)


@launcher
@pixel_kernel(float32_4d, float32_4d, PoolGeometry, launch_bounds=(THREADS, 3))  # four would spill
def average_pool_forward(vector):
    """y[n,p,q,c] = mean of x over the window.

    With ``count_include_pad`` the padding counts as zeros; otherwise the mean is over the pixels of the input only.
    """
    return average_forward(vector, _window, _share)


@launcher
@pixel_kernel(float32_4d, float32_4d, PoolGeometry, launch_bounds=(THREADS, 3))  # four would spill
def average_pool_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that contain (h, w)."""
    return average_gradient(vector, _covering, _share)
