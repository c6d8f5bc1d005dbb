"""The launchers of Winograd's algorithm. On this device they run the direct product: shared memory brings it near the
arithmetic's limit, while the transforms would read and write memory several times.
"""

from numbacnn.kernels.cuda.conv.implicit_gemm import conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient
from numbacnn.kernels.registry import launcher


@launcher
def winograd_forward(y, x, w, b, packed, weights, tiles, g, relu=False, addend=None):
    """y as of ``conv2d_forward``. packed, weights, tiles: not used."""
    conv2d_forward(y, x, w, b, packed, g, relu, addend)


@launcher
def winograd_input_gradient(dx, dy, w, packed, weights, tiles, g, mask=None):
    """dx as of ``conv2d_input_gradient``. packed, weights, tiles: not used."""
    conv2d_input_gradient(dx, dy, w, packed, packed, g, mask)


@launcher
def winograd_weight_gradient(dw, x, dy, x_tiles, dy_tiles, products, g):
    """dw as of ``conv2d_weight_gradient``, whose scratch x_tiles is. dy_tiles, products: not used."""
    conv2d_weight_gradient(dw, x, dy, x_tiles, g)
