"""Scratch that the CUDA kernels need: functions from geometry to shapes, which a plan calls before arrays exist."""

from numbacnn.kernels.cuda.conv.algorithms import CONV_ALGORITHMS as CONV_ALGORITHMS
from numbacnn.kernels.cuda.norm.channels import partial_shape, pattern_shape
from numbacnn.kernels.cuda.penalties import penalty_sums_shape as penalty_sums_shape
from numbacnn.kernels.cuda.sums import partial_bias_shape as partial_bias_shape

fuses = True  # plans compute several layers in one step if kernels can


def batch_norm_pattern_shape(c):
    """Scratch of forward, and the statistics it saves: three numbers for each channel."""
    return pattern_shape(1, 3, c)


def batch_norm_partial_shape(n, h, w, c):
    """Scratch for the sums of forward."""
    return partial_shape(1, n * h * w, 3, c)


def batch_norm_gradient_shape(c):
    """Scratch of backward: four numbers for each channel."""
    return pattern_shape(1, 4, c)


def batch_norm_partial_gradient_shape(n, h, w, c):
    """Scratch for the sums of backward."""
    return partial_shape(1, n * h * w, 2, c)


def group_norm_pattern_shape(n, c):
    """Scratch of forward, and the statistics it saves: three numbers for each image and channel."""
    return pattern_shape(n, 3, c)


def group_norm_partial_shape(n, h, w, c):
    """Scratch for the sums of forward."""
    return partial_shape(n, h * w, 3, c)


def group_norm_gradient_shape(n, c):
    """Scratch of backward: four numbers for each image and channel."""
    return pattern_shape(n, 4, c)


def group_norm_partial_gradient_shape(n, h, w, c):
    """Scratch for the sums of backward."""
    return partial_shape(n, h * w, 2, c)


def _empty(*sizes: int) -> tuple[int, int, int, int]:
    """No scratch: weights are not packed on this device."""
    return (0, 1, 1, 1)


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _empty
