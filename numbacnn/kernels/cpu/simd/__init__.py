"""SIMD vectors as values in Numba code: LLVM IR, loads and stores, and vectorized mathematics."""
