"""Scratch that the CUDA kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""

from typing import Any, NamedTuple

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cuda.conv.implicit_gemm import partial_weights_shape
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

NOTHING = (0, 1, 1, 1)


def _nothing(*sizes: Any) -> tuple[int, int, int, int]:
    """Scratch of algorithms that only the CPU has."""
    return NOTHING


packed_weights_shape = packed_gradient_shape = columns_shape = _nothing
dense_packed_weights_shape = dense_packed_round_shape = dense_packed_gradient_shape = _nothing
maxima_image_shape = maxima_packed_shape = maxima_partial_shape = maxima_places_shape = _nothing


def pool_fuses(g: ConvGeometry, pool: PoolGeometry) -> bool:
    """Whether a convolution takes the maxima of its own output: no, see ``conv2d_pooled``."""
    return False


def maxima_apply(g: ConvGeometry, pool: PoolGeometry) -> bool:
    """Whether its gradients come from the maxima: no."""
    return False


class Filtering(NamedTuple):
    """What a plan reads of Winograd's algorithm: tiles of m×m outputs."""

    m: int


def winograd_filtering(g: ConvGeometry, algorithm: str) -> Filtering | None:
    """The tiles where Winograd's algorithm is asked for, else None."""
    return Filtering(int(algorithm.removeprefix("winograd"))) if algorithm.startswith("winograd") else None


def winograd_shapes(*sizes: Any) -> tuple[tuple[int, int, int, int], ...]:
    """Its scratch: none, see ``winograd``."""
    return (NOTHING,) * 3


def winograd_gradient_shapes(g: ConvGeometry, images: int, f: Filtering) -> tuple[tuple[int, ...], ...]:
    """Its scratch for the gradient of the weights: that of the direct product."""
    return partial_weights_shape(g, images), NOTHING, NOTHING
