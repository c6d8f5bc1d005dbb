"""The twins of the CPU's kernels for NVIDIA GPUs: the same launchers, with the same parameters and the same contract.

How a twin is written (``elementwise.py``, ``pool2d.py`` and ``softmax.py`` are the patterns):

- ``name(outputs, inputs, geometry)`` is plain Python that computes grids and launches kernels, nothing else, so that a
  recording of its launches can be replayed, and captured as a graph. Kernels, ``@cuda_kernel(types…)``, have names of
  their own and are launched by ``_kernel[blocks, threads](*arguments)``, or by ``recording.prepare(_kernel[…], …)``
  where they read parameters alone. Each compiles at its first launch, for the types that the decorator names.
- Arrays are ``DeviceArray``: slices, ``reshape`` of contiguous ones, ``rows()``. A kernel takes them as Numba arrays:
  ``float32_4d`` and ``float32_3d`` (rows N×H×(W·C)) of any strides, the others contiguous. Indices that are negative
  wrap around as in NumPy, so what lies in a halo before a view is not reached by them: test the bounds instead.
- ``cuda`` comes from ``shim``, never from Numba. One thread's work as its own function is a ``device_function``; maths
  of ``kernels.scalar`` goes through ``scalar_function``, a plain ``math.exp`` in a kernel is written ``MATHS.exp``,
  since the simulator has its own.
- What is done element by element is a function of numbers, ``@element_kernel``: see ``elements``. What reads pixels
  around others is written ``in_lanes``, for four channels at a time by loads of 16 bytes where ``width_of`` says that
  they lie so, and for one: see ``lanes``.
- ``over(count)`` is the grid for one thread to each item, which is ``cuda.grid(1)``; ``over_rows(x)`` that of
  elementwise work, whose threads ask ``place`` what is theirs. A kernel must be right for any number of threads in a
  block: the simulator has fewer (``jit.THREADS``). Divide and take remainders once for a thread, not for an element.
- Sums: no atomics. A block adds up its share in registers, in order, then by ``reduce.block_sum`` in a fixed tree;
  where one block would be too few, the shares of a number of blocks that the shape alone decides lie in scratch, and a
  second kernel adds them in order. Scratch shapes stand in ``sizes.py``, under the names of ``cpu/sizes.py``.
- Products go through ``product.launch_product``, which takes the precision that the device launches in; what needs
  newer hardware than the oldest says so by ``least_capability``, and a PTX instruction is a ``shim.instruction``, with
  its own form for the simulator.
- Constants are ``np.float32``: a Python float makes float64 of all it meets, which GPUs are slow at.
- Every launcher has rows in ``tests/cuda/twins.py``, which compare it with its twin on the CPU, on a GPU or in the
  simulator.
"""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
