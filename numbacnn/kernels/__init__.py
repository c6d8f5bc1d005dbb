"""The kernel contract, which holds on every device.

- Arguments: outputs, inputs, geometry. Activations are N×H×W×C float32 views whose rows of W·C floats are contiguous;
  features (n, c) are N×1×1×C. Where a kernel reads a halo, it lies around the view, in the same memory.
- A kernel overwrites its outputs; where gradients meet at a fork, the executor adds. A kernel that works in place says
  so in its name. Otherwise outputs and inputs never overlap.
- No allocation, no validation, no printing, no exception inside a kernel: all is checked in Python before the first
  launch, and scratch is passed in.
- One parallel loop per kernel function; its docstring says which thread owns which outputs.
- The same bits on any number of threads: work is cut by the problem's shape, partial sums lie in a fixed number of
  groups and are added in a fixed order; no atomics.
- One parallel region at a time in the process: callers hold ``device.PROCESS_LOCK``.

Each device's package registers its launchers by ``@launcher`` (``registry``); every device has the same ones, with the
same parameters.
"""
