"""Inspecting a model: activations, class gradients, and summaries."""
