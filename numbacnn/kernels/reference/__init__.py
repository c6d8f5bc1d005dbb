"""The reference device: every launcher in NumPy and plain Python loops, written as its formula reads.

Set a breakpoint in any of these functions and step through the forward and backward pass of a whole network. They are
also the oracle that the tests compare the other devices with. They are slow, hundreds of times slower than the CPU's.

Arithmetic is float64 throughout; a result is rounded once, when it is stored in its buffer, whose type is the caller's:
float32 on the device, float64 in the tests. Functions allocate, read no halo, and need no scratch but what backward
reads again. They import no Numba. Overflow and invalid operations warn, as they do in NumPy, at the line where they
arise.
"""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
