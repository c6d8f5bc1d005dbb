"""The one place that imports ``numba.cuda``: compiling, launching, memory, and the simulator."""
