"""The launchers of convolution and its two gradients, which choose an algorithm for the geometry."""

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv import blocked, col2im, pixel_pairs
from numbacnn.kernels.cpu.conv.depthwise import weight_gradient as depthwise_weight
from numbacnn.kernels.cpu.conv.depthwise import windows as depthwise
from numbacnn.kernels.cpu.conv.direct.forward import direct_forward, packed_shape
from numbacnn.kernels.cpu.conv.direct.input_gradient import direct_input_gradient
from numbacnn.kernels.cpu.conv.direct.input_gradient import packed_gradient_shape as direct_packed_gradient_shape
from numbacnn.kernels.cpu.conv.direct.loops import group_slices, one_group
from numbacnn.kernels.cpu.conv.direct.weight_gradient import direct_weight_gradient, partial_shape
from numbacnn.kernels.cpu.conv.grouped import bands
from numbacnn.kernels.cpu.conv.grouped import weight_gradient as grouped_weight
from numbacnn.kernels.cpu.conv.grouped import windows as grouped
from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.gemm.gemm import NO_BIAS, NR
from numbacnn.kernels.registry import launcher


@launcher
def conv2d_forward(y, x, w, b, packed, g, relu=False, addend=None):
    """y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k], plus the addend,
    then ReLU if asked.

    y, addend: N×P×Q×K, or addend None; x: N×H×W×C inside a halo of zeros (``g.input_halo``); w: R×S×C/groups×K; b: K
    or None; packed: scratch of ``packed_weights_shape(g)``.
    """
    bias = NO_BIAS if b is None else b
    if addend is not None and (g.groups > 1 or pixel_pairs.applies(g)):
        conv2d_forward(y, x, w, b, packed, g)
        LAUNCHERS["add_relu_in_place" if relu else "add_in_place"](y, addend)
    elif is_depthwise(g):
        depthwise.depthwise_forward(y, x, w, bias, g, relu)
    elif bands.applies(g):
        grouped.grouped_forward(y, x, w, bias, packed, g, relu)
    elif pixel_pairs.applies(g):
        pixel_pairs.pairs_forward(y, x, w, bias, packed, g, relu)
    else:
        direct_forward(y, x, w, bias, packed, g, relu, addend)


@launcher
def conv2d_weight_gradient(dw, x, dy, partial, g):
    """dw[r,s,c,k] = Σ_npq x[n, p·stride + r·dilation, q·stride + s·dilation, c] · dy[n,p,q,k].

    dw: R×S×C/groups×K; x and dy as in the forward pass; partial: scratch of ``partial_weights_shape(g, N)``.
    """
    if is_depthwise(g):
        depthwise_weight.depthwise_weight_gradient(dw, x, dy, partial, g)
    elif bands.applies(g):
        grouped_weight.grouped_weight_gradient(dw, x, dy, partial, g)
    elif pixel_pairs.applies(g):
        pixel_pairs.pairs_weight_gradient(dw, x, dy, partial, g)
    elif g.groups == 1:
        _weight_gradient(dw, x, dy, partial, g)
    else:
        for x_part, dy_part, k in group_slices(x, dy, g):
            _weight_gradient(dw[..., k], x_part, dy_part, partial, one_group(g))


def _weight_gradient(dw, x, dy, partial, g):
    if partial.size and blocked.applies(g):
        blocked.blocked_weight_gradient(dw, x, dy, partial, g)
    else:
        direct_weight_gradient(dw, x, dy, partial, g)


@launcher
def conv2d_input_gradient(dx, dy, w, packed, columns, g, mask=None):
    """dx[n,h,w,c] = Σ_rsk dy[n,p,q,k] · w[r,s,c,k] over p·stride + r·dilation = h + pad, and likewise q.

    dx: N×H×W×C; dy: N×P×Q×K inside a halo of zeros (``g.gradient_halo``); packed, columns: scratch of
    ``packed_gradient_shape(g)`` and ``columns_shape(g, N)``. Where ``mask``, N×H×W×C, is given, dx is zero wherever it
    is 0 or less: the gradient of a ReLU whose output it is.
    """
    if is_depthwise(g):
        depthwise.depthwise_input_gradient(dx, dy, w, g, mask)
    elif bands.applies(g):
        grouped.grouped_input_gradient(dx, dy, w, packed, columns, g, mask)
    elif columns.size:
        col2im.col2im_input_gradient(dx, dy, w, packed, columns, g)
        if mask is not None:
            LAUNCHERS["relu_gradient_in_place"](dx, mask)
    else:
        direct_input_gradient(dx, dy, w, packed, g, mask)


def packed_weights_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the forward pass."""
    if bands.applies(g):
        return grouped.forward_scratch_shape(g)
    if pixel_pairs.applies(g):
        return pixel_pairs.forward_scratch_shape(g)
    return packed_shape(g)


def partial_weights_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient."""
    if is_depthwise(g):
        return depthwise_weight.partial_depthwise_shape(g, images)
    if bands.applies(g):
        return grouped_weight.partial_grouped_shape(g, images)
    if pixel_pairs.applies(g):
        return pixel_pairs.partial_pairs_shape(g, images)
    one = one_group(g)
    return blocked.scratch_shape(one, images) if blocked.applies(one) else partial_shape(g, images)


def packed_gradient_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the input gradient."""
    if is_depthwise(g):
        return (0, 1, 1, NR)
    if bands.applies(g):
        return grouped.transposed_shape(g)
    if col2im.applies(g):
        return col2im.packed_columns_shape(g)
    return direct_packed_gradient_shape(g)


def columns_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """More scratch of the input gradient."""
    if bands.applies(g):
        return grouped.gradient_scratch_shape(g)
    return col2im.columns_shape(g, images)


def is_depthwise(g: ConvGeometry) -> bool:
    """Whether each of several channels has one filter of its own."""
    return g.groups == g.c == g.k > 1
