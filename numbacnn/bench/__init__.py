"""Measuring: kernels, layers and whole models, against the machine's roofs and, paired in one run, against peers.

``numbacnn bench`` and the programs of ``benchmarks/`` are made of it; ``benchmarks/README.md`` has the method.
"""
