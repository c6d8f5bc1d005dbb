"""Scratch that the CPU's kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""

from numbacnn.kernels.cpu.conv.conv2d import (
    columns_shape,
    packed_gradient_shape,
    packed_weights_shape,
    partial_weights_shape,
)
from numbacnn.kernels.cpu.conv.pool_backward.input_gradient import maxima_image_shape, maxima_packed_shape
from numbacnn.kernels.cpu.conv.pool_backward.weight_gradient import (
    maxima_apply,
    maxima_partial_shape,
    maxima_places_shape,
)
from numbacnn.kernels.cpu.conv.pooled import pool_fuses
from numbacnn.kernels.cpu.conv.winograd.winograd import winograd_filtering, winograd_gradient_shapes, winograd_shapes
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

fuses = True  # plans compute several layers in one step where kernels can

__all__ = [
    "batch_norm_gradient_shape",
    "batch_norm_partial_gradient_shape",
    "batch_norm_partial_shape",
    "batch_norm_pattern_shape",
    "columns_shape",
    "dense_packed_gradient_shape",
    "dense_packed_round_shape",
    "dense_packed_weights_shape",
    "fuses",
    "group_norm_gradient_shape",
    "group_norm_partial_gradient_shape",
    "group_norm_partial_shape",
    "group_norm_pattern_shape",
    "maxima_apply",
    "maxima_image_shape",
    "maxima_packed_shape",
    "maxima_partial_shape",
    "maxima_places_shape",
    "packed_gradient_shape",
    "packed_weights_shape",
    "partial_bias_shape",
    "partial_weights_shape",
    "penalty_sums_shape",
    "pool_fuses",
    "winograd_filtering",
    "winograd_gradient_shapes",
    "winograd_shapes",
]
