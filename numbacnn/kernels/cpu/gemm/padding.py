"""Numbers of channels, rounded up to whole vectors or panels.

Kernels call the compiled forms. Whether an algorithm is chosen, and the order of its sums, must not depend on the
processor's vectors: for them channels are rounded to the longest ones.
"""

from numbacnn.kernels.cpu.gemm.gemm import NR
from numbacnn.kernels.cpu.simd.vector import WIDTH
from numbacnn.kernels.jit import inlined

LONGEST_VECTOR = 16  # floats
LONGEST_PANEL = 2 * LONGEST_VECTOR


def in_vectors(channels):
    """Channels in whole vectors."""
    return -(-channels // WIDTH) * WIDTH


def in_panels(channels):
    """Channels in whole panels."""
    return -(-channels // NR) * NR


def in_longest_vectors(channels):
    """Channels in whole vectors of the longest kind."""
    return -(-channels // LONGEST_VECTOR) * LONGEST_VECTOR


def in_longest_panels(channels):
    """Channels in whole panels of the longest vectors."""
    return -(-channels // LONGEST_PANEL) * LONGEST_PANEL


compiled_in_vectors, compiled_in_panels = inlined(in_vectors), inlined(in_panels)
