"""Convolution on the CPU, one module per algorithm."""
