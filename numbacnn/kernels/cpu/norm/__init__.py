"""Batch, group and local response normalization."""
