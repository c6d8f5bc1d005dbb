"""What a plan asks of the reference device: it needs no scratch but what backward reads again, and fuses nothing."""

from numbacnn.kernels.reference.conv2d import CONV_ALGORITHMS as CONV_ALGORITHMS

fuses = False  # every layer is a step of its own
NOTHING = (0, 1, 1, 1)


def _nothing(*sizes):
    """Scratch that only faster algorithms need."""
    return NOTHING


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _nothing
partial_bias_shape = _nothing
batch_norm_partial_shape = batch_norm_gradient_shape = batch_norm_partial_gradient_shape = _nothing
group_norm_partial_shape = group_norm_gradient_shape = group_norm_partial_gradient_shape = _nothing


def batch_norm_pattern_shape(c):
    """The mean and the inverse deviation of each channel."""
    return 2, c


def group_norm_pattern_shape(n, c):
    """The mean and the inverse deviation of each image's groups, of which there are at most as many as channels."""
    return n, 2, c


def penalty_sums_shape(elements):
    """One sum."""
    return (1,)
