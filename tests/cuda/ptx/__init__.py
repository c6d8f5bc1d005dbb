"""Runs the CUDA kernels' PTX on a CPU: translated to C, thread by thread, with every access checked."""
