"""The kernel contract, which holds on every device.

- Arguments: outputs, inputs, geometry. Activations are N×H×W×C float32 views whose rows of W·C floats are contiguous;
  features (n, c) are N×1×1×C. If a kernel reads a halo, the view is surrounded by it in memory.
- A kernel overwrites its outputs; the executor adds the gradients of a value with several consumers. A kernel that
  works in place says so in its name. Otherwise outputs and inputs never overlap.
- No allocation, no validation, no printing, no exception inside a kernel: arguments are checked in Python before the
  first launch, and scratch is passed in.
- One parallel loop per kernel function; its docstring says which thread owns which outputs.
- The same bits on any number of threads: the shape of the problem decides how work is divided, there is a fixed number
  of partial sums, which are added in a fixed order, and there are no atomics.
- One parallel region at a time in the process: callers hold ``device.PROCESS_LOCK``.

Each device's package registers its launchers by ``@launcher`` (``registry``). Every device has the same launchers with
the same parameters.
"""
