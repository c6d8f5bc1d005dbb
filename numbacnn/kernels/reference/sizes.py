"""The scratch of the reference kernels, as functions of geometry: only values that backward reads. Nothing is fused."""

from numbacnn.kernels.reference.conv2d import CONV_ALGORITHMS as CONV_ALGORITHMS

fuses = False  # every layer is a separate step


def _empty(*sizes):
    """The shape of scratch that only faster algorithms need."""
    return 0, 1, 1, 1


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _empty
partial_bias_shape = _empty
batch_norm_partial_shape = batch_norm_gradient_shape = batch_norm_partial_gradient_shape = _empty
group_norm_partial_shape = group_norm_gradient_shape = group_norm_partial_gradient_shape = _empty


def batch_norm_pattern_shape(c):
    """The shape of the means and inverse deviations of the channels."""
    return 2, c


def group_norm_pattern_shape(n, c):
    """The shape of the means and inverse deviations of each image's groups, of which there are at most c."""
    return n, 2, c


def penalty_sums_shape(elements):
    """The shape of one sum."""
    return (1,)
