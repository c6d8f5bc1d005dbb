"""Convolution on the GPU, one module per algorithm."""
