"""The graph of layers, its plan, its memory, and the executor that runs it on a device."""
