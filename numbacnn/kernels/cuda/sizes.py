"""Scratch that the CUDA kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""

from numbacnn.kernels.cuda.batchnorm import (
    batch_norm_gradient_shape,
    batch_norm_partial_gradient_shape,
    batch_norm_partial_shape,
    batch_norm_pattern_shape,
)
from numbacnn.kernels.cuda.groupnorm import (
    group_norm_gradient_shape,
    group_norm_partial_gradient_shape,
    group_norm_partial_shape,
    group_norm_pattern_shape,
)
from numbacnn.kernels.cuda.penalties import penalty_sums_shape

__all__ = [
    "batch_norm_gradient_shape",
    "batch_norm_partial_gradient_shape",
    "batch_norm_partial_shape",
    "batch_norm_pattern_shape",
    "group_norm_gradient_shape",
    "group_norm_partial_gradient_shape",
    "group_norm_partial_shape",
    "group_norm_pattern_shape",
    "penalty_sums_shape",
]
