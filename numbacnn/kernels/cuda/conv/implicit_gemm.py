"""Convolution and its two gradients as implicit GEMMs: no im2col, and no other algorithm but depthwise on this device.

Shared memory brings the products near the limit of arithmetic, while Winograd's transforms would read and write memory
several times.
"""

from functools import lru_cache

from numbacnn.kernels.convolution import WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cuda.formulas import LAUNCHERS
from numbacnn.kernels.cuda.gemm.gemm import launch_product, split_count
from numbacnn.kernels.cuda.gemm.operands import Product, axes
from numbacnn.kernels.cuda.sums import sum_parts
from numbacnn.kernels.phases import axis_phases


class ImplicitGemm(ConvAlgorithm):
    """Applies to every convolution."""

    name = "implicit GEMM"

    def scratch(self, direction, g, batch, pool=None):
        """Partial sums of the weight gradient, empty if there is one."""
        splits = weight_splits(g, batch) if direction == WEIGHT_GRADIENT else 1
        return {"partial": Scratch((splits, 1, g.r * g.s * (g.c // g.groups), g.k))} if splits > 1 else {}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """One GEMM whose rows are output pixels."""
        gemm_forward(y, x, w, b, g, relu_first(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """One GEMM whose terms are output pixels, cut into parts by the shape alone; their sums are added in order."""
        splits = weight_splits(g, len(x))
        if splits == 1:
            gemm_weight_gradient(dw, x, dy, g)
        else:
            partial = scratch["partial"][:splits]
            gemm_weight_gradient(partial, x, dy, g, splits)
            sum_parts(dw.reshape(-1), partial.reshape(splits, -1))

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """One GEMM per phase."""
        gemm_input_gradient(dx, dy, w, g, epilogue.mask)


def relu_first(epilogue):
    """Whether the convolution itself applies ReLU: not if a residual is added before."""
    return epilogue.relu and epilogue.residual is None


def add_residual(y, epilogue):
    """Add the residual, if there is one, and apply the ReLU after it."""
    if epilogue.residual is not None:
        LAUNCHERS["add_relu_in_place" if epilogue.relu else "add_in_place"](y, epilogue.residual)


# -- forward ----------------------------------------------------------------------------------------------------------


def gemm_forward(y, x, w, b, g, relu=False):
    """Write y as ``ConvAlgorithm.forward`` does, rectified if asked."""
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


def gemm_input_gradient(dx, dy, w, g, mask=None):
    """Write dx as ``ConvAlgorithm.input_gradient`` does."""
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


def gemm_weight_gradient(target, x, dy, g, splits=1):
    """Write dw, or ``splits`` partial sums: target is splits × R × S × C/groups × K."""
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


def _elements(strides):
    """Strides of the first three axes in floats."""
    return strides[0] // 4, strides[1] // 4, strides[2] // 4
