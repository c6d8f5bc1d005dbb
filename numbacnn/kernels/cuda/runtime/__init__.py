"""The layer between kernels and ``numba.cuda``: the simulator, compilation, launches, and memory."""
