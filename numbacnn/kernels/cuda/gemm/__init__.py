"""Matrix products on the GPU: on CUDA cores and on tensor cores."""
