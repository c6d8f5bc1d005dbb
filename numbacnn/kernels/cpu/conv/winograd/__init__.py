"""Winograd convolution (Lavin & Gray 2016): transforms, kernels, and the algorithm."""
