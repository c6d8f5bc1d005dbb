"""What the kernels are built on: ``numba.cuda``, its simulator, compilation, launches, and memory."""
