"""The scratch of the reference kernels, as functions of geometry: only values that backward reads. Nothing is fused."""

from numbacnn.kernels.reference.conv2d import CONV_ALGORITHMS as CONV_ALGORITHMS

fuses = False  # every layer is a separate step
SHARDS_AT_ONCE = 0  # kernels do not add shards


def _empty(*sizes):
    """The shape of scratch that only faster algorithms need."""
    return 0, 1, 1, 1


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _empty
partial_bias_shape = norm_partial_shape = _empty


def norm_coefficients_shape(sets, numbers, c):
    """The shape of statistics and parameters: of the batch or of each image, for up to c channels or groups."""
    return sets, 4, c


def penalty_sums_shape(elements):
    """The shape of one sum."""
    return (1,)
