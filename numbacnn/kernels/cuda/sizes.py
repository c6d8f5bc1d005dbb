"""Scratch that the CUDA kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""

from numbacnn.kernels.cuda.penalties import penalty_sums_shape

__all__ = ["penalty_sums_shape"]
