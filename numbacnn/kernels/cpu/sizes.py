"""The shapes of the scratch that CPU kernels need, as functions of geometry: a plan calls them before arrays exist."""

from numbacnn.kernels.cpu.conv.algorithms import CONV_ALGORITHMS
from numbacnn.kernels.cpu.dense import dense_packed_gradient_shape, dense_packed_round_shape, dense_packed_weights_shape
from numbacnn.kernels.cpu.norm.batch_norm import (
    batch_norm_gradient_shape,
    batch_norm_partial_gradient_shape,
    batch_norm_partial_shape,
    batch_norm_pattern_shape,
)
from numbacnn.kernels.cpu.norm.group_norm import (
    group_norm_gradient_shape,
    group_norm_partial_gradient_shape,
    group_norm_partial_shape,
    group_norm_pattern_shape,
)
from numbacnn.kernels.cpu.penalties import penalty_sums_shape
from numbacnn.kernels.cpu.sums import partial_bias_shape

fuses = True  # plans fuse layers whose kernels can compute them in one step

__all__ = [
    "CONV_ALGORITHMS",
    "batch_norm_gradient_shape",
    "batch_norm_partial_gradient_shape",
    "batch_norm_partial_shape",
    "batch_norm_pattern_shape",
    "dense_packed_gradient_shape",
    "dense_packed_round_shape",
    "dense_packed_weights_shape",
    "fuses",
    "group_norm_gradient_shape",
    "group_norm_partial_gradient_shape",
    "group_norm_partial_shape",
    "group_norm_pattern_shape",
    "partial_bias_shape",
    "penalty_sums_shape",
]
