"""Bias, residual and mask of convolutions; separate launches apply those that the algorithm's kernel cannot."""

from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.gemm.gemm import NO_AUX, NO_BIAS


def bias_or_none(b):
    """b, or an empty array for None."""
    return NO_BIAS if b is None else b


def aux_or_none(array):
    """A residual or mask, or an empty array for None."""
    return NO_AUX if array is None else array


def relu_first(epilogue):
    """Whether the convolution's kernel applies ReLU: not if a residual must be added first."""
    return epilogue.relu and epilogue.residual is None


def add_residual(y, epilogue):
    """Add the residual, if there is one, and apply the ReLU after it."""
    if epilogue.residual is not None:
        LAUNCHERS["add_relu_in_place" if epilogue.relu else "add_in_place"](y, epilogue.residual)


def apply_mask(dx, epilogue):
    """Zero dx wherever the mask, if there is one, is 0 or less."""
    if epilogue.mask is not None:
        LAUNCHERS["relu_gradient_in_place"](dx, epilogue.mask)
