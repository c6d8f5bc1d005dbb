"""The shapes of the scratch that CPU kernels need, as functions of geometry: a plan calls them before arrays exist."""

from numbacnn.kernels.cpu.conv.algorithms import CONV_ALGORITHMS as CONV_ALGORITHMS
from numbacnn.kernels.cpu.conv.separable import separable as separable
from numbacnn.kernels.cpu.dense import dense_packed_gradient_shape as dense_packed_gradient_shape
from numbacnn.kernels.cpu.dense import dense_packed_round_shape as dense_packed_round_shape
from numbacnn.kernels.cpu.dense import dense_packed_weights_shape as dense_packed_weights_shape
from numbacnn.kernels.cpu.norm.channels import norm_coefficients_shape as norm_coefficients_shape
from numbacnn.kernels.cpu.norm.channels import norm_partial_shape as norm_partial_shape
from numbacnn.kernels.cpu.penalties import penalty_sums_shape as penalty_sums_shape
from numbacnn.kernels.cpu.sums import SHARDS_AT_ONCE as SHARDS_AT_ONCE
from numbacnn.kernels.cpu.sums import partial_bias_shape as partial_bias_shape

fuses = True  # plans fuse layers whose kernels can compute them in one step
