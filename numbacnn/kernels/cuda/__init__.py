"""CUDA kernels for NVIDIA GPUs: the launchers of the CPU, with the same parameters and the same contract.

How to write one (``pool2d.py`` and ``softmax.py`` are good examples):

- A launcher ``name(outputs, inputs, geometry)`` is plain Python that computes grids and launches kernels, and does
  nothing else, so that its launches can be recorded, replayed, and captured in a CUDA graph. Kernels are declared with
  ``@cuda_kernel(types…)``, which compiles them at their first launch, and are launched by
  ``_kernel[blocks, threads](*arguments)``, or by ``recording.prepare(_kernel[…], …)`` if they read only parameters.
- Arrays are ``DeviceArray``: slices, ``reshape`` of contiguous arrays, ``rows()``. A kernel sees them as Numba arrays:
  ``float32_4d`` and ``float32_3d`` (rows N×H×(W·C)) with any strides, the others contiguous. Negative indices wrap
  around as in NumPy, so they cannot reach a halo before a view: test the bounds instead.
- Import ``cuda`` from ``intrinsics``, never from Numba. Write the work of one thread as a ``device_function``, with at
  most eight parameters: a NamedTuple is passed by value. Call ``device_math.exp`` instead of ``math.exp``, since the
  simulator has its own. ``scalar_function`` does both for formulas.
- Elementwise kernels are scalar functions: in ``kernels.formulas``, for every device, or ``@element_kernel``. Kernels
  that read neighboring pixels are ``@pixel_kernel``: written once, and compiled for one channel at a time and for four,
  which are loaded in one 16-byte instruction if the arrays are aligned.
- ``over(count)`` is the grid with one thread per item, ``cuda.grid(1)``. ``over_rows(x)`` is the grid of elementwise
  kernels, whose threads run a grid-stride loop from ``row_loop``. A kernel must be correct for any number of threads
  per block: the simulator has fewer (``jit.THREADS``). Divide and take remainders once per thread, not per element.
- Sums use no atomics. Threads sum in registers, in order; a block adds their sums with ``reduce.block_sum``, in a fixed
  tree. If one block is too few, partial sums go to scratch, as many as the shape alone decides, and a second kernel
  adds them in order. ``sizes.py`` has the shapes of scratch, under the names of ``cpu/sizes.py``.
- Matrix products are a ``gemm.multiply``, in the precision of the device. A kernel that needs newer hardware than the
  oldest supported declares ``min_capability``; a PTX instruction is an ``intrinsics.instruction``, with another form
  for the simulator.
- Constants are ``np.float32``: a Python float promotes every expression to float64, which is slow on GPUs.
- Each launcher has rows in ``tests/twins.py``, which compare it with the CPU's, on a GPU or in the simulator.
"""

from numbacnn.kernels.registry import load_launchers

launchers = load_launchers(__name__)
