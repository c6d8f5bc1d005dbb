"""Looking inside a model: activations, class gradients, and summaries."""
