"""Scratch that the CUDA kernels need: functions from geometry to shapes, which a plan calls before arrays exist."""

from numbacnn.kernels.cuda.conv.algorithms import CONV_ALGORITHMS as CONV_ALGORITHMS
from numbacnn.kernels.cuda.norm.channels import norm_coefficients_shape as norm_coefficients_shape
from numbacnn.kernels.cuda.norm.channels import norm_partial_shape as norm_partial_shape
from numbacnn.kernels.cuda.penalties import penalty_sums_shape as penalty_sums_shape
from numbacnn.kernels.cuda.sums import partial_bias_shape as partial_bias_shape

fuses = True  # plans compute several layers in one step if kernels can
SHARDS_AT_ONCE = 0  # kernels do not add shards


def _empty(*sizes: int) -> tuple[int, int, int, int]:
    """No scratch: weights are not packed on this device."""
    return (0, 1, 1, 1)


def separable(convolutions: object) -> None:
    """No algorithm: convolutions run one by one."""


dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _empty
