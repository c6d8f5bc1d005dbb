"""Scratch that the CUDA kernels need, as functions from geometry to shapes: what a plan asks before arrays exist."""
