"""Scratch that the CUDA kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""

from numbacnn.kernels.cuda.conv.algorithms import CONV_ALGORITHMS
from numbacnn.kernels.cuda.norm.batch_norm import (
    batch_norm_gradient_shape,
    batch_norm_partial_gradient_shape,
    batch_norm_partial_shape,
    batch_norm_pattern_shape,
)
from numbacnn.kernels.cuda.norm.group_norm import (
    group_norm_gradient_shape,
    group_norm_partial_gradient_shape,
    group_norm_partial_shape,
    group_norm_pattern_shape,
)
from numbacnn.kernels.cuda.penalties import penalty_sums_shape
from numbacnn.kernels.cuda.sums import partial_bias_shape

fuses = True  # plans compute several layers in one step where kernels can

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


def _empty(*sizes: int) -> tuple[int, int, int, int]:
    """No scratch: on this device, weights are not packed."""
    return (0, 1, 1, 1)


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _empty
