"""What a plan asks of the reference device: it needs no scratch but what backward reads again, and fuses nothing."""

fuses = False  # every layer is a step of its own
NOTHING = (0, 1, 1, 1)


def _nothing(*sizes):
    """Scratch that only faster algorithms need."""
    return NOTHING


packed_weights_shape = packed_gradient_shape = columns_shape = partial_weights_shape = _nothing
dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _nothing
maxima_image_shape = maxima_packed_shape = maxima_partial_shape = maxima_places_shape = _nothing
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


def pool_fuses(g, pool):
    """Whether a convolution takes the maxima of its own output: no."""
    return False


def maxima_apply(g, pool):
    """Whether a convolution's gradients come from the maxima: no."""
    return False


def winograd_filtering(g, algorithm):
    """Winograd's algorithm for this convolution: none, whatever is asked for."""
    return None


def winograd_shapes(*sizes):
    """Its scratch: none."""
    return (NOTHING,) * 3


winograd_gradient_shapes = winograd_shapes
