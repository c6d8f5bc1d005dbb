"""ReLU with a slope for each channel (He et al. 2015, section 2.1)."""

import numpy as np

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
def prelu_forward(y, x, w):
    """y = x where x > 0 (or NaN), else w[c] · x. y, x: N×H×W×C; w: C."""
    _prelu([y], [x], [w.reshape(1, -1)])


@element_kernel(tables=1)
def _prelu(x, slope):
    return slope * x if x <= ZERO else x


@launcher
def prelu_gradient_in_place(dy, dw_parts, x, w):
    """dy becomes dx = dy where x > 0 (or NaN), else w[c] · dy; dw_parts = dy · x where x ≤ 0, else 0: terms of dw[c].

    dy, dw_parts, x: N×H×W×C; w: C.
    """
    _prelu_gradient([dy, dw_parts], [dy, x], [w.reshape(1, -1)])


@element_kernel(outputs=2, inputs=2, tables=1)
def _prelu_gradient(dy, x, slope):
    return (slope * dy, dy * x) if x <= ZERO else (dy, ZERO)
