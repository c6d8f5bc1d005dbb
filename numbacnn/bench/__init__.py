"""Benchmarks of kernels, layers and models, against the machine's peaks and, paired in one process, other libraries.

``numbacnn bench`` and the programs in ``benchmarks/`` are built on it; ``benchmarks/README.md`` describes the method.
"""
