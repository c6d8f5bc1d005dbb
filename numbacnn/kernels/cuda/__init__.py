"""The twins of the CPU's kernels for NVIDIA GPUs: the same launchers, with the same parameters and the same contract.

How a twin is written (``elementwise.py``, ``pool2d.py`` and ``softmax.py`` are the patterns):

- ``name(outputs, inputs, geometry)`` is plain Python that computes grids and launches kernels, nothing else, so that a
  recording of its launches can be replayed, and captured as a graph. Kernels, ``@cuda_kernel(types…)``, have names of
  their own and are launched by ``_kernel[blocks, threads](*arguments)``, or by ``recording.prepare(_kernel[…], …)``
  where they read parameters alone. Each compiles at its first launch, for the types that the decorator names.
- Arrays are ``DeviceArray``: slices, ``reshape`` of contiguous ones, ``rows()``. A kernel takes them as Numba arrays:
  ``float32_4d`` and ``float32_3d`` (rows N×H×(W·C)) of any strides, the others contiguous. Indices that are negative
  wrap around as in NumPy, so what lies in a halo before a view is not reached by them: test the bounds instead.
- ``cuda`` comes from ``shim``, never from Numba. One thread's work as its own function is a ``device_function``; maths
  of ``kernels.scalar`` goes through ``scalar_function``, a plain ``math.exp`` in a kernel is written ``MATHS.exp``,
  since the simulator has its own.
- What is done element by element is a function of numbers, ``@element_kernel``: see ``elements``. What reads pixels
  around others is written ``in_lanes``, for four channels at a time by loads of 16 bytes where ``width_of`` says that
  they lie so, and for one: see ``lanes``.
- ``over(count)`` is the grid for one thread to each item, which is ``cuda.grid(1)``; ``over_rows(x)`` that of
  elementwise work, whose threads ask ``place`` what is theirs. A kernel must be right for any number of threads in a
  block: the simulator has fewer (``jit.THREADS``). Divide and take remainders once for a thread, not for an element.
- Sums: no atomics. A block adds up its share in registers, in order, then by ``reduce.block_sum`` in a fixed tree;
  where one block would be too few, the shares of a number of blocks that the shape alone decides lie in scratch, and a
  second kernel adds them in order. Scratch shapes stand in ``sizes.py``, under the names of ``cpu/sizes.py``.
- Products go through ``product.launch_product``, which takes the precision that the device launches in; what needs
  newer hardware than the oldest says so by ``least_capability``, and a PTX instruction is a ``shim.instruction``, with
  its own form for the simulator.
- Constants are ``np.float32``: a Python float makes float64 of all it meets, which GPUs are slow at.
- A launcher that is done leaves ``NOT_YET``, and has rows in ``tests/cuda/twins.py``: they run it beside its twin on
  the CPU, on a GPU or in the simulator.
"""

from numbacnn.kernels.cuda.adaptive_pool2d import (
    adaptive_average_pool_forward,
    adaptive_average_pool_gradient,
    adaptive_max_pool_forward,
    adaptive_max_pool_gradient,
)
from numbacnn.kernels.cuda.augment import (
    add_noise_in_place,
    draw_field,
    draw_uniforms,
    fill_boxes_in_place,
    jitter_colors_in_place,
    mix_in_place,
    paste_boxes_in_place,
    round_to_bytes,
    warp_bilinear,
    warp_nearest,
)
from numbacnn.kernels.cuda.bias import (
    add_bias_in_place,
)
from numbacnn.kernels.cuda.conv.implicit_gemm import (
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_weight_gradient,
)
from numbacnn.kernels.cuda.conv.pooled import (
    conv2d_pool_forward,
    maxima_input_gradient,
    maxima_weight_gradient,
)
from numbacnn.kernels.cuda.conv.winograd import (
    winograd_forward,
    winograd_input_gradient,
    winograd_weight_gradient,
)
from numbacnn.kernels.cuda.dense import (
    dense_forward,
    dense_input_gradient,
    dense_weight_gradient,
)
from numbacnn.kernels.cuda.detection_loss import (
    detection,
)
from numbacnn.kernels.cuda.dropout import (
    dropout_forward,
    dropout_gradient_in_place,
    spatial_dropout_forward,
    spatial_dropout_gradient_in_place,
)
from numbacnn.kernels.cuda.elementwise import (
    activation_kernels,
    add,
    add_in_place,
    clear_halo,
    copy,
    copy_reshaped,
    elu_forward,
    elu_gradient_in_place,
    gelu_forward,
    gelu_gradient_in_place,
    gelu_tanh_forward,
    gelu_tanh_gradient_in_place,
    hardsigmoid_forward,
    hardsigmoid_gradient_in_place,
    hardswish_forward,
    hardswish_gradient_in_place,
    leaky_relu_forward,
    leaky_relu_gradient_in_place,
    normalize_bytes,
    normalize_floats,
    relu6_forward,
    relu6_gradient_in_place,
    relu_forward,
    relu_gradient_in_place,
    sigmoid_forward,
    sigmoid_gradient_in_place,
    silu_forward,
    silu_gradient_in_place,
    tanh_forward,
    tanh_gradient_in_place,
)
from numbacnn.kernels.cuda.losses import (
    binary_cross_entropy,
    cross_entropy_labels,
    cross_entropy_probabilities,
    dice,
    focal_labels,
    huber,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_focal,
)
from numbacnn.kernels.cuda.merging import (
    channel_dots,
    copy_channels,
    multiply,
    scale_channels,
)
from numbacnn.kernels.cuda.norm.batch_norm import (
    batch_norm_forward,
    batch_norm_gradient,
    batch_norm_inference,
    fold_batch_norm,
)
from numbacnn.kernels.cuda.norm.group_norm import (
    group_norm_forward,
    group_norm_gradient,
)
from numbacnn.kernels.cuda.norm.local_response import (
    local_response_norm_forward,
    local_response_norm_gradient,
)
from numbacnn.kernels.cuda.penalties import (
    add_penalty_in_place,
)
from numbacnn.kernels.cuda.pool2d import (
    average_pool_forward,
    average_pool_gradient,
    max_pool_forward,
    max_pool_gradient,
)
from numbacnn.kernels.cuda.prelu import (
    prelu_forward,
    prelu_gradient_in_place,
)
from numbacnn.kernels.cuda.roofline import (
    multiply_adds,
    triad,
)
from numbacnn.kernels.cuda.softmax import (
    softmax_forward,
    softmax_gradient,
)
from numbacnn.kernels.cuda.sums import (
    bias_gradient,
)
from numbacnn.kernels.cuda.update import (
    adagrad_update,
    adam_update,
    approach_in_place,
    blend,
    blend_in_place,
    clip_in_place,
    lamb_moments,
    lamb_update,
    rmsprop_update,
    scale_in_place,
    sgd_update,
    sum_squares,
    swap,
)
from numbacnn.kernels.cuda.upsample2d import (
    up_sample_bilinear_forward,
    up_sample_bilinear_gradient,
    up_sample_nearest_forward,
    up_sample_nearest_gradient,
)

__all__ = [
    "activation_kernels",
    "adagrad_update",
    "adam_update",
    "adaptive_average_pool_forward",
    "adaptive_average_pool_gradient",
    "adaptive_max_pool_forward",
    "adaptive_max_pool_gradient",
    "add",
    "add_bias_in_place",
    "add_in_place",
    "add_noise_in_place",
    "add_penalty_in_place",
    "approach_in_place",
    "average_pool_forward",
    "average_pool_gradient",
    "batch_norm_forward",
    "batch_norm_gradient",
    "batch_norm_inference",
    "bias_gradient",
    "binary_cross_entropy",
    "blend",
    "blend_in_place",
    "channel_dots",
    "clear_halo",
    "clip_in_place",
    "conv2d_forward",
    "conv2d_input_gradient",
    "conv2d_pool_forward",
    "conv2d_weight_gradient",
    "copy",
    "copy_channels",
    "copy_reshaped",
    "cross_entropy_labels",
    "cross_entropy_probabilities",
    "dense_forward",
    "dense_input_gradient",
    "dense_weight_gradient",
    "detection",
    "dice",
    "draw_field",
    "draw_uniforms",
    "dropout_forward",
    "dropout_gradient_in_place",
    "elu_forward",
    "elu_gradient_in_place",
    "fill_boxes_in_place",
    "focal_labels",
    "fold_batch_norm",
    "gelu_forward",
    "gelu_gradient_in_place",
    "gelu_tanh_forward",
    "gelu_tanh_gradient_in_place",
    "group_norm_forward",
    "group_norm_gradient",
    "hardsigmoid_forward",
    "hardsigmoid_gradient_in_place",
    "hardswish_forward",
    "hardswish_gradient_in_place",
    "huber",
    "jitter_colors_in_place",
    "lamb_moments",
    "lamb_update",
    "leaky_relu_forward",
    "leaky_relu_gradient_in_place",
    "local_response_norm_forward",
    "local_response_norm_gradient",
    "max_pool_forward",
    "max_pool_gradient",
    "maxima_input_gradient",
    "maxima_weight_gradient",
    "mean_absolute_error",
    "mean_squared_error",
    "mix_in_place",
    "multiply",
    "multiply_adds",
    "normalize_bytes",
    "normalize_floats",
    "paste_boxes_in_place",
    "prelu_forward",
    "prelu_gradient_in_place",
    "relu6_forward",
    "relu6_gradient_in_place",
    "relu_forward",
    "relu_gradient_in_place",
    "rmsprop_update",
    "round_to_bytes",
    "scale_channels",
    "scale_in_place",
    "sgd_update",
    "sigmoid_focal",
    "sigmoid_forward",
    "sigmoid_gradient_in_place",
    "silu_forward",
    "silu_gradient_in_place",
    "softmax_forward",
    "softmax_gradient",
    "spatial_dropout_forward",
    "spatial_dropout_gradient_in_place",
    "sum_squares",
    "swap",
    "tanh_forward",
    "tanh_gradient_in_place",
    "triad",
    "up_sample_bilinear_forward",
    "up_sample_bilinear_gradient",
    "up_sample_nearest_forward",
    "up_sample_nearest_gradient",
    "warp_bilinear",
    "warp_nearest",
    "winograd_forward",
    "winograd_input_gradient",
    "winograd_weight_gradient",
]

# Launchers of kernels.cpu that have no twin here yet.
NOT_YET = frozenset({})
