"""CUDA kernels for NVIDIA GPUs: the launchers of the CPU, with the same parameters and the same contract.

How to write one (``pool2d.py`` and ``softmax.py`` are good examples):

- A launcher ``name(outputs, inputs, geometry)`` is plain Python that computes grids and launches kernels, and does
  nothing else, so that its launches can be recorded, replayed, and captured in a CUDA graph. Kernels are declared with
  ``@cuda_kernel(types…)``, which compiles them at their first launch, and are launched by
  ``_kernel[blocks, threads](*arguments)``, or by ``recording.prepare(_kernel[…], …)`` if they read parameters only.
- Arrays are ``DeviceArray``: slices, ``reshape`` of contiguous arrays, ``rows()``. A kernel sees them as Numba arrays:
  ``float32_4d`` and ``float32_3d`` (rows N×H×(W·C)) of any strides, the others contiguous. Negative indices wrap
  around as in NumPy, so a kernel cannot reach a halo before a view by them: test the bounds instead.
- Import ``cuda`` from ``intrinsics``, never from Numba. Write one thread's work as a ``device_function``, and call
  ``MATHS.exp`` instead of ``math.exp``: the simulator has its own. ``scalar_function`` does both for formulas.
- Elementwise kernels are functions of numbers: in ``kernels.formulas``, for every device, or ``@element_kernel``.
  Kernels that read neighboring pixels are written ``in_lanes``: once, and compiled for one channel at a time and for
  four, which are loaded in 16 bytes if ``width_of`` finds them aligned.
- ``over(count)`` is the grid with one thread per item, ``cuda.grid(1)``; ``over_rows(x)`` is the grid of elementwise
  kernels, whose threads ask ``place`` for their elements. A kernel must be correct for any number of threads per block:
  the simulator has fewer (``jit.THREADS``). Divide and take remainders once per thread, not once per element.
- Sums use no atomics. A block adds its share in registers, in order, then by ``reduce.block_sum`` in a fixed tree. If
  one block is too few, the partial sums of a number of blocks that depends on the shape alone go to scratch, and a
  second kernel adds them in order. ``sizes.py`` has the shapes of scratch, under the names of ``cpu/sizes.py``.
- Matrix products go through ``gemm``, in the precision of the device. A kernel that needs newer hardware than the
  oldest supported declares ``least_capability``; a PTX instruction is an ``intrinsics.instruction``, with another form
  for the simulator.
- Constants are ``np.float32``: a Python float turns everything it meets into float64, which GPUs are slow at.
- Each launcher has rows in ``tests/cuda/twins.py``, which compare it with the CPU's, on a GPU or in the simulator.
"""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
