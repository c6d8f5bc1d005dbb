"""Convolution in narrow groups and its two gradients, one vector of output channels at a time.

Groups of few channels, as in ResNeXt or in depthwise convolution with several filters per channel, would leave the
lanes of the GEMM microkernel empty, and every group would be a launch. Here the lanes are neighboring output channels
of any groups, and the microkernels are those of depthwise convolution. Before they run, a band of image rows is spread
into scratch, so that term t of an output's group is in the lane of the output:

    spread[row, t, pixel, lane] = x[row, pixel, group(lane) · terms + t]

The input gradient is the same with dy and the transposed weights of each group.
"""

from numbacnn.kernels.convolution import FORWARD, WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cpu.conv.epilogues import (
    FUSED_ACTIVATIONS,
    activation_before_residual,
    add_residual,
    bias_or_none,
)
from numbacnn.kernels.cpu.conv.grouped.bands import group_channels
from numbacnn.kernels.cpu.conv.grouped.weight_gradient import grouped_weight_gradient, partial_grouped_shape
from numbacnn.kernels.cpu.conv.grouped.windows import (
    forward_scratch_shape,
    gradient_scratch_shape,
    grouped_forward,
    grouped_input_gradient,
    transposed_shape,
)
from numbacnn.kernels.cpu.gemm.gemm import LANES


class Grouped(ConvAlgorithm):
    """The algorithm for groups of few channels."""

    name = "grouped"
    activations = FUSED_ACTIVATIONS

    def applies(self, direction, g, pool):
        """Whether groups fill less than half a register, but have more than one channel or filter.

        Wider groups gain nothing: each input is spread as often as there are terms.
        """
        return pool is None and g.groups > 1 and 1 < max(group_channels(g)) < LANES // 2

    def scratch(self, direction, g, batch, pool=None):
        """Bands, transposed weights, partial sums."""
        if direction == FORWARD:
            return {"bands": Scratch(forward_scratch_shape(g))}
        if direction == WEIGHT_GRADIENT:
            return {"partial": Scratch(partial_grouped_shape(g, batch))}
        return {"transposed": Scratch(transposed_shape(g)), "bands": Scratch(gradient_scratch_shape(g))}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Sums over windows of spread bands."""
        grouped_forward(y, x, w, bias_or_none(b), scratch["bands"], g, activation_before_residual(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """Partial sums over groups of spread bands."""
        grouped_weight_gradient(dw, x, dy, scratch["partial"], g)

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """Sums over flipped windows of spread bands."""
        grouped_input_gradient(dx, dy, w, scratch["transposed"], scratch["bands"], g, epilogue.mask)
