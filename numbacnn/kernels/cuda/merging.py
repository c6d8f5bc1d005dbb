"""Several inputs into one: channels side by side, and products.

Arguments are N×H×W×C; a gate is N×1×1×C and holds one factor for each channel of each image.
"""

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.jit import float32_4d, over
from numbacnn.kernels.cuda.lanes import in_lanes, pixel_part, width_of


def copy_channels(y, x):
    """y = x, where either may be some of the channels of a wider view."""
    width = width_of(y, x)
    _copy_channels[width][over(x.size // width)](y, x)


@in_lanes(float32_4d, float32_4d)
def _copy_channels(lanes):
    """Each thread owns some channels of a pixel."""
    width, load, store = lanes.width, lanes.load, lanes.store

    def kernel(y, x):
        images, height, across, channels = x.shape
        n, h, w, part = pixel_part(height, across, channels // width)
        if n < images:
            store(y, (n, h, w, part * width), load(x, (n, h, w, part * width)))

    return kernel


def multiply(y, a, b):
    """y = a · b, element by element."""
    _multiply([y], [a, b])


@element_kernel(inputs=2)
def _multiply(a, b):
    return a * b


def scale_channels(y, x, gate):
    """y[n,h,w,c] = x[n,h,w,c] · gate[n,0,0,c]."""
    _scale_channels([y], [x], [gate[:, 0, 0]])


@element_kernel(tables=1)
def _scale_channels(x, factor):
    return x * factor
