"""The twins of the CPU's kernels for NVIDIA GPUs."""

# Launchers of kernels.cpu that have no twin here yet.
NOT_YET = frozenset(
    {
        "adam_update",
        "add_in_place",
        "average_pool_forward",
        "average_pool_gradient",
        "bias_gradient",
        "clear_halo",
        "conv2d_forward",
        "conv2d_input_gradient",
        "conv2d_pool_forward",
        "conv2d_weight_gradient",
        "copy",
        "cross_entropy_labels",
        "cross_entropy_probabilities",
        "dense_forward",
        "dense_input_gradient",
        "dense_weight_gradient",
        "max_pool_forward",
        "max_pool_gradient",
        "maxima_input_gradient",
        "maxima_weight_gradient",
        "mean_squared_error",
        "normalize_bytes",
        "normalize_floats",
        "relu_forward",
        "relu_gradient_in_place",
        "sgd_update",
        "sigmoid_forward",
        "sigmoid_gradient_in_place",
        "softmax_forward",
        "softmax_gradient",
        "tanh_forward",
        "tanh_gradient_in_place",
    }
)
