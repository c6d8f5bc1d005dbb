"""Convolution and its two gradients as implicit GEMMs: no im2col, and no other algorithm but depthwise on this device.

With shared memory, GEMM is nearly compute-bound, while Winograd's transforms would read and write global memory several
times.
"""

from functools import lru_cache

from numbacnn.kernels.convolution import WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cuda.formulas import LAUNCHERS
from numbacnn.kernels.cuda.gemm.descriptor import Epilogue, Gemm, Operand, Output, Strides, layout, loop_nest
from numbacnn.kernels.cuda.gemm.gemm import multiply, split_count
from numbacnn.kernels.cuda.sums import sum_parts
from numbacnn.kernels.phases import axis_phases

COLUMN = Strides(0, 0, 1)  # of contiguous columns of B


class ImplicitGemm(ConvAlgorithm):
    """Applies to every convolution."""

    name = "implicit GEMM"

    def scratch(self, direction, g, batch, pool=None):
        """Partial sums of the weight gradient, if there are several."""
        splits = weight_splits(g, batch) if direction == WEIGHT_GRADIENT else 1
        return {"partial": Scratch((splits, 1, g.r * g.s * (g.c // g.groups), g.k))} if splits > 1 else {}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """One GEMM, whose rows are output pixels."""
        gemm_forward(y, x, w, b, g, relu_first(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """One GEMM, whose k are output pixels, split by the shape alone; the partial sums are added in order."""
        splits = weight_splits(g, len(x))
        if splits == 1:
            gemm_weight_gradient(dw, x, dy, g)
        else:
            partial = scratch["partial"][:splits]
            gemm_weight_gradient(partial, x, dy, g, splits)
            sum_parts(dw.reshape(-1), partial.reshape(splits, -1))

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """One GEMM for each phase."""
        gemm_input_gradient(dx, dy, w, g, epilogue.mask)


def relu_first(epilogue):
    """Return whether the convolution applies ReLU itself: not before a residual is added."""
    return epilogue.relu and epilogue.residual is None


def add_residual(y, epilogue):
    """Add the residual, if there is one, and apply the ReLU after it."""
    if epilogue.residual is not None:
        LAUNCHERS["add_relu_in_place" if epilogue.relu else "add_in_place"](y, epilogue.residual)


# -- forward ----------------------------------------------------------------------------------------------------------


def gemm_forward(y, x, w, b, g, relu=False):
    """Write y as ``ConvAlgorithm.forward`` does, then apply ReLU if asked."""
    gemm = _forward(g, len(y), layout(y), layout(x), w.offset)
    multiply(y, x, w, gemm._replace(epilogue=Epilogue(-1 if b is None else b.offset, relu)), bias=b)


@lru_cache(maxsize=1024)
def _forward(g, images, y, x, w_offset):
    channels, filters = g.c // g.groups, g.k // g.groups
    return Gemm(
        groups=g.groups,
        splits=1,
        m=loop_nest(images, g.p, g.q),
        n=filters,
        k=loop_nest(g.r, g.s, channels),
        a=Operand(
            x.offset - g.pad_top * x.row - g.pad_left * x.pixel,
            channels,
            Strides(x.image, g.stride_h * x.row, g.stride_w * x.pixel),
            Strides(g.dilation_h * x.row, g.dilation_w * x.pixel, 1),
        ),
        b=Operand(w_offset, filters, COLUMN, _tap_strides(g)),
        c=Output(y.offset, filters, 0, Strides(y.image, y.row, y.pixel)),
    )


def _tap_strides(g):
    """Return the strides of w by row, column and channel of the window."""
    return Strides(g.s * (g.c // g.groups) * g.k, g.c // g.groups * g.k, g.k)


# -- input gradient ---------------------------------------------------------------------------------------------------


def gemm_input_gradient(dx, dy, w, g, mask=None):
    """Write dx as ``ConvAlgorithm.input_gradient`` does."""
    arrays = layout(dx), layout(dy), w.offset, None if mask is None else layout(mask)
    for gemm in _input_gradients(g, len(dx), *arrays):
        multiply(dx, dy, w, gemm, mask=mask)


@lru_cache(maxsize=1024)
def _input_gradients(g, images, *arrays):
    """Return a GEMM for each phase: the pixels of dx with the same remainder by the stride, which use the same taps."""
    down = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    across = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    return [_phase(g, row, column, images, *arrays) for row in down for column in across]


def _phase(g, row, column, images, dx, dy, w_offset, mask):
    """Return the GEMM of one phase; ``row`` and ``column`` are the ``Taps`` of its rows and of its columns."""
    channels, filters, w = g.c // g.groups, g.k // g.groups, _tap_strides(g)

    def pixels_of(x):
        """Return the offset and the strides of the pixels of the phase."""
        offset = x.offset + row.phase * x.row + column.phase * x.pixel
        return offset, Strides(x.image, g.stride_h * x.row, g.stride_w * x.pixel)

    dx_offset, dx_strides = pixels_of(dx)
    epilogue = Epilogue() if mask is None else Epilogue(-1, False, *pixels_of(mask))
    return Gemm(
        groups=g.groups,
        splits=1,
        m=loop_nest(images, row.pixels, column.pixels),
        n=channels,
        k=loop_nest(row.taps, column.taps, filters),
        a=Operand(
            dy.offset + row.first_output * dy.row + column.first_output * dy.pixel,
            filters,
            Strides(dy.image, dy.row, dy.pixel),
            Strides(row.output_step * dy.row, column.output_step * dy.pixel, 1),
        ),
        b=Operand(
            w_offset + row.first_tap * w.outer + column.first_tap * w.middle,
            filters,
            Strides(0, 0, w.inner),
            Strides(row.tap_step * w.outer, column.tap_step * w.middle, 1),
        ),
        c=Output(dx_offset, channels, 0, dx_strides),
        epilogue=epilogue,
    )


# -- weight gradient --------------------------------------------------------------------------------------------------


def gemm_weight_gradient(target, x, dy, g, splits=1):
    """Write dw, or ``splits`` partial sums: target is splits × R × S × C/groups × K."""
    multiply(target, x, dy, _weight_gradient(g, len(x), splits, target.offset, layout(x), layout(dy)))


@lru_cache(maxsize=1024)
def _weight_gradient(g, images, splits, dw_offset, x, dy):
    channels, filters = g.c // g.groups, g.k // g.groups
    return Gemm(
        groups=g.groups,
        splits=splits,
        m=loop_nest(g.r, g.s, channels),
        n=filters,
        k=loop_nest(images, g.p, g.q),
        a=Operand(
            x.offset - g.pad_top * x.row - g.pad_left * x.pixel,
            channels,
            Strides(g.dilation_h * x.row, g.dilation_w * x.pixel, 1),
            Strides(x.image, g.stride_h * x.row, g.stride_w * x.pixel),
        ),
        b=Operand(dy.offset, filters, COLUMN, Strides(dy.image, dy.row, dy.pixel)),
        c=Output(dw_offset, filters, g.r * g.s * channels * g.k, _tap_strides(g)),
    )


def weight_splits(g, images):
    """Return the number of parts that the pixels of a weight gradient are cut into."""
    channels, filters = g.c // g.groups, g.k // g.groups
    return split_count(g.r * g.s * channels, filters, g.groups, images * g.p * g.q)
