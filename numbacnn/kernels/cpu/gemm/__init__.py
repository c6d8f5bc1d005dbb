"""The GEMM microkernel, the parallel loops around it, and packing."""
