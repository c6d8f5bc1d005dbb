"""Direct convolution and its two gradients, as GEMMs without im2col.

With a halo of zeros around each image, an output pixel's inputs are S·C contiguous floats (NHWC) for each row of the
window. A convolution is then a product of matrices whose rows overlap in memory, without copies or bounds checks.
"""

from math import prod

from numbacnn.kernels.convolution import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, ConvAlgorithm, Cost, Scratch
from numbacnn.kernels.cpu.conv.direct.forward import direct_forward, packed_shape
from numbacnn.kernels.cpu.conv.direct.input_gradient import direct_input_gradient, packed_gradient_shape
from numbacnn.kernels.cpu.conv.direct.loops import group_slices, one_group
from numbacnn.kernels.cpu.conv.direct.weight_gradient import (
    direct_weight_gradient,
    partial_shape,
    sharded_weight_gradient,
    shards_at_once,
)
from numbacnn.kernels.cpu.conv.epilogues import (
    FUSED_ACTIVATIONS,
    activation_before_residual,
    activation_bit,
    add_residual,
    bias_or_none,
)

SMALLEST_VECTOR = 8  # floats: half of the longest one, since the choice must not depend on the processor's


class Direct(ConvAlgorithm):
    """Applies to every convolution."""

    name = "direct"
    activations = FUSED_ACTIVATIONS

    def scratch(self, direction, g, batch, pool=None):
        """Packed weights, or partial sums."""
        if direction == FORWARD:
            return {"packed": Scratch(packed_shape(g), prepared=g.groups == 1)}
        if direction == WEIGHT_GRADIENT:
            return {"partial": Scratch(partial_shape(g, batch))}
        return {"packed": Scratch(packed_gradient_shape(g))}

    def cost(self, direction, g, batch, pool=None):
        """The products of half vectors; and packed weights and partial sums, which are written and read."""
        one = one_group(g)
        outputs, weights = one.c if direction == INPUT_GRADIENT else one.k, g.r * g.s * one.c * g.k
        between = {
            FORWARD: 0 if g.groups == 1 else weights,  # those of a single group are packed once
            WEIGHT_GRADIENT: prod(partial_shape(g, batch)) * g.groups,
            INPUT_GRADIENT: weights,
        }
        flops = batch * g.flops * -(-outputs // SMALLEST_VECTOR) * SMALLEST_VECTOR // outputs
        return Cost(flops, super().cost(direction, g, batch).bytes + 2 * 4 * between[direction])

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """One GEMM per group of channels."""
        if g.groups == 1:
            activation = activation_bit(epilogue)
            direct_forward(y, x, w, bias_or_none(b), scratch["packed"], g, activation, epilogue.residual)
        else:
            direct_forward(y, x, w, bias_or_none(b), scratch["packed"], g, activation_before_residual(epilogue))
            add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """One GEMM per group of channels."""
        partial, one = scratch["partial"], one_group(g)
        for x_part, dy_part, k in group_slices(x, dy, g):
            if epilogue.shards:
                sharded_weight_gradient(dw[..., k], x_part, dy_part, partial, one, epilogue.shards)
            else:
                direct_weight_gradient(dw[..., k], x_part, dy_part, partial, one)

    def shards_at_once(self, g, batch, images):
        """Return the number of shards that scratch has room for."""
        return shards_at_once(g, batch, images)

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """One GEMM per phase and group of channels."""
        direct_input_gradient(dx, dy, w, scratch["packed"], g, epilogue.mask)
