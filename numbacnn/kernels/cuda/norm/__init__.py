"""Batch, group and local response normalization on the GPU."""
