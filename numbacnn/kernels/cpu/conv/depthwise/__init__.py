"""Depthwise convolution and its two gradients, one vector of channels at a time.

Each channel has its own R·S weights, so there is no matrix product. Neighboring channels are contiguous and fill the
lanes instead.
"""

from numbacnn.kernels.convolution import WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cpu.conv.depthwise.weight_gradient import depthwise_weight_gradient, partial_depthwise_shape
from numbacnn.kernels.cpu.conv.depthwise.windows import depthwise_forward, depthwise_input_gradient
from numbacnn.kernels.cpu.conv.epilogues import (
    FUSED_ACTIVATIONS,
    activation_before_residual,
    add_residual,
    bias_or_none,
)


class Depthwise(ConvAlgorithm):
    """The algorithm for one filter per channel."""

    name = "depthwise"
    activations = FUSED_ACTIVATIONS

    def applies(self, direction, g, pool):
        """Whether there are several channels, each with its own filter."""
        return pool is None and g.groups == g.c == g.k > 1

    def scratch(self, direction, g, batch, pool=None):
        """Partial sums of the weight gradient."""
        return {"partial": Scratch(partial_depthwise_shape(g, batch))} if direction == WEIGHT_GRADIENT else {}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Sums over the window."""
        depthwise_forward(y, x, w, bias_or_none(b), g, activation_before_residual(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """Partial sums over groups of rows."""
        depthwise_weight_gradient(dw, x, dy, scratch["partial"], g)

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """Sums over the flipped window, phase by phase."""
        depthwise_input_gradient(dx, dy, w, g, epilogue.mask)
