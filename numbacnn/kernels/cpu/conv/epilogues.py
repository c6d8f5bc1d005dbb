"""Bias, residual and mask of convolutions; separate launches apply those that the algorithm's kernel cannot."""

from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.gemm.gemm import NO_AUX, NO_BIAS
from numbacnn.kernels.cpu.simd.activations import BITS

FUSED_ACTIVATIONS = frozenset(BITS)  # of algorithms on the microkernels


def bias_or_none(b):
    """b, or an empty array for None."""
    return NO_BIAS if b is None else b


def aux_or_none(array):
    """A residual or mask, or an empty array for None."""
    return NO_AUX if array is None else array


def activation_bit(epilogue):
    """The bit of ``simd.activations`` of the epilogue's activation, 0 for none."""
    return 0 if epilogue.activation is None else BITS[epilogue.activation]


def activation_before_residual(epilogue):
    """The bit of the activation that the convolution's kernel applies: 0 if a residual must be added first."""
    return activation_bit(epilogue) if epilogue.residual is None else 0


def add_residual(y, epilogue):
    """Add the residual, if there is one, and apply the ReLU after it."""
    if epilogue.residual is not None:
        LAUNCHERS["add_relu_in_place" if epilogue.relu else "add_in_place"](y, epilogue.residual)


def apply_mask(dx, epilogue):
    """Zero dx wherever the mask, if there is one, is 0 or less."""
    if epilogue.mask is not None:
        LAUNCHERS["relu_gradient_in_place"](dx, epilogue.mask)
