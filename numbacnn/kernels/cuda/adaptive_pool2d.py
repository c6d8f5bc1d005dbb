"""Pooling into a given number of bins, and its gradients.

Bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉), as in PyTorch: bins overlap if P does not divide h. The bins that
contain a pixel are given by the same formula with pixels and bins exchanged.
"""

import numpy as np

from numbacnn.geometry import AdaptiveGeometry
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import pixel_kernel
from numbacnn.kernels.cuda.windows import ONE, Box, average_forward, average_gradient, max_forward, max_gradient
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.registry import launcher

bin_range = scalar_function(windows.bin_range)


@device_function
def _window(p, q, g):
    """The pixels of bin (p, q)."""
    (top, bottom), (left, right) = bin_range(p, g.h, g.p), bin_range(q, g.w, g.q)
    return Box(top, bottom, left, right)


@device_function
def _covering(h, w, g):
    """The bins that contain pixel (h, w)."""
    (top, bottom), (left, right) = bin_range(h, g.p, g.h), bin_range(w, g.q, g.w)
    return Box(top, bottom, left, right)


@device_function
def _pixel(h, w, p, q, g):
    """h·W + w."""
    return h * g.w + w


@device_function
def _share(p, q, g):
    """1 / the number of pixels of bin (p, q)."""
    box = _window(p, q, g)
    return ONE / np.float32((box.bottom - box.top) * (box.right - box.left))


@launcher
@pixel_kernel(float32_4d, float32_4d, AdaptiveGeometry, launch_bounds=(THREADS, 3))  # four would spill
def adaptive_average_pool_forward(vector):
    """y[n,p,q,c] = mean of x over bin (p, q)."""
    return average_forward(vector, _window, _share)


@launcher
@pixel_kernel(float32_4d, float32_4d, AdaptiveGeometry, launch_bounds=(THREADS, 3))  # four would spill
def adaptive_average_pool_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / pixels of the bin, over the bins that contain (h, w)."""
    return average_gradient(vector, _covering, _share)


@launcher
@pixel_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_forward(vector):
    """y[n,p,q,c] = maximum of x over bin (p, q); argmax: its index h·W + w in the image, the first of equals.

    argmax has no images if no gradient will be needed. A NaN in the bin wins. Indices are exact below 2²⁴.
    """
    return max_forward(vector, _window, _pixel)


@launcher
@pixel_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the bins whose maximum is at (h, w)."""
    return max_gradient(vector, _covering, _pixel)
