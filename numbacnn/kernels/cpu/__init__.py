"""The CPU's kernels: parallel ``@njit`` functions, and the launchers that call several of them."""

from numbacnn.kernels.cpu.batchnorm import batch_norm_forward, batch_norm_gradient, batch_norm_inference
from numbacnn.kernels.cpu.conv2d_direct import conv2d_forward, conv2d_input_gradient, conv2d_weight_gradient
from numbacnn.kernels.cpu.conv2d_maxima import maxima_input_gradient, maxima_weight_gradient
from numbacnn.kernels.cpu.conv2d_pooled import conv2d_pool_forward
from numbacnn.kernels.cpu.dense import dense_forward, dense_input_gradient, dense_weight_gradient
from numbacnn.kernels.cpu.dropout import (
    dropout_forward,
    dropout_gradient_in_place,
    spatial_dropout_forward,
    spatial_dropout_gradient_in_place,
)
from numbacnn.kernels.cpu.elementwise import (
    add_in_place,
    clear_halo,
    copy,
    normalize_bytes,
    normalize_floats,
    relu_forward,
    relu_gradient_in_place,
    sigmoid_forward,
    sigmoid_gradient_in_place,
    tanh_forward,
    tanh_gradient_in_place,
)
from numbacnn.kernels.cpu.groupnorm import group_norm_forward, group_norm_gradient
from numbacnn.kernels.cpu.local_response import local_response_norm_forward, local_response_norm_gradient
from numbacnn.kernels.cpu.losses import (
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
from numbacnn.kernels.cpu.penalties import add_penalty_in_place
from numbacnn.kernels.cpu.pool2d import (
    average_pool_forward,
    average_pool_gradient,
    max_pool_forward,
    max_pool_gradient,
)
from numbacnn.kernels.cpu.softmax import softmax_forward, softmax_gradient
from numbacnn.kernels.cpu.sums import bias_gradient
from numbacnn.kernels.cpu.update import adam_update, sgd_update

LAUNCHERS = (
    adam_update,
    add_in_place,
    add_penalty_in_place,
    average_pool_forward,
    average_pool_gradient,
    batch_norm_forward,
    batch_norm_gradient,
    batch_norm_inference,
    bias_gradient,
    binary_cross_entropy,
    clear_halo,
    conv2d_forward,
    conv2d_input_gradient,
    conv2d_pool_forward,
    conv2d_weight_gradient,
    copy,
    cross_entropy_labels,
    cross_entropy_probabilities,
    dense_forward,
    dense_input_gradient,
    dense_weight_gradient,
    dice,
    focal_labels,
    huber,
    dropout_forward,
    dropout_gradient_in_place,
    group_norm_forward,
    group_norm_gradient,
    local_response_norm_forward,
    local_response_norm_gradient,
    max_pool_forward,
    max_pool_gradient,
    maxima_input_gradient,
    maxima_weight_gradient,
    mean_absolute_error,
    mean_squared_error,
    normalize_bytes,
    normalize_floats,
    relu_forward,
    relu_gradient_in_place,
    sgd_update,
    sigmoid_focal,
    sigmoid_forward,
    sigmoid_gradient_in_place,
    softmax_forward,
    softmax_gradient,
    spatial_dropout_forward,
    spatial_dropout_gradient_in_place,
    tanh_forward,
    tanh_gradient_in_place,
)
