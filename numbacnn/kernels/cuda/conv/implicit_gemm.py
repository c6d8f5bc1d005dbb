"""Convolution and its two gradients, each a product of ``product.py``. Oracle: ``tests/reference.py``.

The CPU's other algorithms are not repeated: scratch that they need is empty here, see ``sizes.py``.
"""

from functools import lru_cache

from numbacnn.kernels.cuda.conv import depthwise
from numbacnn.kernels.cuda.formulas import LAUNCHERS
from numbacnn.kernels.cuda.gemm.gemm import launch_product, split_count
from numbacnn.kernels.cuda.gemm.operands import Product, axes
from numbacnn.kernels.cuda.sums import sum_parts
from numbacnn.kernels.phases import axis_phases
from numbacnn.kernels.registry import launcher

# -- forward ----------------------------------------------------------------------------------------------------------


@launcher
def conv2d_forward(y, x, w, b, packed, g, relu=False, addend=None):
    """y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k], plus the addend,
    then ReLU if asked.

    y, addend: N×P×Q×K, or addend None; x: N×H×W×C inside a halo of zeros (``g.input_halo``); w: R×S×C/groups×K; b: K
    or None; packed: not used.
    """
    if addend is not None:
        conv2d_forward(y, x, w, b, packed, g)
        LAUNCHERS["add_relu_in_place" if relu else "add_in_place"](y, addend)
        return
    if depthwise.applies(g):
        depthwise.depthwise_forward(y, x, w, b, g, relu)
        return
    rows, terms, product = _forward_product(g, len(y), x.offset, x.strides, w.offset, y.offset, y.strides)
    product = product._replace(bias_offset=-1 if b is None else b.offset, relu=int(relu))
    bias = y if b is None else b
    launch_product(y.flat(), x.flat(), w.flat(), bias.flat(), y.flat(), rows, terms, product)


@lru_cache(maxsize=1024)
def _forward_product(g, images, x_offset, x_strides, w_offset, y_offset, y_strides):
    x_image, x_row, x_pixel = _elements(x_strides)
    y_image, y_row, y_pixel = _elements(y_strides)
    channels, filters = g.c // g.groups, g.k // g.groups
    product = Product(
        columns=filters,
        groups=g.groups,
        splits=1,
        a_offset=x_offset - g.pad_top * x_row - g.pad_left * x_pixel,
        a_group=channels,
        a_row_0=x_image,
        a_row_1=g.stride_h * x_row,
        a_row_2=g.stride_w * x_pixel,
        a_step_0=g.dilation_h * x_row,
        a_step_1=g.dilation_w * x_pixel,
        a_step_2=1,
        b_offset=w_offset,
        b_group=filters,
        b_column=1,
        b_step_0=g.s * channels * g.k,
        b_step_1=channels * g.k,
        b_step_2=g.k,
        c_offset=y_offset,
        c_group=filters,
        c_split=0,
        c_row_0=y_image,
        c_row_1=y_row,
        c_row_2=y_pixel,
    )
    return axes(images, g.p, g.q), axes(g.r, g.s, channels), product


# -- input gradient ---------------------------------------------------------------------------------------------------


@launcher
def conv2d_input_gradient(dx, dy, w, packed, columns, g, mask=None):
    """dx[n,h,w,c] = Σ_rsk dy[n,p,q,k] · w[r,s,c,k] over p·stride + r·dilation = h + pad, and likewise q.

    dx: N×H×W×C; dy: N×P×Q×K inside a halo of zeros (``g.gradient_halo``); packed, columns: not used. Where ``mask``,
    N×H×W×C, is given, dx is zero wherever it is 0 or less: the gradient of a ReLU whose output it is.
    """
    if depthwise.applies(g):
        depthwise.depthwise_input_gradient(dx, dy, w, g, mask)
        return
    place = None if mask is None else (mask.offset, mask.strides)
    shapes = len(dx), dx.offset, dx.strides, dy.offset, dy.strides, w.offset, place
    mask = dx if mask is None else mask
    for rows, terms, product in _input_gradient_products(g, *shapes):
        launch_product(dx.flat(), dy.flat(), w.flat(), dx.flat(), mask.flat(), rows, terms, product)


@lru_cache(maxsize=1024)
def _input_gradient_products(g, images, dx_offset, dx_strides, dy_offset, dy_strides, w_offset, mask):
    """Pixels of dx with the same remainder by the stride see the same taps: each such phase is one product."""
    down = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    across = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    places = images, dx_offset, dx_strides, dy_offset, dy_strides, w_offset, mask
    return [_phase_product(g, row, column, *places) for row in down for column in across]


def _phase_product(g, row, column, images, dx_offset, dx_strides, dy_offset, dy_strides, w_offset, mask):
    dx_image, dx_row, dx_pixel = _elements(dx_strides)
    dy_image, dy_row, dy_pixel = _elements(dy_strides)
    channels, filters = g.c // g.groups, g.k // g.groups
    w_row, w_column = g.s * channels * g.k, channels * g.k
    product = Product(
        columns=channels,
        groups=g.groups,
        splits=1,
        a_offset=dy_offset + row.first_output * dy_row + column.first_output * dy_pixel,
        a_group=filters,
        a_row_0=dy_image,
        a_row_1=dy_row,
        a_row_2=dy_pixel,
        a_step_0=row.output_step * dy_row,
        a_step_1=column.output_step * dy_pixel,
        a_step_2=1,
        b_offset=w_offset + row.first_tap * w_row + column.first_tap * w_column,
        b_group=filters,
        b_column=g.k,
        b_step_0=row.tap_step * w_row,
        b_step_1=column.tap_step * w_column,
        b_step_2=1,
        c_offset=dx_offset + row.phase * dx_row + column.phase * dx_pixel,
        c_group=channels,
        c_split=0,
        c_row_0=dx_image,
        c_row_1=g.stride_h * dx_row,
        c_row_2=g.stride_w * dx_pixel,
    )
    if mask is not None:
        mask_offset, (mask_image, mask_row, mask_pixel) = mask[0], _elements(mask[1])
        product = product._replace(
            mask_offset=mask_offset + row.phase * mask_row + column.phase * mask_pixel,
            mask_row_0=mask_image,
            mask_row_1=g.stride_h * mask_row,
            mask_row_2=g.stride_w * mask_pixel,
        )
    return axes(images, row.pixels, column.pixels), axes(row.taps, column.taps, filters), product


# -- weight gradient --------------------------------------------------------------------------------------------------


@launcher
def conv2d_weight_gradient(dw, x, dy, partial, g):
    """dw[r,s,c,k] = Σ_npq x[n, p·stride + r·dilation, q·stride + s·dilation, c] · dy[n,p,q,k].

    dw: R×S×C/groups×K; x and dy as in the forward pass; partial: scratch of ``partial_weights_shape(g, N)``: pixels are
    cut into parts, by the shape alone, whose sums are added in order.
    """
    if depthwise.applies(g):
        depthwise.depthwise_weight_gradient(dw, x, dy, partial, g)
        return
    splits = weight_splits(g, len(x))
    if splits == 1:
        weight_gradient_in_one(dw, x, dy, g)
        return
    _weight_gradient(partial, x, dy, g, splits)
    sum_parts(dw.reshape(-1), partial[:splits].reshape(splits, -1))


def weight_gradient_in_one(dw, x, dy, g):
    """dw as above, each element summed by one thread."""
    _weight_gradient(dw, x, dy, g, 1)


def _weight_gradient(target, x, dy, g, splits):
    """target: splits × R × S × C/groups × K."""
    rows, terms, product = _weight_gradient_product(
        g, len(x), splits, target.offset, x.offset, x.strides, dy.offset, dy.strides
    )
    launch_product(target.flat(), x.flat(), dy.flat(), target.flat(), target.flat(), rows, terms, product)


@lru_cache(maxsize=1024)
def _weight_gradient_product(g, images, splits, dw_offset, x_offset, x_strides, dy_offset, dy_strides):
    x_image, x_row, x_pixel = _elements(x_strides)
    dy_image, dy_row, dy_pixel = _elements(dy_strides)
    channels, filters = g.c // g.groups, g.k // g.groups
    product = Product(
        columns=filters,
        groups=g.groups,
        splits=splits,
        a_offset=x_offset - g.pad_top * x_row - g.pad_left * x_pixel,
        a_group=channels,
        a_row_0=g.dilation_h * x_row,
        a_row_1=g.dilation_w * x_pixel,
        a_row_2=1,
        a_step_0=x_image,
        a_step_1=g.stride_h * x_row,
        a_step_2=g.stride_w * x_pixel,
        b_offset=dy_offset,
        b_group=filters,
        b_column=1,
        b_step_0=dy_image,
        b_step_1=dy_row,
        b_step_2=dy_pixel,
        c_offset=dw_offset,
        c_group=filters,
        c_split=g.r * g.s * channels * g.k,
        c_row_0=g.s * channels * g.k,
        c_row_1=channels * g.k,
        c_row_2=g.k,
    )
    return axes(g.r, g.s, channels), axes(images, g.p, g.q), product


def weight_splits(g, images):
    """Into how many parts the pixels of a weight gradient are cut."""
    channels, filters = g.c // g.groups, g.k // g.groups
    return split_count(g.r * g.s * channels, filters, g.groups, images * g.p * g.q)


def partial_weights_shape(g, images):
    """Scratch of the weight gradient: parts × R·S·C/groups × K; empty where there is one."""
    parts = depthwise.weight_parts(g, images) if depthwise.applies(g) else weight_splits(g, images)
    return (parts if parts > 1 else 0, 1, g.r * g.s * (g.c // g.groups), g.k)


def _elements(strides):
    """Strides of the first three axes in floats."""
    return strides[0] // 4, strides[1] // 4, strides[2] // 4
